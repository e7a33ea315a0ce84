"""The verdict of a benchmark on the terminal, and as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inna.experiments.benchmark.judged import Judged
from inna.experiments.benchmark.report.words import MEASURE_NAMES, TRACK_NAMES, inna_sentence, times, verdict_sentence
from inna.experiments.benchmark.suite import TRACKS
from inna.experiments.formatting import percent, print_line, printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["print_verdict", "verdict_document"]


def print_verdict(judged: Judged, console: Console) -> None:
    """Print the places of the optimizers in each track, and the verdict in words."""
    from rich.table import Table

    for track in TRACKS:
        known = {
            measure: judged.verdicts[track, measure] for measure in MEASURE_NAMES if (track, measure) in judged.verdicts
        }
        if not known:
            continue
        print_line(console, f"{TRACK_NAMES[track]}: mean ratio to the best of each task, and how often first")
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("Optimizer", no_wrap=True)
        for verdict in known.values():
            table.add_column(f"{verdict.scores.title}\n({len(verdict.scores.tasks)} tasks)", justify="right")
        first = next(iter(known.values()))
        for place in first.standings:
            cells = []
            for verdict in known.values():
                own = verdict.standing(place.label)
                cells.append(f"{times(own.ratio)}  {percent(own.best)}")
            table.add_row(*(printable(text, console) for text in (place.label, *cells)))
        console.print(table)
        for measure in known:
            for sentence in (verdict_sentence(judged, track, measure), inna_sentence(judged, track, measure)):
                if sentence:
                    console.print(printable(sentence, console))
        console.print()


def verdict_document(judged: Judged) -> dict[str, Any]:
    """Return places and verdict sentences as plain values, for JSON."""
    return {
        "missing": judged.benchmark.missing(judged.benchmark.begun),
        "verdicts": [
            {
                "track": track,
                "measure": measure,
                "tasks": list(verdict.scores.tasks),
                "optimizers": [
                    {
                        "optimizer": each.label,
                        "mean_ratio": each.ratio,
                        "interval": [each.low, each.high],
                        "first_in": each.best,
                        "tasks_reached": each.reached,
                    }
                    for each in verdict.standings
                ],
                "verdict": [
                    text
                    for text in (verdict_sentence(judged, track, measure), inna_sentence(judged, track, measure))
                    if text
                ],
            }
            for (track, measure), verdict in judged.verdicts.items()
        ],
    }
