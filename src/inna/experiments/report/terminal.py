"""The results of a study as a data frame, a line a contender, and as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from inna.experiments.formatting import (
    count,
    decimals,
    duration,
    enumerate_words,
    fixed,
    percent,
    plain,
    schedule,
    short,
    signed,
)
from inna.experiments.report.sentences import comparison_word, headline, measure_name, warnings_of
from inna.experiments.rows.results import number
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import CONFIDENCE, spread
from inna.experiments.statistics.summary import Entry, Summary

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

__all__ = ["print_table", "summary_table"]


def summary_table(summary: Summary) -> pd.DataFrame:
    """A line a contender, in the study's order.

    Columns:
        contender, optimizer, reference (whether it is the one that others are compared with);
        lr, q, schedule, edge: the outcome of tuning, as in `Choice`;
        train_loss, then test_<metric> for each metric, the main one first: mean over the final seeds that finished;
            each followed by <name>_best, <name>_worst, by <name>_difference, <name>_low, <name>_high: the mean
            difference to the reference, paired by seed, and the ends of its 95 % interval (Student t), by
            <name>_verdict: better, worse, cannot tell, or empty where there is no interval, and by <name>_finding:
            on the line of the winner, what the seeds tell of its lead, as a sentence, else empty;
        epochs_to_reference, seconds_to_reference: mean over the seeds that reach the reference's best training loss;
            seeds_reaching: how many do;
        near_best of tuning_runs, sensitivity: tuning runs within 10 % of the best, and their share;
        seconds_per_epoch, state_bytes_per_parameter, runs, epochs, seconds: costs;
        seeds, diverged: final runs there are, and how many of them diverged;
        warnings: a tuple of plain sentences.
    Numbers that do not exist are NaN.
    """
    import pandas as pd

    return pd.DataFrame([_record(summary, entry) for entry in summary.entries])


def print_table(table: pd.DataFrame, console: Console) -> None:
    """Print a `summary_table`, in as many pieces as the width of ``console`` asks for, then what the seeds tell."""
    from rich.table import Table
    from rich.text import Text

    first, *others = _columns(table)
    for columns in _pack(first, others, console.width):
        grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            grid.add_column(Text(column.head), justify=column.justify, no_wrap=True)
        for cells in zip(*(column.cells for column in columns), strict=True):
            grid.add_row(*(Text(cell) for cell in cells))
        console.print(grid)
        console.print()
    for sentence in _sentences(table):
        console.print(Text(sentence))


class _Column(NamedTuple):
    head: str
    cells: list[str]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(cell_len(line) for text in (self.head, *self.cells) for line in text.split("\n")) + 2


def _pack(first: _Column, others: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """The columns in pieces no wider than ``width``, each of at least two columns and led by ``first``."""
    piece = [first]
    for column in others:
        if len(piece) > 1 and sum(each.width for each in piece) + column.width > width:
            yield piece
            piece = [first]
        piece.append(column)
    yield piece


def _record(summary: Summary, entry: Entry) -> dict[str, Any]:
    choice, budget, nan = entry.choice, entry.cost, math.nan
    record: dict[str, Any] = {
        "contender": entry.label,
        "optimizer": entry.contender.optimizer,
        "reference": entry is summary.reference,
        "lr": choice.lr if choice else nan,
        "q": choice.q if choice else nan,
        "schedule": schedule(choice.q) if choice else "",
        "edge": choice.edge if choice else 0,
    }
    for measure in summary.measures:
        values = spread(entry.values(measure.name).values(), measure.goal)
        difference = None if entry is summary.reference else summary.difference(entry, measure.name)
        record |= {
            measure.name: values.mean if values else nan,
            f"{measure.name}_best": values.best if values else nan,
            f"{measure.name}_worst": values.worst if values else nan,
            f"{measure.name}_difference": difference.mean if difference else nan,
            f"{measure.name}_low": nan if difference is None or difference.low is None else difference.low,
            f"{measure.name}_high": nan if difference is None or difference.high is None else difference.high,
            f"{measure.name}_verdict": comparison_word(difference, measure),
            f"{measure.name}_finding": _finding(summary, entry, measure),
        }
    reached = [reach for reach in entry.reach.values() if reach.epochs is not None]
    for unit in ("epochs", "seconds"):
        times = spread((number(getattr(reach, unit)) for reach in reached), "min")
        record[f"{unit}_to_reference"] = times.mean if times else nan
    return record | {
        "seeds_reaching": len(reached),
        "near_best": entry.near_best,
        "tuning_runs": len(entry.tuning),
        "sensitivity": entry.sensitivity,
        "seconds_per_epoch": entry.seconds_per_epoch,
        "state_bytes_per_parameter": entry.state_bytes_per_parameter,
        "runs": budget.runs,
        "epochs": budget.epochs,
        "seconds": budget.seconds,
        "seeds": len(entry.finals),
        "diverged": len(entry.diverged),
        "warnings": tuple(warnings_of(summary, entry)),
    }


def _finding(summary: Summary, entry: Entry, measure: Metric) -> str:
    """What the seeds tell of the lead of ``entry``; where nobody leads, the reference's line says so; else empty."""
    winner = summary.winner(measure)
    if entry is not (winner or summary.reference):
        return ""
    name, sentence = headline(summary, measure)
    lead = f"{name} has the {'lowest' if measure.goal == 'min' else 'highest'} {measure_name(measure)}. "
    return f"{lead if winner else ''}{sentence}"


def _main_metric(table: pd.DataFrame) -> str:
    return next(str(name) for name in table.columns if str(name).startswith("test_"))


def _columns(table: pd.DataFrame) -> list[_Column]:
    records: list[dict[str, Any]] = [
        {str(key): value for key, value in each.items()} for each in table.to_dict("records")
    ]
    reference = next((plain(record["contender"]) for record in records if record["reference"]), "reference")

    def reach(record: dict[str, Any]) -> str:
        if record["seeds"] and not record["seeds_reaching"]:
            return "never"
        partial = record["seeds_reaching"] < record["seeds"]
        return fixed(record["epochs_to_reference"], 1) + (
            f" ({record['seeds_reaching']}/{record['seeds']})" if partial else ""
        )

    seconds = [record["seconds_per_epoch"] for record in records]
    places = decimals(seconds)
    measured = [
        column
        for name in ("train_loss", _main_metric(table))
        for column in (_spread_column(name, records), _difference_column(name, records, reference))
    ]
    return [
        _Column("optimizer", [_name(record) for record in records], "left"),
        *measured,
        _Column("γ₀", [short(record["lr"]) for record in records]),
        _Column("schedule", [record["schedule"] for record in records], "left"),
        _Column(f"epochs to\n{_cut(reference, 12)}'s best", [reach(record) for record in records]),
        _Column("grid\nnear best", [f"{record['near_best']} of {record['tuning_runs']}" for record in records]),
        _Column("seconds\nan epoch", [fixed(second, places) for second in seconds]),
        _Column("state B/\nparameter", [short(record["state_bytes_per_parameter"]) for record in records]),
        _Column("runs", [f"{record['runs']:,}" for record in records]),
        _Column("epochs", [f"{record['epochs']:,}" for record in records]),
        _Column("time", [duration(record["seconds"]) for record in records]),
    ]


def _spread_column(name: str, records: Sequence[dict[str, Any]]) -> _Column:
    places = decimals(
        (record[name] for record in records),
        (abs(record[f"{name}_worst"] - record[f"{name}_best"]) for record in records),
    )
    cells = []
    for record in records:
        worst = "diverged" if record["diverged"] else fixed(record[f"{name}_worst"], places)
        cells.append(f"{fixed(record[name], places)} [{worst}, {fixed(record[f'{name}_best'], places)}]")
    return _Column(f"{measure_name(Metric(name, 'min'))}\nmean [worst, best]", cells)


def _difference_column(name: str, records: Sequence[dict[str, Any]], reference: str) -> _Column:
    margins = [(record[f"{name}_high"] - record[f"{name}_low"]) / 2 for record in records]
    places = decimals((), margins)
    cells = []
    for record, margin in zip(records, margins, strict=True):
        cell = "" if record["reference"] else signed(record[f"{name}_difference"], places)
        cells.append(cell if math.isnan(margin) else f"{cell} ± {fixed(margin, places)}")
    return _Column(f"minus\n{_cut(reference, 16)}", cells)


def _sentences(table: pd.DataFrame) -> Iterator[str]:
    reference = next((plain(name) for name in table.loc[table["reference"], "contender"]), "the reference")
    measures = ("train_loss", _main_metric(table))
    for name in measures:
        yield from (finding for finding in table[f"{name}_finding"] if finding)
    for name in measures:
        verdicts = table[f"{name}_verdict"]
        unclear = [plain(label) for label in table.loc[verdicts == "cannot tell", "contender"]]
        told = [plain(label) for label in table.loc[verdicts.isin(["better", "worse"]), "contender"]]
        where = f"On {measure_name(Metric(name, 'min'))} the seeds"
        if len(unclear) > 1 and not told:
            yield f"{where} cannot tell any optimizer from {reference}."
        elif len(unclear) > 3 and len(unclear) > len(told):
            yield f"{where} tell only {enumerate_words(told)} from {reference}."
        elif unclear:
            yield f"{where} cannot tell {enumerate_words(unclear, 'or')} from {reference}."
    if any(table[f"{name}_verdict"].any() for name in measures):
        yield (
            f"Differences are paired by seed, ± half their {percent(CONFIDENCE)} interval (Student t), each for its "
            f"own pair: of {count(len(table) - 1, 'comparison')} a column some may be chance."
        )
    for warnings in table["warnings"]:
        for warning in warnings:
            yield f"Warning: {warning}"


def _name(record: dict[str, Any]) -> str:
    return _cut(plain(record["contender"]), 32)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
