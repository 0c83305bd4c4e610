"""Columns: what a table may hold, and what is computed from it."""
