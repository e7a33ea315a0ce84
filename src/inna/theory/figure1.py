"""Figure 1 of the paper: INNA on the V-shaped Rosenbrock function.

The published curves do not match the settings in the figure's caption. They match (alpha, beta) = (0.3, 0.01),
(0.3, 0.1), (1.3, 0.1) and the initial velocity -0.1 grad J(theta_0): every published dip of the loss is met within
`DIP_TOLERANCE` of 88,000 iterations. The caption has alpha = 0.5 in the first two panels, and section 5.2.1 an initial
velocity of -grad J(theta_0).

Source: Castera, Bolte, Févotte, Pauwels, JMLR 22(134), 2021, section 5.1. The recovered settings are a fit to the
published curves.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inna.dynamics import initial_momentum, step
from inna.theory.objectives import ROSENBROCK_V

__all__ = [
    "CAPTION",
    "DIP_TOLERANCE",
    "FURTHER_DIPS",
    "ITERATIONS",
    "LR",
    "PAPER_DIPS",
    "RECOVERED",
    "START",
    "Curve",
    "DipComparison",
    "compare_dips",
    "curves",
    "dips",
    "iterates",
]

ITERATIONS = 88_000
"""The number of iterations that the figure shows."""
LR = 1e-4
"""Its constant learning rate gamma."""
START = (-1.0, 1.5)
"""Its starting point theta_0."""


class Curve(NamedTuple):
    """A curve of the figure: its panel, the origin of its settings, and the settings."""

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
PAPER_DIPS = {"a": (45_089, 73_185), "b": (45_380, 70_609, 87_212), "c": (71_660,)}
"""By panel, the iterations at which the published log10 J dips, digitised from the paper's vector graphics."""
DIP_TOLERANCE = 12
"""The largest distance in iterations between a published dip and the one computed with the recovered settings."""
FURTHER_DIPS = {"c": (80_991, 87_667)}
"""By panel, computed dips after the last digitised one; no published position is known for them."""
# At a dip theta_1 crosses the kink at 1, and J falls by at least this factor within this many iterations.
DIP_FACTOR = 20.0
DIP_REACH = 1000


class DipComparison(NamedTuple):
    """The dips of one panel beside the published ones.

    Attributes:
        nearest: the computed dip nearest to each published one.
        further: the other computed dips.
        distance: the largest distance in iterations between a published dip and the nearest computed one; infinite
            where no dip was computed.
    """

    nearest: tuple[int, ...]
    further: tuple[int, ...]
    distance: float

    @property
    def agrees(self) -> bool:
        """Return whether each published dip has its own computed one nearby.

        Nearby is within `DIP_TOLERANCE`.
        """
        return self.distance <= DIP_TOLERANCE and len(set(self.nearest)) == len(self.nearest)


def curves() -> tuple[Curve, ...]:
    """Return the recovered curves, then the caption's.

    This is the order of the second axis of `iterates`.
    """
    return RECOVERED + CAPTION


@functools.cache
def iterates() -> NDArray[np.float64]:
    """Return the iterates of all `curves`, of shape (ITERATIONS + 1, 6, 2).

    The first call takes a few seconds; the result is cached.
    """
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
    """Iterations at which the loss along ``path`` dips, ascending.

    The loss falls sharply where theta_1 crosses the kink at 1. Crossings less than `DIP_REACH` iterations apart make
    one dip, at the lowest loss from `DIP_REACH` iterations before the first crossing to as many after the last.

    Args:
        path: iterates of one curve, of shape (K, 2).

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


def compare_dips(computed: Sequence[int], published: Sequence[int]) -> DipComparison:
    """Match each published dip with the nearest computed one.

    >>> compare_dips([45077, 73174], PAPER_DIPS["a"])
    DipComparison(nearest=(45077, 73174), further=(), distance=12)
    """
    if not computed:
        return DipComparison((), (), math.inf)
    nearest = tuple(min(computed, key=lambda dip: abs(dip - target)) for target in published)
    distance = max(abs(dip - target) for dip, target in zip(nearest, published, strict=True))
    return DipComparison(nearest, tuple(dip for dip in computed if dip not in nearest), distance)
