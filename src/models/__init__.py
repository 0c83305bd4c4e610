"""Models: what is fitted on a matrix and predicts from it."""
