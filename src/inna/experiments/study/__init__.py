"""Studies: the optimizers, how each is tuned, what remains to be run."""
