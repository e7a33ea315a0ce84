"""Carry out a study: worker processes, Dask, stopping, progress, status."""
