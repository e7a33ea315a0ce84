"""Means, spreads, and paired differences and ratios with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

__all__ = [
    "CONFIDENCE",
    "Difference",
    "Spread",
    "holm",
    "mean_of",
    "paired_difference",
    "spread",
]


# The level of every interval; one minus this is the level of every test.
CONFIDENCE = 0.95


class Spread(NamedTuple):
    """Mean, best and worst of ``n`` values, one per seed."""

    mean: float
    best: float
    worst: float
    n: int


class Difference(NamedTuple):
    """The mean of ``n`` paired differences, with interval and p-value.

    Of ratios it is that of their log10.

    Attributes:
        mean: the mean difference; of ratios, log10 of their geometric mean.
        low, high: the ends of the confidence interval; None if n < 2.
        n: the number of pairs.
        p: the p-value of "the true mean is 0", corrected where there are several comparisons; None if n < 2.
        ratio: whether the three numbers are log10 of ratios.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    p: float | None = None
    ratio: bool = False

    @property
    def significant(self) -> bool:
        """Return whether the p-value is below one minus the confidence level."""
        return self.p is not None and self.p < 1 - CONFIDENCE


def spread(values: Iterable[float], goal: Literal["max", "min"], *, geometric: bool = False) -> Spread | None:
    """Return mean, best and worst of ``values``; None if there are none.

    Args:
        values: finite numbers, one per seed.
        goal: which direction is good.
        geometric: take the geometric mean; all values are then > 0.

    >>> spread([3.0, 1.0, 2.0], "min")
    Spread(mean=2.0, best=1.0, worst=3.0, n=3)
    >>> spread([1.0, 100.0], "min", geometric=True).mean
    10.0
    """
    numbers = sorted(values, reverse=goal == "max")
    if not numbers:
        return None
    mean = _geometric_mean(numbers) if geometric else mean_of(numbers)
    # A mean is never outside its own values, although its rounding may be.
    return Spread(min(max(mean, min(numbers)), max(numbers)), numbers[0], numbers[-1], len(numbers))


def paired_difference(
    values: Mapping[int, float],
    reference: Mapping[int, float],
    confidence: float = CONFIDENCE,
    *,
    ratio: bool = False,
) -> Difference | None:
    """Return the mean difference over the common seeds, with Student's t test.

    With n pairs, differences d_s = values_s - reference_s over seeds s, their mean d and their standard deviation sd
    (n - 1 in its denominator), the interval is

        d ± t sd/√n,    t the (1 + confidence)/2 quantile of Student's distribution with n - 1 degrees of freedom.

    It assumes that the differences are independent draws of one normal distribution. If all differences are equal they
    are not, and p is that of the sign test, 2^(1 - n).

    Args:
        values, reference: seed -> finite number.
        confidence: in (0, 1).
        ratio: compare ratios: d_s = log10(values_s / reference_s). All numbers are then > 0.

    Returns:
        None without a common seed; with one, a difference without interval and p-value. Numbers that no float can
        hold, as 1e308 - (-1e308), are infinities.

    Raises:
        ValueError: confidence is not in (0, 1), or a number is <= 0 where ratios are asked for.

    >>> paired_difference({1: 2.0}, {1: 0.5, 2: 9.0})
    Difference(mean=1.5, low=None, high=None, n=1, p=None, ratio=False)
    >>> paired_difference({1: 1.0, 2: 10.0}, {1: 10.0, 2: 1000.0}, ratio=True).mean
    -1.5
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    seeds = sorted(values.keys() & reference.keys())
    if ratio and not all(numbers[seed] > 0 for numbers in (values, reference) for seed in seeds):
        raise ValueError("ratios need numbers > 0")
    n = len(seeds)
    if n == 0:
        return None
    pairs = [(values[seed], reference[seed]) for seed in seeds]
    if ratio:
        pairs = [(math.log10(value), math.log10(other)) for value, other in pairs]
    exponent = _exponent(number for pair in pairs for number in pair)
    differences = [math.ldexp(value, -exponent) - math.ldexp(other, -exponent) for value, other in pairs]
    mean = math.fsum(differences) / n
    if n == 1:
        return Difference(_times_power(mean, exponent), None, None, n, ratio=ratio)
    from scipy.special import stdtr, stdtrit  # the functions of scipy.stats.t, without the second that stats takes

    largest = max(abs(d - mean) for d in differences)
    if largest <= 1e-12 * abs(mean):
        margin, p = 0.0, 2.0 ** (1 - n) if mean else 1.0
    else:
        deviation = largest * math.sqrt(math.fsum(((d - mean) / largest) ** 2 for d in differences) / (n - 1))
        error = deviation / math.sqrt(n)
        margin = float(stdtrit(n - 1, (1 + confidence) / 2)) * error
        p = 2 * float(stdtr(n - 1, -abs(mean / error)))
    mean, low, high = (_times_power(number, exponent) for number in (mean, mean - margin, mean + margin))
    return Difference(mean, low, high, n, p, ratio)


def mean_of(numbers: Sequence[float]) -> float:
    """Return the mean of finite numbers, also where their sum would overflow.

    >>> mean_of([1.5e308, 1.7e308])
    1.6e+308
    """
    exponent = _exponent(numbers)
    return math.ldexp(math.fsum(math.ldexp(number, -exponent) for number in numbers) / len(numbers), exponent)


def _geometric_mean(numbers: Sequence[float]) -> float:
    try:
        return math.pow(10.0, mean_of([math.log10(number) for number in numbers]))
    except OverflowError:  # the largest float is a little less than 10 to its own logarithm
        return max(numbers)


def _exponent(numbers: Iterable[float]) -> int:
    """Return the power of two that takes the largest of ``numbers`` below 1.

    There sums and squares are harmless.
    """
    return math.frexp(max(map(abs, numbers)))[1]


def _times_power(number: float, exponent: int) -> float:
    """Return ``number`` times two to the ``exponent``.

    An infinity if it is too large.
    """
    try:
        return math.ldexp(number, exponent)
    except OverflowError:
        return math.copysign(math.inf, number)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for multiple comparisons by Holm's method.

    The i-th smallest of c p-values (i = 0, 1, ...) is multiplied by c - i; none becomes smaller than one before it,
    none larger than 1. If all c true differences are 0, at least one corrected p-value is below 0.05 in at most 5 % of
    cases, whatever the dependence between the comparisons.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Statistics 6, 1979.

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    corrected, smallest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        smallest = max(smallest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = smallest
    return corrected
