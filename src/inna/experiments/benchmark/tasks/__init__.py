"""The tasks of the benchmark, on data that come with the packages."""
