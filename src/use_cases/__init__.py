"""The use cases: each module in this folder declares one as its `USE_CASE`."""
