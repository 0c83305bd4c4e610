"""The registry: artifacts, their names, and the stores that keep them."""
