"""The results of a study as a table of the page: markup for reading, values for sorting."""

from __future__ import annotations

import math
from dataclasses import dataclass

from inna.experiments.charts.html import text
from inna.experiments.formatting import DASH, decimals, duration, fixed, percent, schedule, short, signed
from inna.experiments.report.sections import named_key
from inna.experiments.report.sentences import comparison_word, difference_places, measure_name, measure_places
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import Entry, Summary

__all__ = ["results_heads", "results_lines"]


@dataclass(frozen=True)
class _Cell:
    """The markup of a cell, and what it sorts by: a number, a text, or NaN where there is none."""

    markup: str
    value: str | float = math.nan

    def render(self) -> str:
        value = "" if isinstance(self.value, float) and math.isnan(self.value) else self.value
        return f'<td data-value="{text(value)}">{self.markup}</td>'


def results_heads(summary: Summary) -> str:
    """The heads: buttons that sort, each with the direction that a first click takes."""
    reference = summary.study.reference
    heads = [("Optimizer", "text", "ascending")]
    for measure in summary.measures:
        first = "ascending" if measure.goal == "min" else "descending"
        heads.append((measure_name(measure).capitalize(), "number", first))
        heads.append((f"Difference to {reference}", "number", first))
    heads += [
        ("γ₀, schedule", "number", "ascending"),
        (f"Epochs to {reference}’s best", "number", "ascending"),
        ("Grid near best", "number", "descending"),
        ("Seconds an epoch", "number", "ascending"),
        ("State B/param.", "number", "ascending"),
        ("Spent: epochs", "number", "ascending"),
    ]
    return "".join(
        f'<th scope="col" data-kind="{kind}" data-first="{first}"{" aria-sort=ascending" if position == 1 else ""}>'
        f'<button type="button">{text(title)}</button></th>'
        for position, (title, kind, first) in enumerate(heads)
    )


def results_lines(summary: Summary) -> str:
    """A line a contender, by its training loss."""

    def mean_loss(entry: Entry) -> float:
        values = spread(entry.values("train_loss").values(), "min")
        return values.mean if values else math.inf

    lines = []
    for entry in sorted(summary.entries, key=mean_loss):
        badge = ' <span class="badge">reference</span>' if entry is summary.reference else ""
        head = f'<th scope="row" data-value="{text(entry.label)}">{named_key(summary, entry, badge)}</th>'
        lines.append(f"<tr>{head}{''.join(cell.render() for cell in _cells(summary, entry))}</tr>")
    return "".join(lines)


def _cells(summary: Summary, entry: Entry) -> list[_Cell]:
    cells = []
    for measure in summary.measures:
        cells += [_measure_cell(summary, entry, measure), _difference_cell(summary, entry, measure)]
    seconds_places = decimals(each.seconds_per_epoch for each in summary.entries)
    budget, size = entry.cost, entry.state_bytes_per_parameter
    return [
        *cells,
        _step_cell(entry),
        _reach_cell(entry),
        _Cell(
            f"{percent(entry.sensitivity)}<small>{entry.near_best} of {len(entry.tuning)}</small>", entry.sensitivity
        ),
        _Cell(fixed(entry.seconds_per_epoch, seconds_places), entry.seconds_per_epoch),
        _Cell(short(size), size),
        _Cell(
            f"{budget.epochs:,}<small>{budget.runs:,} runs</small><small>{duration(budget.seconds)}</small>",
            float(budget.epochs),
        ),
    ]


def _measure_cell(summary: Summary, entry: Entry, measure: Metric) -> _Cell:
    values = spread(entry.values(measure.name).values(), measure.goal)
    if values is None:
        return _Cell("diverged" if entry.diverged else DASH)
    places = measure_places(summary, measure)
    worst = "diverged" if entry.diverged else fixed(values.worst, places)
    weight = ' class="best"' if entry is summary.winner(measure) else ""
    return _Cell(
        f"<span{weight}>{fixed(values.mean, places)}</span><small>[{worst}, {fixed(values.best, places)}]</small>",
        values.mean,
    )


def _difference_cell(summary: Summary, entry: Entry, measure: Metric) -> _Cell:
    difference = None if entry is summary.reference else summary.difference(entry, measure.name)
    if difference is None:
        return _Cell(DASH)
    places = difference_places(summary, measure)
    if difference.low is None or difference.high is None:
        return _Cell(f"{signed(difference.mean, places)}<small>one seed</small>", difference.mean)
    word = comparison_word(difference, measure)
    kind = f' class="{word}"' if word in ("better", "worse") else ""
    return _Cell(
        f"{signed(difference.mean, places)}<small>[{signed(difference.low, places)}, "
        f"{signed(difference.high, places)}]</small><small{kind}>{word}</small>",
        difference.mean,
    )


def _step_cell(entry: Entry) -> _Cell:
    choice = entry.choice
    if choice is None:
        return _Cell(DASH)
    edge = "" if not choice.edge else f"<small>{'smallest' if choice.edge < 0 else 'largest'} tried</small>"
    return _Cell(f"{short(choice.lr)}<small>{text(schedule(choice.q))}</small>{edge}", choice.lr)


def _reach_cell(entry: Entry) -> _Cell:
    times = spread((reach.epochs for reach in entry.reach.values() if reach.epochs is not None), "min")
    if times is None:
        return _Cell("not reached" if entry.reach else DASH)
    if times.n < len(entry.reach):
        return _Cell(f"{fixed(times.mean, 1)}<small>{times.n} of {len(entry.reach)} seeds</small>", times.mean)
    return _Cell(f"{fixed(times.mean, 1)}<small>[{times.worst:g}, {times.best:g}]</small>", times.mean)
