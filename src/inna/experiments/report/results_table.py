"""The results of a study, a line per optimizer, for page and terminal."""

from __future__ import annotations

import math
from typing import NamedTuple

from inna.experiments.formatting import (
    DASH,
    decimals,
    duration,
    fixed,
    percent,
    schedule,
    setting_name,
    setting_value,
    short,
)
from inna.experiments.report.difference_words import NOTHING, Compared, compared
from inna.experiments.report.sentences import difference_places, margin_places, spread_places
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import TRAIN_LOSS, Entry, Summary
from inna.experiments.study.search_space import LEARNING_RATE

__all__ = [
    "Cost",
    "Line",
    "Measured",
    "Reached",
    "Tuned",
    "Untuned",
    "chosen_settings",
    "comparisons",
    "has_untuned",
    "lines",
    "records",
]


class Measured(NamedTuple):
    """One measure of one optimizer.

    Attributes:
        mean, ends: "0.0035", "[0.0037, 0.0031]"; ``ends`` is empty without a mean.
        best: whether it is a winner's.
        value: the mean, NaN without one.
        compared: the difference to the study's reference.
    """

    mean: str
    ends: str
    best: bool
    value: float
    compared: Compared


class Tuned(NamedTuple):
    """The outcome of tuning; ``edge`` is "smallest tried", "largest tried" or empty.

    ``settings`` are those that a search chose, such as "momentum = 0.95"; empty if it tuned none. ``width`` is that of
    the good learning rates in decades, a dash if unknown. ``fixed`` is whether the learning rate was given, not tuned.
    """

    lr: str
    fixed: bool
    schedule: str
    settings: str
    edge: str
    near_best: str
    share: str
    width: str
    lr_value: float
    width_value: float


class Reached(NamedTuple):
    """The epochs until the reference's best training loss.

    They are means over the ``n`` of ``seeds`` that reach it.
    """

    epochs: str
    ends: str
    n: int
    seeds: int
    value: float


class Untuned(NamedTuple):
    """The training loss at the library's defaults, and these in words."""

    mean: str
    ends: str
    settings: str
    value: float


class Cost(NamedTuple):
    """The time and memory of one optimizer.

    ``seconds_ends`` are the fastest and slowest seed if they differ.
    """

    seconds_per_epoch: str
    seconds_ends: str
    state_bytes: str
    runs: str
    epochs: str
    duration: str
    seconds_value: float
    state_value: float
    epochs_value: int


class Line(NamedTuple):
    """The results of one optimizer.

    ``measures`` are in the order of `Summary.measures`; ``untuned`` is None in a study without untuned runs.
    """

    label: str
    measures: tuple[Measured, ...]
    tuned: Tuned
    untuned: Untuned | None
    reached: Reached
    cost: Cost


def lines(summary: Summary) -> list[Line]:
    """Return a line per optimizer, in the study's order."""
    seconds_places = decimals(entry.seconds_per_epoch for entry in summary.entries)
    columns = [_measured(summary, measure) for measure in summary.measures]
    return [
        Line(
            label=entry.label,
            measures=cells,
            tuned=_tuned(entry),
            untuned=_untuned(summary, entry) if has_untuned(summary) else None,
            reached=_reached(entry),
            cost=_cost(entry, seconds_places),
        )
        for entry, cells in zip(summary.entries, zip(*columns, strict=True), strict=True)
    ]


def has_untuned(summary: Summary) -> bool:
    """Return whether any optimizer of the study has untuned runs."""
    return any(entry.untuned for entry in summary.entries)


def records(summary: Summary) -> list[dict[str, str | int | float | None]]:
    """Return a dictionary of plain numbers per optimizer, in the study's order.

    None stands for what is unknown. A ratio or difference is to the study's reference, ``..._p`` its corrected p-value.
    """
    found = []
    for entry in summary.entries:
        row: dict[str, str | int | float | None] = {"optimizer": entry.label}
        for measure in summary.measures:
            values, difference = summary.spread(entry, measure), summary.differences(measure).get(entry.label)
            name, kind = measure.name, "ratio" if summary.ratios(measure) else "difference"
            row |= {
                name: _known(values.mean) if values else None,
                f"{name}_worst": _known(values.worst) if values else None,
                f"{name}_best": _known(values.best) if values else None,
                f"{name}_{kind}": None,
                f"{name}_p": None,
            }
            if difference is not None:
                row[f"{name}_{kind}"] = _known(10**difference.mean if difference.ratio else difference.mean)
                row[f"{name}_p"] = difference.p
        choice = entry.choice
        row |= {
            "seeds_diverged": len(entry.diverged),
            "seeds_untrained": len(entry.untrained),
            "seeds_missing": len(entry.missing),
            "lr": choice.lr if choice else None,
            "schedule": schedule(choice.decay) if choice else None,
            "settings": chosen_settings(entry) or None,
            "lr_width_decades": _known(entry.lr_width),
            "seconds_per_epoch": _known(entry.seconds_per_epoch),
            "state_bytes_per_parameter": _known(entry.state_bytes_per_parameter),
            "runs": entry.cost.runs,
            "epochs": entry.cost.epochs,
            "seconds": _known(entry.cost.seconds),
        }
        found.append(row)
    return found


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None


def comparisons(summary: Summary, measure: Metric, reference: Entry | None = None) -> dict[str, Compared]:
    """Return label -> the words of the difference to ``reference``.

    Of every other optimizer; by default the reference is the study's.
    """
    base, found = reference or summary.reference, summary.differences(measure, reference)
    places = difference_places(summary, measure), margin_places(summary, measure)
    return {
        entry.label: compared(found.get(entry.label), measure, *places)
        for entry in summary.entries
        if entry is not base
    }


def _measured(summary: Summary, measure: Metric) -> list[Measured]:
    """Return the cells of a measure, one per optimizer."""
    found, winners = comparisons(summary, measure), summary.winners(measure)
    cells = []
    for entry in summary.entries:
        mean, ends, value = _spread_words(summary, entry, measure)
        difference = found.get(entry.label, NOTHING._replace(margin=""))
        cells.append(Measured(mean, ends, entry in winners, value, difference))
    return cells


def _spread_words(summary: Summary, entry: Entry, measure: Metric) -> tuple[str, str, float]:
    """Return the mean, its ends and its value."""
    lost = "diverged" if entry.diverged else "did not train" if entry.untrained else ""
    values = summary.spread(entry, measure)
    if values is None:
        return lost or DASH, "", math.nan
    places = spread_places(summary, measure, values)
    worst = lost or fixed(values.worst, places)
    return fixed(values.mean, places), f"[{worst}, {fixed(values.best, places)}]", values.mean


def _untuned(summary: Summary, entry: Entry) -> Untuned:
    if entry.untuned is None:
        return Untuned(DASH, "", "no default γ", math.nan)
    mean, ends, value = _spread_words(summary, entry.untuned, TRAIN_LOSS)
    return Untuned(mean, ends, f"γ = {short(entry.contender.untuned_lr or math.nan)}", value)


def _tuned(entry: Entry) -> Tuned:
    choice = entry.choice
    edge = "" if choice is None or not choice.edge else f"{'smallest' if choice.edge < 0 else 'largest'} tried"
    return Tuned(
        lr=short(choice.lr) if choice else DASH,
        fixed=len(entry.contender.grid) == 1 and LEARNING_RATE not in [each.name for each in entry.contender.space],
        schedule=schedule(choice.decay) if choice else "",
        settings=chosen_settings(entry),
        edge=edge,
        near_best=f"{entry.near_best} of {len(entry.comparable)}",
        share=percent(entry.sensitivity),
        width=fixed(entry.lr_width, 1),
        lr_value=choice.lr if choice else math.nan,
        width_value=entry.lr_width,
    )


def chosen_settings(entry: Entry) -> str:
    """Return the settings that a search chose, beside learning rate and schedule.

    "" without any.
    """
    if entry.choice is None:
        return ""
    chosen = entry.choice.run.arguments
    searched = [each.name for each in entry.contender.space if each.name in chosen]
    return ", ".join(f"{setting_name(name)} = {setting_value(chosen[name])}" for name in searched)


def _reached(entry: Entry) -> Reached:
    times = spread((reach.epochs for reach in entry.reach.values() if reach.epochs is not None), "min")
    seeds = len(entry.reach)
    if times is None:
        return Reached("not reached" if seeds else DASH, "", 0, seeds, math.nan)
    return Reached(fixed(times.mean, 1), f"[{times.worst:g}, {times.best:g}]", times.n, seeds, times.mean)


def _cost(entry: Entry, seconds_places: int) -> Cost:
    cost, uneven = entry.cost, entry.uneven_seconds
    return Cost(
        seconds_per_epoch=fixed(entry.seconds_per_epoch, seconds_places),
        seconds_ends=f"{short(uneven.best)} to {short(uneven.worst)}" if uneven else "",
        state_bytes=short(entry.state_bytes_per_parameter),
        runs=f"{cost.runs:,}",
        epochs=f"{cost.epochs:,}",
        duration=duration(cost.seconds),
        seconds_value=entry.seconds_per_epoch,
        state_value=entry.state_bytes_per_parameter,
        epochs_value=cost.epochs,
    )
