"""Commands that work on folders of results."""
