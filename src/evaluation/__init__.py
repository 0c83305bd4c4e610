"""Evaluation: how good a model is, how certain that is, and whether it is good enough."""
