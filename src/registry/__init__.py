"""The registry: artifacts, their names and where they are kept."""
