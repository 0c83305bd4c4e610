"""Tasks: the kinds of prediction, one module for each."""
