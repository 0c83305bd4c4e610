"""The decision log: what was decided, about what, by which model, and what came of it."""
