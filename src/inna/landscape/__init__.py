"""Optimizers on surfaces over the plane: their paths, loss and energy, as figures and as a page to play with."""
