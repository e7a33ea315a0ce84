"""The results of a study as one line per optimizer, for the tables of page and terminal."""

from __future__ import annotations

import math
from typing import NamedTuple

from inna.experiments.formatting import DASH, decimals, duration, fixed, percent, schedule, short, signed
from inna.experiments.report.sentences import (
    comparison_word,
    difference_places,
    margin_places,
    measure_places,
)
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import Entry, Summary

__all__ = ["Cost", "Line", "Measured", "Reached", "Tuned", "lines"]


class Measured(NamedTuple):
    """One measure of one optimizer.

    Attributes:
        mean, ends: "0.0035", "[0.0037, 0.0031]"; ``ends`` is empty without a mean.
        best: whether it is the winner's.
        value: the mean, NaN without one.
        difference, interval: to the reference, "+0.5" and "[+0.4, +0.6]", or "one seed"; empty without a difference.
        margin: the difference in one line, "+0.5 ± 0.1".
        comparison: "better", "worse", "not significant", or empty without an interval.
        difference_value: the mean difference, NaN without one.
    """

    mean: str
    ends: str
    best: bool
    value: float
    difference: str
    interval: str
    margin: str
    comparison: str
    difference_value: float


class Tuned(NamedTuple):
    """The outcome of tuning; ``edge`` is "smallest tried", "largest tried" or empty."""

    lr: str
    schedule: str
    edge: str
    near_best: str
    share: str
    lr_value: float
    share_value: float


class Reached(NamedTuple):
    """The epochs until the reference's best training loss, over the ``n`` of ``seeds`` that reach it."""

    epochs: str
    ends: str
    n: int
    seeds: int
    value: float


class Cost(NamedTuple):
    """The time and memory of one optimizer."""

    seconds_per_epoch: str
    state_bytes: str
    runs: str
    epochs: str
    duration: str
    seconds_value: float
    state_value: float
    epochs_value: int


class Line(NamedTuple):
    """The results of one optimizer; ``measures`` are in the order of `Summary.measures`."""

    label: str
    measures: tuple[Measured, ...]
    tuned: Tuned
    reached: Reached
    cost: Cost


def lines(summary: Summary) -> list[Line]:
    """Return a line per optimizer, in the study's order."""
    seconds_places = decimals(entry.seconds_per_epoch for entry in summary.entries)
    return [
        Line(
            label=entry.label,
            measures=tuple(_measured(summary, entry, measure) for measure in summary.measures),
            tuned=_tuned(entry),
            reached=_reached(entry),
            cost=_cost(entry, seconds_places),
        )
        for entry in summary.entries
    ]


def _measured(summary: Summary, entry: Entry, measure: Metric) -> Measured:
    mean, ends, value = "diverged" if entry.diverged else DASH, "", math.nan
    values = spread(entry.values(measure.name).values(), measure.goal)
    if values is not None:
        places = measure_places(summary, measure)
        worst = "diverged" if entry.diverged else fixed(values.worst, places)
        mean, ends, value = fixed(values.mean, places), f"[{worst}, {fixed(values.best, places)}]", values.mean

    words, interval, margin, comparison, difference_value = DASH, "", DASH, "", math.nan
    difference = None if entry is summary.reference else summary.difference(entry, measure.name)
    if entry is summary.reference:
        margin = ""
    if difference is not None:
        difference_value, comparison = difference.mean, comparison_word(difference, measure)
        places, narrow = difference_places(summary, measure), margin_places(summary, measure)
        words, margin = signed(difference.mean, places), signed(difference.mean, narrow)
        interval = "one seed"
        if difference.low is not None and difference.high is not None:
            interval = f"[{signed(difference.low, places)}, {signed(difference.high, places)}]"
            margin += f" ± {fixed((difference.high - difference.low) / 2, narrow)}"
    best = entry is summary.winner(measure)
    return Measured(mean, ends, best, value, words, interval, margin, comparison, difference_value)


def _tuned(entry: Entry) -> Tuned:
    choice = entry.choice
    edge = "" if choice is None or not choice.edge else f"{'smallest' if choice.edge < 0 else 'largest'} tried"
    return Tuned(
        lr=short(choice.lr) if choice else DASH,
        schedule=schedule(choice.q) if choice else "",
        edge=edge,
        near_best=f"{entry.near_best} of {len(entry.tuning)}",
        share=percent(entry.sensitivity),
        lr_value=choice.lr if choice else math.nan,
        share_value=entry.sensitivity,
    )


def _reached(entry: Entry) -> Reached:
    times = spread((reach.epochs for reach in entry.reach.values() if reach.epochs is not None), "min")
    seeds = len(entry.reach)
    if times is None:
        return Reached("not reached" if seeds else DASH, "", 0, seeds, math.nan)
    return Reached(fixed(times.mean, 1), f"[{times.worst:g}, {times.best:g}]", times.n, seeds, times.mean)


def _cost(entry: Entry, seconds_places: int) -> Cost:
    cost = entry.cost
    return Cost(
        seconds_per_epoch=fixed(entry.seconds_per_epoch, seconds_places),
        state_bytes=short(entry.state_bytes_per_parameter),
        runs=f"{cost.runs:,}",
        epochs=f"{cost.epochs:,}",
        duration=duration(cost.seconds),
        seconds_value=entry.seconds_per_epoch,
        state_value=entry.state_bytes_per_parameter,
        epochs_value=cost.epochs,
    )
