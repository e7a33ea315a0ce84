"""The page of a benchmark, its figures, tables and sentences."""
