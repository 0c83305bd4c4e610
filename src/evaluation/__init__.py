"""Evaluation: how good a model is, how sure that is, and whether it is good enough."""
