"""Tables: reading files into records, and writing records to files."""
