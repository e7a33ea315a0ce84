"""Means, spreads and paired differences with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

__all__ = [
    "CONFIDENCE",
    "Difference",
    "Spread",
    "false_alarm_rate",
    "paired_difference",
    "spread",
]


# The level of every interval.
CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Mean, best and worst of ``n`` values, one per seed."""

    mean: float
    best: float
    worst: float
    n: int


class Difference(NamedTuple):
    """Mean of ``n`` paired differences and its confidence interval, which is None if n < 2."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def significant(self) -> bool:
        """Whether the interval exists and does not contain zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def spread(values: Iterable[float], goal: Literal["max", "min"]) -> Spread | None:
    """Return mean, best and worst of ``values``; None if there are none.

    Args:
        values: finite numbers, one per seed.
        goal: which direction is good.

    >>> spread([3.0, 1.0, 2.0], "min")
    Spread(mean=2.0, best=1.0, worst=3.0, n=3)
    """
    numbers = sorted(values, reverse=goal == "max")
    if not numbers:
        return None
    mean = math.fsum(numbers) / len(numbers)
    # A mean is never outside its own values, although its rounding may be.
    return Spread(min(max(mean, min(numbers)), max(numbers)), numbers[0], numbers[-1], len(numbers))


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = CONFIDENCE
) -> Difference | None:
    """Return the mean difference over the seeds that both have, with Student's t interval.

    With n pairs, differences d_s = values_s - reference_s over seeds s, their mean d and their standard deviation sd
    (n - 1 in its denominator), the interval is

        d ± t sd/√n,    t the (1 + confidence)/2 quantile of Student's distribution with n - 1 degrees of freedom.

    It assumes that the differences are independent draws of one normal distribution.

    Args:
        values, reference: seed -> finite number.
        confidence: in (0, 1).

    Returns:
        None without a common seed; with one, a difference without an interval.

    Raises:
        ValueError: confidence is not in (0, 1).

    >>> paired_difference({1: 2.0}, {1: 0.5, 2: 9.0})
    Difference(mean=1.5, low=None, high=None, n=1)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    differences = [values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())]
    n = len(differences)
    if n == 0:
        return None
    mean = math.fsum(differences) / n
    if n == 1:
        return Difference(mean, None, None, n)
    from scipy.special import stdtrit  # the quantile of scipy.stats.t, without the second that stats takes to import

    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1))
    margin = float(stdtrit(n - 1, (1 + confidence) / 2)) * deviation / math.sqrt(n)
    return Difference(mean, mean - margin, mean + margin, n)


def false_alarm_rate(comparisons: int, confidence: float = CONFIDENCE) -> float:
    """Return the probability that at least one of c independent intervals misses a true difference of zero.

    It is 1 - confidence^c.

    >>> round(false_alarm_rate(7), 2)
    0.3
    """
    return 1 - confidence**comparisons
