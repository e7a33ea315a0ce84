"""Optimizers on surfaces over the plane.

Their paths, loss and energy, as figures and as a page to play with.
"""
