"""Several tasks, one verdict: where an optimizer stands on a suite."""
