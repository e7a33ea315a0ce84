"""What verdicts rest on: our rows and the paper's curves, asked for the same quantities in the same way.

A training loss is log₁₀ of its mean over the seeds, as the paper draws it; an accuracy is a mean. From the epoch on in
which it diverged a run counts with the values that it had before training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

from inna.experiments.formatting import fixed
from inna.experiments.rows.results import history, number
from inna.experiments.statistics.summary import Entry, Summary
from inna.experiments.tasks.catalogue import CATALOGUE
from inna.experiments.tasks.subsets import split_subset
from inna.paper.curves import BEST_IN_FIGURE_3, PAPER_EPOCHS, paper_curve
from inna.paper.protocol import DAMPINGS, inna

__all__ = [
    "ACCURACY",
    "FOUR",
    "LOSS",
    "Evidence",
    "OurRows",
    "PaperCurves",
    "Quantity",
    "Value",
    "best_damping",
    "log10_loss",
]

# A run is at chance where its training loss is at least this share of ln C, the loss of a uniform guess among C
# classes.
CHANCE_SHARE = 0.95
# Losses below this are taken for it: single precision ends with zeros, which have no logarithm.
LOSS_FLOOR = 1e-12

Quantity = Literal["log10_train_loss", "test_accuracy"]

LOSS: Quantity = "log10_train_loss"
ACCURACY: Quantity = "test_accuracy"
FOUR = tuple(inna(alpha, beta, 1 / 2).label for alpha, beta in DAMPINGS)


class Value(NamedTuple):
    """A quantity of one contender at one epoch: what is judged, its worst and best seed, and each seed's own."""

    mean: float
    worst: float
    best: float
    by_seed: Mapping[int, float]

    def words(self, quantity: Quantity) -> str:
        places = 3 if quantity == LOSS else 4
        return f"{fixed(self.mean, places)} [{fixed(self.worst, places)}, {fixed(self.best, places)}]"


class Evidence(Protocol):
    """What a rule is applied to: our rows, or the paper's curves."""

    @property
    def best(self) -> str:
        """The damping that stands for INNA."""

    @property
    def chance(self) -> float:
        """log₁₀ of the training loss from which on a run is at chance."""

    def value(self, label: str, quantity: Quantity, epoch: int, figure: int) -> Value | None:
        """None where it is not known."""


def best_damping(summary: Summary) -> str | None:
    """The damping of the four with the lowest mean training loss at the last epoch; None before any has a final run."""
    rows = OurRows(summary, FOUR)
    if not rows.seeds:
        rows = OurRows(summary, tuple(entry.label for entry in summary.entries if entry.label in FOUR and entry.finals))
    return rows.best if rows.seeds else None


class OurRows:
    """Our rows as evidence, over the seeds that all of ``labels`` have."""

    def __init__(self, summary: Summary, labels: Sequence[str]) -> None:
        self.summary = summary
        self.entries: dict[str, Entry] = {entry.label: entry for entry in summary.entries if entry.label in labels}
        self.missing = [label for label in labels if label not in self.entries]
        having = [set(entry.finals) for entry in self.entries.values()]
        self.seeds = [] if self.missing or not having else sorted(set.intersection(*having))

    @property
    def best(self) -> str:
        last = self.summary.study.epochs
        known = {label: self.value(label, LOSS, last, 3).mean for label in FOUR if label in self.entries}
        return min(known, key=lambda label: known[label], default="")

    @property
    def chance(self) -> float:
        return _chance(self.summary.study.dataset)

    def value(self, label: str, quantity: Quantity, epoch: int, figure: int) -> Value:
        key = "train_loss" if quantity == LOSS else quantity
        raw = {seed: _at(self.entries[label], seed, key, epoch) for seed in self.seeds}
        mean = math.fsum(raw.values()) / len(raw)
        if quantity == ACCURACY:
            return Value(mean, min(raw.values()), max(raw.values()), raw)
        logs = {seed: log10_loss(loss) for seed, loss in raw.items()}
        return Value(log10_loss(mean), max(logs.values()), min(logs.values()), logs)


class PaperCurves:
    """The paper's curves as evidence."""

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    @property
    def best(self) -> str:
        return BEST_IN_FIGURE_3.get(self.dataset, "")

    @property
    def chance(self) -> float:
        return _chance(self.dataset)

    def value(self, label: str, quantity: Quantity, epoch: int, figure: int) -> Value | None:
        curve = paper_curve(figure, self.dataset, quantity, label)
        if curve is None or epoch > PAPER_EPOCHS:
            return None
        mean, low, high = (getattr(curve.at(epoch), name) for name in ("mean", "low", "high"))
        if mean is None or low is None or high is None:
            return None
        return Value(mean, high, low, {}) if quantity == LOSS else Value(mean, low, high, {})


def _at(entry: Entry, seed: int, key: str, epoch: int) -> float:
    """The value after ``epoch``; of a run that diverged before that, the value before training."""
    _, result = entry.finals[seed]
    values = {int(each["epoch"]): number(each.get(key)) for each in history(result)}
    value = values.get(epoch, math.nan)
    return value if math.isfinite(value) else values.get(0, math.nan)


def log10_loss(loss: float) -> float:
    """log₁₀, of what single precision calls zero too."""
    return math.log10(max(loss, LOSS_FLOOR))


def _chance(dataset: str) -> float:
    return math.log10(CHANCE_SHARE * math.log(CATALOGUE[split_subset(dataset)[0]].classes))
