"""Fair comparisons of optimizers: tasks, training, sweeps, reports."""
