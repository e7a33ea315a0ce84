"""One run, from `Run` to its row."""
