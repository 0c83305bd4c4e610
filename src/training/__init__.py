"""Training's steps: read and split, fit, measure, judge and save; `run_training` puts them in order."""
