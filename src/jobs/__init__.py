"""Jobs: tables that are too large to be answered at once, answered by a worker process of its own."""
