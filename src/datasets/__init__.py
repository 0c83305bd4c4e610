"""The data files that ship with the use cases, and the reader of such files."""
