"""Several optimizers, each for a part of a network."""
