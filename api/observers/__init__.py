"""What looks at requests and their answers when the settings ask for it: a log of accesses, and traces."""
