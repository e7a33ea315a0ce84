"""The numbers that claims compare, from the results and the paper's curves.

A training loss is log₁₀ of its mean over the seeds, as the paper draws it; an accuracy is a mean. From the epoch in
which it diverged on, a run counts with its values before training.

`BEST` stands for INNA at the damping of the four with the lowest training loss at the last epoch, as in the paper's
Figure 3. Test data takes no part in that choice.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Literal, NamedTuple

from inna.experiments.rows.results import history, number
from inna.experiments.statistics.intervals import mean_of
from inna.experiments.statistics.summary import Entry, Summary
from inna.experiments.tasks.catalogue import CATALOGUE, split_subset
from inna.paper.curves import BEST_IN_FIGURE_3, PAPER_EPOCHS, paper_curve
from inna.paper.protocol import DECAYS, FOUR

__all__ = [
    "ACCURACY",
    "BEST",
    "CHANCE_SHARE",
    "LOSS",
    "Key",
    "Quantity",
    "Value",
    "Values",
    "best_damping",
    "chance",
    "common_seeds",
    "keys_of",
    "log10_loss",
    "our_value",
    "our_values",
    "paper_value",
    "paper_values",
]

# A run is at chance where its training loss is at least this share of ln C, the loss of a uniform guess among C
# classes.
CHANCE_SHARE = 0.95
# Smaller losses are replaced by this one: single precision ends with zeros, which have no logarithm.
LOSS_FLOOR = 1e-12

Quantity = Literal["log10_train_loss", "test_accuracy"]

LOSS: Quantity = "log10_train_loss"
ACCURACY: Quantity = "test_accuracy"
BEST = "INNA, best damping"

# The label of an optimizer or BEST, and a quantity.
Key = tuple[str, Quantity]


class Value(NamedTuple):
    """A quantity of one optimizer at one epoch.

    Attributes:
        label: of the optimizer.
        mean: the number that is compared.
        worst: of the seeds.
        best: of the seeds.
        by_seed: the number of each seed; empty for the paper's curves.
    """

    label: str
    mean: float
    worst: float
    best: float
    by_seed: Mapping[int, float]


Values = Mapping[Key, Value]


def keys_of(subjects: Iterable[str], quantities: Iterable[Quantity]) -> tuple[Key, ...]:
    """Return each of ``subjects`` with each quantity, one quantity after the other."""
    subjects = tuple(subjects)
    return tuple((subject, quantity) for quantity in quantities for subject in subjects)


def common_seeds(summary: Summary, labels: Collection[str]) -> list[int]:
    """Return the seeds of which every one of ``labels`` has a final run, ascending."""
    finals = {entry.label: set(entry.finals) for entry in summary.entries}
    return sorted(set.intersection(*(finals.get(label, set()) for label in labels))) if labels else []


def our_values(summary: Summary, keys: Iterable[Key], seeds: Collection[int], epoch: int) -> dict[Key, Value]:
    """Read ``keys`` from the results after ``epoch``, over ``seeds``.

    All optimizers must have final runs of these seeds.
    """
    entries = {entry.label: entry for entry in summary.entries}

    def label(subject: str) -> str:
        return _lowest_loss(entries, seeds, summary.study.epochs) if subject == BEST else subject

    return {
        (subject, quantity): our_value(entries[label(subject)], seeds, quantity, epoch) for subject, quantity in keys
    }


def our_value(entry: Entry, seeds: Collection[int], quantity: Quantity, epoch: int) -> Value:
    """Read one quantity of one optimizer after ``epoch``, over ``seeds``."""
    key = "train_loss" if quantity == LOSS else quantity
    raw = {seed: _at(entry, seed, key, epoch) for seed in seeds}
    mean = mean_of(list(raw.values()))
    if quantity == ACCURACY:
        return Value(entry.label, mean, min(raw.values()), max(raw.values()), raw)
    logs = {seed: log10_loss(loss) for seed, loss in raw.items()}
    return Value(entry.label, log10_loss(mean), max(logs.values()), min(logs.values()), logs)


def paper_values(dataset: str, keys: Iterable[Key], epoch: int) -> dict[Key, Value]:
    """Read those of ``keys`` that the paper shows, after ``epoch``."""
    found = {}
    for subject, quantity in keys:
        label = BEST_IN_FIGURE_3.get(dataset, "") if subject == BEST else subject
        value = paper_value(dataset, label, quantity, epoch)
        if value is not None:
            found[subject, quantity] = value
    return found


def paper_value(dataset: str, label: str, quantity: Quantity, epoch: int) -> Value | None:
    """Read one quantity from the paper's curves after ``epoch``; None if not shown."""
    figure = 2 if label in FOUR else 4 if label in DECAYS else 3
    curve = paper_curve(figure, dataset, quantity, label)
    if curve is None or epoch > PAPER_EPOCHS:
        return None
    mean, low, high = curve.at(epoch)
    if mean is None or low is None or high is None:
        return None
    return Value(label, mean, high, low, {}) if quantity == LOSS else Value(label, mean, low, high, {})


def best_damping(summary: Summary) -> str | None:
    """Return the label that `BEST` stands for; None before any has a final run.

    Where the four dampings have no final seed in common, those without a final run are skipped.
    """
    entries = {entry.label: entry for entry in summary.entries if entry.label in FOUR}
    seeds = common_seeds(summary, FOUR)
    if not seeds:
        entries = {label: entry for label, entry in entries.items() if entry.finals}
        seeds = common_seeds(summary, entries)
    return _lowest_loss(entries, seeds, summary.study.epochs) if seeds else None


def _lowest_loss(entries: Mapping[str, Entry], seeds: Collection[int], last: int) -> str:
    losses = {label: our_value(entries[label], seeds, LOSS, last).mean for label in FOUR if label in entries}
    return min(losses, key=losses.__getitem__)


def _at(entry: Entry, seed: int, key: str, epoch: int) -> float:
    """Return the value after ``epoch``, or before training if the run diverged."""
    _, result = entry.finals[seed]
    values = {int(each["epoch"]): number(each.get(key)) for each in history(result)}
    value = values.get(epoch, math.nan)
    return value if math.isfinite(value) else values.get(0, math.nan)


def log10_loss(loss: float) -> float:
    """Return log₁₀ of a loss, or of `LOSS_FLOOR` where the loss is smaller."""
    return math.log10(max(loss, LOSS_FLOOR))


def chance(summary: Summary) -> float:
    """Return log₁₀ of the training loss from which on a run is at chance.

    On a data set of one's own it is a share of the best constant output's loss; NaN before a run is done.
    """
    dataset = split_subset(summary.study.dataset)[0]
    if dataset in CATALOGUE:
        return math.log10(CHANCE_SHARE * math.log(CATALOGUE[dataset].classes))
    losses = (number(result.get("constant_loss")) for _, result in summary.rows())
    return math.log10(CHANCE_SHARE * next((loss for loss in losses if loss > 0), math.nan))
