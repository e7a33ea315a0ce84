"""Comparisons of numbers, their outcome, and verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = [
    "Comparison",
    "Number",
    "Outcome",
    "Verdict",
    "outcome",
]

Outcome = Literal["holds", "does not hold", "not enough runs"]


class Comparison(NamedTuple):
    """One number of a claim against another number or a limit.

    Attributes:
        quantity: the quantity that is compared.
        ours: the key of the number that is judged.
        rival: the key of the number it is compared with, or the name of a limit.
        margin: the distance between the two, positive where the judged number is on the side that the claim asks for;
            NaN where one of them is unknown.
        wins: the seeds on which the judged number is on that side.
        holds: whether the condition holds; None where that is unknown.
    """

    quantity: str
    ours: str
    rival: str
    margin: float = math.nan
    wins: tuple[int, ...] = ()
    holds: bool | None = None


class Number(NamedTuple):
    """One line of a verdict's numbers, as text.

    Attributes:
        what: its name.
        ours: its value here.
        paper: its value in the paper.
    """

    what: str
    ours: str
    paper: str


@dataclass(frozen=True)
class Verdict:
    """The outcome of a claim on one data set, network and length, as text.

    Attributes:
        name: of the claim.
        statement: of the claim.
        source: where the paper makes the claim.
        outcome: ``holds``, ``does not hold`` or ``not enough runs``.
        when: the epoch at which the claim is judged.
        numbers: the numbers that were compared, with [worst, best] over the seeds.
        paper: the outcome of the same rule on the paper's curves at the same epoch; None where they are unknown.
        paper_end: its outcome on them at the paper's last epoch.
        sentence: the comparisons.
    """

    name: str
    statement: str
    source: str
    outcome: Outcome
    when: str
    numbers: tuple[Number, ...]
    paper: Outcome | None
    paper_end: Outcome | None
    sentence: str


def outcome(comparisons: Iterable[Comparison], *, one_suffices: bool = False) -> Outcome | None:
    """Return the outcome of a claim; None where it depends on unknown numbers.

    Args:
        comparisons: of the claim.
        one_suffices: whether the claim holds where one comparison does; otherwise all must hold.

    >>> known = Comparison("accuracy", "INNA", "SGD", 0.1, holds=True)
    >>> unknown = Comparison("accuracy", "INNA", "Adam")
    >>> outcome([known]), outcome([known, unknown]), outcome([known, unknown], one_suffices=True)
    ('holds', None, 'holds')
    """
    held = [comparison.holds for comparison in comparisons]
    if None in held and one_suffices not in held:
        return None
    return "holds" if (any(held) if one_suffices else all(held)) else "does not hold"
