"""The benchmark: `python -m benchmarks.run`, see RESULTS.md for what it measures."""
