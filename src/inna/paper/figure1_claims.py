"""The claims of the paper's section 5.1 about Figure 1.

The figure shows three descents in a valley: (a) with small β, (b) with larger β, (c) with larger β and larger α. An
oscillation across the valley is measured by |θ₂ − |θ₁||, one along it by the distance by which θ₁ passes the minimum
at 1 if it turns back. The descents are deterministic, so there are no seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from inna.paper.descents import Descent
from inna.paper.verdicts import Comparison

__all__ = [
    "FIGURE_1_CLAIMS",
    "PAPER_ALONG",
    "Condition",
    "Figure1Claim",
    "Measure",
    "Measures",
    "across",
    "along",
    "compare",
    "measure",
]

# The first turns into the valley belong to the start; from this iteration on, motion across the valley is an
# oscillation if it is at least this wide.
SETTLED = 5_000
ACROSS = 0.1
# The smallest distance by which θ₁ passes the minimum at 1 in an oscillation along the valley.
ALONG = 0.1
# That distance in the published curves, by panel.
PAPER_ALONG = {"a": 0.488, "b": 0.394, "c": 0.051}
# The iterations between which (c) is slower, and the share of a descent that is its long run.
MIDDLE = (20_000, 60_000)
LONG_RUN = 0.1

Measure = Literal["across", "along", "middle", "end"]
# By panel and measure.
Measures = Mapping[tuple[str, Measure], float]


class Condition(NamedTuple):
    """A measure of one panel, and the limit or the panel that it is compared with."""

    panel: str
    measure: Measure
    relation: Literal["at least", "above", "below"]
    rival: float | str


@dataclass(frozen=True)
class Figure1Claim:
    """A statement of section 5.1 about Figure 1; it holds where all conditions do."""

    name: str
    statement: str
    conditions: tuple[Condition, ...]


FIGURE_1_CLAIMS = (
    Figure1Claim(
        "small-beta-oscillates",
        "Small β: the descent oscillates across the valley and along it.",
        (Condition("a", "across", "at least", ACROSS), Condition("a", "along", "at least", ALONG)),
    ),
    Figure1Claim(
        "beta-damps-across",
        "Larger β removes the oscillation across the valley.",
        (Condition("a", "across", "at least", ACROSS), Condition("b", "across", "below", ACROSS)),
    ),
    Figure1Claim(
        "alpha-damps-along",
        "Larger α removes the oscillation along the valley.",
        (Condition("b", "along", "at least", ALONG), Condition("c", "along", "below", ALONG)),
    ),
    Figure1Claim(
        "slower-then-best",
        "(1.3, 0.1) is slower between 20,000 and 60,000 iterations, and best in the long run.",
        (
            Condition("c", "middle", "above", "a"),
            Condition("c", "middle", "above", "b"),
            Condition("c", "end", "below", "a"),
            Condition("c", "end", "below", "b"),
        ),
    ),
)


def measure(panels: Mapping[str, Descent]) -> dict[tuple[str, Measure], float]:
    """Return all measures of all panels."""
    measures: dict[tuple[str, Measure], float] = {}
    for panel, descent in panels.items():
        last = descent.iteration[-1]
        measures[panel, "across"] = across(descent)
        measures[panel, "along"] = along(descent)
        measures[panel, "middle"] = _mean_log(descent, *MIDDLE)
        measures[panel, "end"] = _mean_log(descent, (1 - LONG_RUN) * last, last)
    return measures


def across(descent: Descent) -> float:
    """Return the largest |θ₂ − |θ₁|| after the start; NaN if none is kept there."""
    kept = zip(descent.iteration, descent.theta1, descent.theta2, strict=True)
    return max((abs(y - abs(x)) for k, x, y in kept if k >= SETTLED), default=math.nan)


def along(descent: Descent) -> float:
    """Return the distance by which θ₁ passes 1, or 0 if it does not turn back.

    It turns back if it returns at least half of that distance.
    """
    farthest = max(descent.theta1)
    later = descent.theta1[descent.theta1.index(farthest) :]
    return farthest - 1 if farthest > 1 and min(later) <= 1 + (farthest - 1) / 2 else 0.0


def compare(claim: Figure1Claim, measures: Measures) -> list[Comparison]:
    """Compare the measures of a claim, one comparison a condition."""
    return [_compare(condition, measures) for condition in claim.conditions]


def _compare(condition: Condition, measures: Measures) -> Comparison:
    panel, which, relation, rival = condition
    ours = measures[panel, which]
    other = measures[rival, which] if isinstance(rival, str) else rival
    margin = other - ours if relation == "below" else ours - other
    holds = margin >= 0 if relation == "at least" else margin > 0
    return Comparison(which, panel, str(rival), margin, holds=holds)


def _mean_log(descent: Descent, start: float, end: float) -> float:
    kept = [value for k, value in zip(descent.iteration, descent.log10_loss, strict=True) if start <= k <= end]
    return math.fsum(kept) / len(kept) if kept else math.nan
