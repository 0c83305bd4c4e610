"""Declarations: what a use case is, checks that it can work, and which use cases there are."""
