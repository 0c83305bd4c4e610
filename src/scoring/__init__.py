"""Scoring: the rows of files, buckets and databases, answered offline by one model."""
