"""Differences and ratios between two optimizers in words."""

from __future__ import annotations

import math
from typing import NamedTuple

from inna.experiments.formatting import DASH, fixed, signed
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import Difference

__all__ = ["NOTHING", "Compared", "compared", "comparison_word", "interval_words", "mean_words", "ratio"]


class Compared(NamedTuple):
    """A cell of a table: the difference to the reference.

    Attributes:
        mean: "9.7× lower" or "+0.5"; a dash without a difference.
        interval: "1.5× to 64×" or "+0.4 to +0.6"; "one seed" without an interval, empty without a difference.
        margin: mean and interval in one line, "9.7× lower (1.5× to 64×)" or "+0.5 ± 0.1".
        comparison: "better", "worse", "not significant", or empty without a test.
        value: the mean difference, or log10 of the mean ratio; NaN without one.
    """

    mean: str
    interval: str
    margin: str
    comparison: str
    value: float


NOTHING = Compared(DASH, "", DASH, "", math.nan)


def compared(difference: Difference | None, measure: Metric, places: int, margin_places: int) -> Compared:
    """Return the words of a difference.

    ``places`` are the decimals of it and of its ends.
    """
    if difference is None:
        return NOTHING
    mean, interval = mean_words(difference, places), "one seed"
    margin = mean if difference.ratio else signed(difference.mean, margin_places)
    if difference.low is not None and difference.high is not None:
        interval = interval_words(difference, places)
        half = difference.high / 2 - difference.low / 2
        if not difference.ratio:
            margin = f"{margin} ± {fixed(half, margin_places)}"
        elif interval != mean:
            margin = f"{mean} ({interval})"
    return Compared(mean, interval, margin, comparison_word(difference, measure), difference.mean)


def mean_words(difference: Difference, places: int) -> str:
    """Return the mean difference, "+0.5", or the mean ratio, "9.7× lower"."""
    return (
        _lower_or_higher(difference.mean, _narrow(difference)) if difference.ratio else signed(difference.mean, places)
    )


def interval_words(difference: Difference, places: int) -> str:
    """Return the confidence interval.

    "+0.4 to +0.6", "1.5× to 64×" or "1.2× lower to 1.4× higher".
    """
    low, high = difference.low, difference.high
    assert low is not None
    assert high is not None
    if not difference.ratio:
        return f"{signed(low, places)} to {signed(high, places)}"
    narrow = _narrow(difference)
    if low == high == 0:
        return _lower_or_higher(low, narrow)
    if low * high <= 0:
        return f"{_lower_or_higher(low, narrow)} to {_lower_or_higher(high, narrow)}"
    near, far = sorted((abs(low), abs(high)))
    return f"{ratio(near, narrow)} to {ratio(far, narrow)}"


def ratio(log10: float, narrow: bool = True) -> str:
    """Format a ratio >= 1 given as its log10, with two digits.

    With three below 2, if its interval is ``narrow``.

    >>> ratio(0.01), ratio(0.987), ratio(1.806), ratio(3.4), ratio(0.213, narrow=False)
    ('1.02×', '9.7×', '64×', '2,500×', '1.6×')
    """
    narrow = narrow or log10 < math.log10(1.05)  # nearer to 1 two digits would be no ratio
    if log10 >= 6:
        return f"10^{log10:.0f}×"
    value = 10**log10
    digits = 2 if value < 2 and narrow else 1 - math.floor(math.log10(value))
    rounded = round(value, digits)
    return f"{rounded:,.0f}×" if rounded >= 10 else f"{rounded:g}×"


def comparison_word(difference: Difference | None, measure: Metric) -> str:
    """Return "better", "worse" or "not significant"; "" without a test."""
    if difference is None or difference.p is None:
        return ""
    if not difference.significant:
        return "not significant"
    return "better" if (difference.mean < 0) == (measure.goal == "min") else "worse"


def _narrow(difference: Difference) -> bool:
    """Return whether the interval of a ratio supports a second decimal.

    It then reaches less than 0.1 from the mean.
    """
    if difference.low is None or difference.high is None:
        return True
    return abs(difference.mean) + (difference.high - difference.low) / 2 < math.log10(10 ** abs(difference.mean) + 0.1)


def _lower_or_higher(log10: float, narrow: bool) -> str:
    words = ratio(abs(log10), narrow)
    return "equal" if words == "1×" else f"{words} {'lower' if log10 < 0 else 'higher'}"
