"""Tasks: built-in and own, their data sets, networks and downloads."""
