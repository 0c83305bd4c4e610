"""The use cases: each module in this folder declares one, called `USE_CASE`."""
