"""The results of a study as a table for the terminal, and its sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from inna.experiments.formatting import enumerate_words, percent, plain, printable
from inna.experiments.report.difference_words import Compared
from inna.experiments.report.results_table import Line, lines
from inna.experiments.report.sentences import (
    WIDTH_NAME,
    headline,
    measure_name,
    near_best_name,
    timing_warning,
    warnings_of,
)
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import CONFIDENCE
from inna.experiments.statistics.seed_rule import seeds_sentence
from inna.experiments.statistics.summary import Summary

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_summary", "print_table", "sentences"]


def print_table(summary: Summary, console: Console) -> None:
    """Print the results in pieces that fit ``console``, then what is significant."""
    _print_columns(_columns(summary), console)
    for sentence in sentences(summary):
        console.print(printable(sentence, console))


def print_summary(summary: Summary, console: Console) -> None:
    """Print who leads in two sentences, a table of five columns, and warnings."""
    for sentence in _leaders(summary):
        console.print(printable(sentence, console))
    console.print()
    _print_columns(_first_columns(summary), console)
    if any(line.measures[0].compared.comparison for line in lines(summary)):
        console.print(printable("n.s.: not significant, corrected for multiple comparisons.", console))
    for sentence in _warnings(summary):
        console.print(printable(sentence, console))


def _print_columns(found: Sequence[_Column], console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    first, *others = found
    for columns in _pack(first, others, console.width):
        grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        for column in columns:
            head = Text("\n").join(printable(line, console) for line in column.head.split("\n"))
            grid.add_column(head, justify=column.justify, no_wrap=True)
        for cells in zip(*(column.cells for column in columns), strict=True):
            grid.add_row(*(printable(cell, console) for cell in cells))
        console.print(grid)
        console.print()


class _Column(NamedTuple):
    head: str
    cells: list[str]
    justify: Literal["left", "right"] = "right"

    @property
    def width(self) -> int:
        from rich.cells import cell_len

        return max(cell_len(line) for text in (self.head, *self.cells) for line in text.split("\n")) + 2


def _pack(first: _Column, others: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    """Yield the columns in pieces no wider than ``width``.

    Each has at least two columns and is led by ``first``.
    """
    piece = [first]
    for column in others:
        if len(piece) > 1 and sum(each.width for each in piece) + column.width > width:
            yield piece
            piece = [first]
        piece.append(column)
    yield piece


def _first_columns(summary: Summary) -> list[_Column]:
    """Return the columns that decide.

    The means of the loss and the main metric, one comparison, the learning rate.
    """
    found, measures = lines(summary), _shown(summary)
    compared = [line.measures[0].compared for line in found]
    loss, *others = (
        _Column(measure_name(measure).replace(" ", "\n", 1), [line.measures[place].mean for line in found])
        for place, measure in enumerate(measures)
    )
    against = [f"{cell.mean}, n.s." if cell.comparison == "not significant" else cell.mean for cell in compared]
    return [
        _labels(found),
        loss,
        _Column(f"compared with\n{_cut(plain(summary.study.reference), 16)}", against),
        *others,
        _Column("learning\nrate (γ)", ["not tuned" if line.tuned.fixed else line.tuned.lr for line in found]),
    ]


def _labels(found: Sequence[Line]) -> _Column:
    return _Column("optimizer", [_cut(plain(line.label), 32) for line in found], "left")


def _columns(summary: Summary) -> list[_Column]:
    found = lines(summary)
    reference = plain(summary.study.reference)
    measured = []
    for place, measure in enumerate(_shown(summary)):
        cells = [line.measures[place] for line in found]
        mean = "geometric mean" if summary.ratios(measure) else "mean"
        spreads = [f"{cell.mean} {cell.ends}".rstrip() for cell in cells]
        measured += [
            _Column(f"{measure_name(measure)}\n{mean} [worst, best]", spreads),
            _Column(f"compared with\n{_cut(reference, 16)}", [_margin(cell.compared) for cell in cells]),
        ]
    settings = [line.tuned.settings for line in found]
    untuned = [f"{line.untuned.mean} {line.untuned.ends}".rstrip() for line in found if line.untuned]
    near_best = near_best_name(summary.study).lower().replace(" ", "\n", 1)
    width = WIDTH_NAME.lower().replace(" (", "\n(")
    return [
        _labels(found),
        *measured,
        *([_Column("training loss,\nuntuned", untuned)] if untuned else []),
        _Column("learning\nrate (γ)", [f"{line.tuned.lr}{' (not tuned)' * line.tuned.fixed}" for line in found]),
        _Column("schedule", [line.tuned.schedule for line in found], "left"),
        *([_Column("settings", settings, "left")] if any(settings) else []),
        _Column(f"epochs to\n{_cut(reference, 12)}'s best", [_reached(line) for line in found]),
        _Column(width, [line.tuned.width for line in found]),
        _Column(near_best, [line.tuned.near_best for line in found]),
        _Column("seconds\nper epoch", [line.cost.seconds_per_epoch for line in found]),
        _Column("state B/\nparameter", [line.cost.state_bytes for line in found]),
        _Column("runs", [line.cost.runs for line in found]),
        _Column("epochs", [line.cost.epochs for line in found]),
        _Column("time", [line.cost.duration for line in found]),
    ]


def _margin(cell: Compared) -> str:
    # The interval of a ratio that is not significant would be the widest text of the table.
    return f"{cell.mean} (n.s.)" if cell.comparison == "not significant" and "×" in cell.mean else cell.margin


def _reached(line: Line) -> str:
    reached = line.reached
    return f"{reached.epochs} ({reached.n}/{reached.seeds})" if 0 < reached.n < reached.seeds else reached.epochs


def _shown(summary: Summary) -> tuple[Metric, ...]:
    """Return the training loss and the main metric."""
    return summary.measures[:2]


def sentences(summary: Summary) -> Iterator[str]:
    """Yield the sentences below the table: who leads, what is significant, warnings."""
    yield from _leaders(summary)
    found, reference = lines(summary), plain(summary.study.reference)
    for place, measure in enumerate(_shown(summary)):
        words = [(plain(line.label), line.measures[place].compared.comparison) for line in found]
        unclear = [label for label, word in words if word == "not significant"]
        clear = [label for label, word in words if word in ("better", "worse")]
        name = measure_name(measure)
        if len(unclear) > 1 and not clear:
            yield f"No difference to {reference} in {name} is significant."
        elif len(unclear) > 3 and len(unclear) > len(clear):
            yield f"The difference to {reference} in {name} is significant for {enumerate_words(clear)} only."
        elif unclear:
            yield f"The difference to {reference} in {name} is not significant for {enumerate_words(unclear, 'or')}."
    if added := seeds_sentence(summary):
        yield added
    cells = [cell.compared for line in found for cell in line.measures[:2]]
    if any(cell.comparison for cell in cells):
        yield (
            f"Intervals: {percent(CONFIDENCE)}, paired by seed. Significant (else n.s.): corrected for multiple "
            f"comparisons{' and repeated looks' if summary.study.seed_cap else ''}."
        )
    yield from _warnings(summary)


def _leaders(summary: Summary) -> Iterator[str]:
    for measure in _shown(summary):
        labels, sentence = headline(summary, measure)
        have = "have" if len(labels) > 1 else "has"
        best = f"{have} the {'lowest' if measure.goal == 'min' else 'highest'} {measure_name(measure)}"
        yield f"{enumerate_words(labels)} {best}. {sentence}" if labels else sentence


def _warnings(summary: Summary) -> Iterator[str]:
    warnings = [timing_warning(summary), *(each for entry in summary.entries for each in warnings_of(summary, entry))]
    yield from (f"Warning: {warning}" for warning in warnings if warning)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
