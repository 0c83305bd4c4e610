"""Tabserve: train a model on a table and serve its predictions."""

__version__ = "1.0.0"
