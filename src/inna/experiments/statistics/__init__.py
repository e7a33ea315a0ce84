"""Statistics over seeds, and a results folder read as a summary."""
