"""Claims, their outcomes and the numbers behind them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from inna.paper.evidence import LOSS, Evidence, Quantity, Value

__all__ = [
    "Claim",
    "Finding",
    "Number",
    "Outcome",
    "Rule",
    "Verdict",
]


Outcome = Literal["holds", "does not hold", "not enough runs"]


class Number(NamedTuple):
    """One line of a verdict's numbers: what it is, and its value here and in the paper, in words."""

    what: str
    ours: str
    paper: str


@dataclass
class Finding:
    """What a rule found: whether each of its conditions holds (None: unknown), the numbers, and a sentence."""

    conditions: list[bool | None] = field(default_factory=list)
    numbers: list[tuple[str, str]] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome | None:
        if False in self.conditions:
            return "does not hold"
        return None if None in self.conditions else "holds"

    def show(
        self, evidence: Evidence, label: str, quantity: Quantity, epoch: int, figure: int, role: str = ""
    ) -> Value | None:
        """The value, which is added to the numbers."""
        value = evidence.value(label, quantity, epoch, figure)
        unit = "log₁₀ loss" if quantity == LOSS else "accuracy"
        words = "–" if value is None else value.words(quantity)
        self.numbers.append((f"{role or label}, {unit}", f"{label}: {words}" if role and value is not None else words))
        return value


Rule = Callable[[Evidence, int], Finding]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper (or of ours beyond it), where it is shown, who must have run, and the rule.

    ``early`` claims are judged after `EARLY_EPOCH`, the others at the last epoch.
    """

    name: str
    statement: str
    source: str
    labels: tuple[str, ...]
    rule: Rule
    early: bool = False


@dataclass(frozen=True)
class Verdict:
    """The outcome of a claim on one data set, network and length.

    Attributes:
        name, statement, source: of the claim.
        outcome: ``holds``, ``does not hold`` or ``not enough runs``.
        when: the epoch at which it is judged, in words.
        numbers: what the rule looked at, with [worst, best] over the seeds.
        paper: what the same rule says of the paper's curves at the same epoch; None where they do not say.
        paper_end: what it says of them at the paper's last epoch.
        sentence: what was found, for people.
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
