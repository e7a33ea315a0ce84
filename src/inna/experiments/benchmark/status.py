"""Read the progress of a benchmark in a folder; imports no framework."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from inna.experiments.benchmark.suite import TRACKS, Suite
from inna.experiments.formatting import count, duration, print_line, printable
from inna.experiments.sweep.status import Status, read_status, status_document

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Part", "benchmark_document", "print_benchmark_status", "read_benchmark_status"]


class Part(NamedTuple):
    """One study of a benchmark; `status` is None before its first run."""

    task: str
    track: str
    status: Status | None


def read_benchmark_status(folder: Path) -> list[Part]:
    """Return the progress of every study of the benchmark in ``folder``.

    Raises:
        FileNotFoundError: there is no benchmark.json.
        DamagedRowError: benchmark.json or a study.json is damaged.
    """
    parts = []
    for task in Suite.load(folder).tasks:
        for track in TRACKS:
            try:
                status = read_status(Path(folder) / task.folder(track))
            except FileNotFoundError:
                status = None
            parts.append(Part(task.name, track, status))
    return parts


def print_benchmark_status(parts: Sequence[Part], folder: Path, console: Console) -> None:
    """Print the runs done and left of each study, and the time left."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("task", "track", "done", "failed", "left"):
        table.add_column(head, justify="left" if head in ("task", "track") else "right")
    for task, track, status in parts:
        cells = ["not begun", "", ""]
        if status is not None:
            cells = [str(status.outlook.done), str(len(status.failed)), str(status.outlook.left)]
        table.add_row(*(printable(text, console) for text in (task, track, *cells)))
    console.print(table)
    console.print()
    begun = [status for *_, status in parts if status is not None]
    done, left = (sum(getattr(status.outlook, name) for status in begun) for name in ("done", "left"))
    print_line(console, f"{count(done, 'run')} done, {left} left in the studies begun, results in {folder}")
    for task, track, status in parts:
        for damage in status.damaged if status else ():
            print_line(console, f"damaged: {task}, {track}: {damage}")
        if status and status.sweep:
            print_line(console, f"A sweep is running: {task}, {track}. Its runs: inna status {folder}/{task}-{track}")
    seconds = sum(status.seconds for status in begun if status.outlook.left)
    waiting = sum(status is None for *_, status in parts)
    if waiting:
        print_line(console, f"{count(waiting, 'study', 'studies')} not begun. Run the same command to resume.")
    elif not left:
        print_line(console, "Nothing is left to do.")
    elif not math.isnan(seconds):
        print_line(console, f"time left: about {duration(seconds)} with 1 at once")


def benchmark_document(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the progress as plain values, for JSON; null: not begun."""
    return {
        "studies": [
            {"task": task, "track": track, "status": status_document(status) if status else None}
            for task, track, status in parts
        ]
    }
