"""Figure 1 of the paper: INNA on the V-shaped Rosenbrock function, as its curves show it and as its caption says.

The curves do not match the caption. They match (alpha, beta) = (0.3, 0.01), (0.3, 0.1), (1.3, 0.1) and the initial
velocity -0.1 grad J(theta_0), to a dozen of 88,000 iterations; the caption says alpha = 0.5 in the first two panels,
and section 5.2.1 an initial velocity of -grad J(theta_0).

Source: Castera, Bolte, Févotte, Pauwels, JMLR 22(134), 2021, section 5.1; the recovered settings are a fit to the
published curves.
"""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inna.dynamics import initial_momentum, step
from inna.theory.objectives import ROSENBROCK_V

__all__ = [
    "CAPTION",
    "ITERATIONS",
    "LR",
    "PAPER_DIPS",
    "RECOVERED",
    "START",
    "Curve",
    "curves",
    "dips",
    "iterates",
]

ITERATIONS = 88_000
"""How many iterations the figure shows."""
LR = 1e-4
"""Its constant step size gamma."""
START = (-1.0, 1.5)
"""Its theta_0."""


class Curve(NamedTuple):
    """A curve of the figure: its panel, where its settings come from, and the settings."""

    panel: Literal["a", "b", "c"]
    origin: Literal["recovered", "caption"]
    alpha: float
    beta: float
    initial_speed: float


RECOVERED = (
    Curve("a", "recovered", 0.3, 0.01, 0.1),
    Curve("b", "recovered", 0.3, 0.1, 0.1),
    Curve("c", "recovered", 1.3, 0.1, 0.1),
)
"""The settings that give the published curves."""
CAPTION = (
    Curve("a", "caption", 0.5, 0.01, 1.0),
    Curve("b", "caption", 0.5, 0.1, 1.0),
    Curve("c", "caption", 1.3, 0.1, 1.0),
)
"""The settings that the caption and section 5.2.1 name."""
PAPER_DIPS = {"a": (45077, 73174), "b": (45368, 70598, 87202), "c": (71649,)}
"""By panel, where log10 J dips with the recovered settings: 10 to 12 iterations before the published curves do."""
# A dip is where theta_1 crosses the kink at 1: J falls by this factor at least within so many iterations.
DIP_FACTOR = 20.0
DIP_REACH = 1000


def curves() -> tuple[Curve, ...]:
    """All curves, in the order of the last axis but one of `iterates`: the recovered ones, then the caption's."""
    return RECOVERED + CAPTION


@functools.cache
def iterates() -> NDArray[np.float64]:
    """(ITERATIONS + 1, 6, 2): the iterates of `curves`, by `inna.dynamics.step`. Takes a few seconds, once."""
    settings = [(curve.alpha, curve.beta, curve.initial_speed) for curve in curves()]
    alpha, beta, speed = np.array(settings).T[:, :, None]
    path = np.empty((ITERATIONS + 1, len(settings), 2))
    theta = np.tile(START, (len(settings), 1))
    momentum = initial_momentum(ROSENBROCK_V.gradient(theta), beta, initial_speed=speed)
    for k in range(len(path)):
        path[k] = theta
        theta, momentum = step(theta, momentum, ROSENBROCK_V.gradient(theta), LR, alpha, beta)
    path.setflags(write=False)
    return path


def dips(path: NDArray[np.float64]) -> list[int]:
    """The iterations at which the loss along ``path`` dips, ascending.

    Where theta_1 crosses the kink at 1 the loss falls sharply. Crossings less than `DIP_REACH` iterations apart make
    one dip, at the least loss from `DIP_REACH` before the first to as many after the last.

    Args:
        path: (K, 2), the iterates of one curve.

    >>> dips(iterates()[:, 0])
    [45077, 73174]
    """
    losses = ROSENBROCK_V.value(path)
    side = np.sign(path[:, 0] - 1)
    crossings = np.flatnonzero(side[1:] * side[:-1] <= 0)
    found = []
    for group in np.split(crossings, 1 + np.flatnonzero(np.diff(crossings) >= DIP_REACH)):
        if group.size:
            window = slice(max(0, group[0] - DIP_REACH), group[-1] + DIP_REACH)
            lowest = int(window.start + np.argmin(losses[window]))
            if losses[lowest] * DIP_FACTOR < losses[window].max():
                found.append(lowest)
    return found
