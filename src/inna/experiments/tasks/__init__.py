"""Tasks: data sets, networks, loading, fingerprints."""
