"""Rates at which the energy falls: predictions, and fits to runs.

If dist(0, dE) >= c (E - E*)^a near the limit, then along the flow (proof of the paper's Theorem 11)

    0 < a <= 1/2:  E - E* = O(exp(-rate t))        1/2 < a < 1:  E - E* = O(t^(1/(1 - 2a)))

|t|^c has the exponent a = 1 - 1/c at 0, and E = 2 (1 + alpha beta) J + |m|² the larger of that and 1/2. Where no
exponent is known, Theorem 13 gives J(theta(t)) - J* = O(1/t) for semi-algebraic J.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range

__all__ = ["Decay", "fit_decay", "fit_exponential", "fit_power", "kl_exponent", "largest_product", "predicted_power"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Decay:
    """A law fitted to E - E*.

    Attributes:
        kind: "exponential": exp(intercept + rate t), or "power": exp(intercept) t^rate.
        rate: negative where E falls; per unit of time, or the power.
        intercept: the natural logarithm of the law's constant.
        residual: the root mean square of log(E - E*) minus the law's.
    """

    kind: Literal["exponential", "power"]
    rate: float
    intercept: float
    residual: float


def kl_exponent(power: float) -> float:
    """Return the Kurdyka-Lojasiewicz exponent of E for J = |t|^power.

    It is max(1/2, 1 - 1/power).

    Args:
        power: > 1.

    Raises:
        ValueError: power is not > 1.

    >>> kl_exponent(4.0)
    0.75
    """
    return max(0.5, 1 - 1 / check_range("power", power, minimum=1.0, exclusive=True))


def predicted_power(exponent: float) -> float:
    """Return the power p of E - E* = O(t^p).

    It is 1/(1 - 2a) for a > 1/2, and -inf (exponential decay) up to 1/2.

    Args:
        exponent: a, in (0, 1).

    Raises:
        ValueError: the exponent is outside (0, 1).

    >>> predicted_power(0.75)
    -2.0
    >>> predicted_power(0.5)
    -inf
    """
    a = check_range("exponent", exponent, minimum=0.0, exclusive=True, below=1.0)
    return 1 / (1 - 2 * a) if a > 0.5 else -math.inf


def fit_power(t: ArrayLike, excess: ArrayLike, *, last: float = 10.0) -> Decay:
    """Fit a line to log(E - E*) over log t by least squares.

    Times from t_end/last to t_end are used.

    Points are weighted as if they were spread evenly over log t, whatever the solver's steps.

    Args:
        t: (T,), increasing times > 0 (or a first one of 0).
        excess: (T,), E - E* > 0 in the fitted range.
        last: > 1; 10 fits over the last decade.

    Raises:
        ValueError: shapes differ, times do not increase, fewer than three points are in the range, or one is not > 0.

    >>> t = np.logspace(0, 3, 100)
    >>> round(fit_power(t, 5 * t**-1.5).rate, 12)
    -1.5
    """
    times, heights = _tail(t, excess, last)
    return _line("power", np.log(times), np.log(heights))


def fit_exponential(t: ArrayLike, excess: ArrayLike, *, last: float = 10.0) -> Decay:
    """Fit a line to log(E - E*) over t by least squares.

    Times from t_end/last to t_end are used.

    Args:
        t: as for `fit_power`.
        excess: as for `fit_power`.
        last: as for `fit_power`.

    Raises:
        ValueError: as for `fit_power`.

    >>> t = np.linspace(0, 30, 100)
    >>> round(fit_exponential(t, 5 * np.exp(-0.25 * t)).rate, 12)
    -0.25
    """
    times, heights = _tail(t, excess, last)
    return _line("exponential", times, np.log(heights))


def fit_decay(t: ArrayLike, excess: ArrayLike, *, last: float = 10.0) -> Decay:
    """Return the better of `fit_power` and `fit_exponential`.

    The better fit has the smaller residual.

    Args:
        t: as for `fit_power`.
        excess: as for `fit_power`.
        last: as for `fit_power`.

    Raises:
        ValueError: as for `fit_power`.

    >>> t = np.linspace(1, 30, 100)
    >>> fit_decay(t, np.exp(-t)).kind, fit_decay(t, 1 / t).kind
    ('exponential', 'power')
    """
    fits = fit_exponential(t, excess, last=last), fit_power(t, excess, last=last)
    return min(fits, key=lambda fit: fit.residual)


def largest_product(t: ArrayLike, excess: ArrayLike, *, last: float = 10.0) -> tuple[float, float]:
    """Return the largest t (J - J*) before t_end/last and from there on.

    If J - J* = O(1/t), the second does not exceed the first.

    Args:
        t: (T,), increasing times >= 0.
        excess: (T,), J(theta(t)) - J* >= 0.
        last: > 1.

    Raises:
        ValueError: shapes differ, times do not increase, or a part is empty.

    >>> t = np.logspace(0, 2, 5)
    >>> largest_product(t, t**-2.0)
    (1.0, 0.1)
    """
    times, heights = _series(t, excess)
    late = times >= times[-1] / check_range("last", last, minimum=1.0, exclusive=True)
    if np.all(late):
        raise ValueError(f"t must begin before t_end/last = {times[-1] / last:g}, got {times[0]:g}")
    product = times * heights
    return float(np.max(product[~late])), float(np.max(product[late]))


def _series(t: ArrayLike, excess: ArrayLike) -> tuple[Floats, Floats]:
    times, heights = np.asarray(t, dtype=float), np.asarray(excess, dtype=float)
    if times.ndim != 1 or times.shape != heights.shape or times.size == 0:
        raise ValueError(f"t and excess must be vectors of one length, got shapes {times.shape} and {heights.shape}")
    if not np.all(np.isfinite(times)) or times[0] < 0 or np.any(np.diff(times) <= 0):
        raise ValueError("t must be finite, >= 0 and increasing")
    return times, heights


def _tail(t: ArrayLike, excess: ArrayLike, last: float) -> tuple[Floats, Floats]:
    times, heights = _series(t, excess)
    kept = (times >= times[-1] / check_range("last", last, minimum=1.0, exclusive=True)) & (times > 0)
    times, heights = times[kept], heights[kept]
    if times.size < 3:
        raise ValueError(f"at least 3 times must be in the fitted range, got {times.size}")
    if not np.all((heights > 0) & np.isfinite(heights)):
        raise ValueError("excess must be finite and > 0 in the fitted range; was the right limit subtracted?")
    return times, heights


def _line(kind: Literal["exponential", "power"], x: Floats, y: Floats) -> Decay:
    # A point stands for half the gaps to its neighbours (the trapezoidal rule), so dense stretches do not dominate.
    gaps = np.diff(x)
    weights = np.zeros_like(x)
    weights[:-1] += gaps / 2
    weights[1:] += gaps / 2
    weights /= weights.sum()
    mean_x, mean_y = weights @ x, weights @ y
    rate = float(weights @ ((x - mean_x) * (y - mean_y)) / (weights @ (x - mean_x) ** 2))
    intercept = float(mean_y - rate * mean_x)
    return Decay(kind, rate, intercept, float(np.sqrt(weights @ (y - intercept - rate * x) ** 2)))
