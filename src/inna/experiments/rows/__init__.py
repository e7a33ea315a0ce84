"""Runs, their results, and the files they are kept in."""
