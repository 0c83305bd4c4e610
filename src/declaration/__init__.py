"""Declarations: what a use case is, whether it can work, and which there are."""
