"""Tables: how files become records, and records files."""
