"""Read the progress of the study in a folder; imports no framework."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inna.experiments.formatting import count, duration, print_line, printable
from inna.experiments.rows.origins import versions_note
from inna.experiments.rows.results import Rows, number
from inna.experiments.rows.row_files import read_rows
from inna.experiments.statistics.seed_rule import seeds_sentence
from inna.experiments.statistics.summary import summarize
from inna.experiments.study.remaining import Outlook, outlook
from inna.experiments.study.study import Study
from inna.experiments.study.tuning import Tuning, state
from inna.experiments.sweep.active_runs import (
    ActiveRun,
    ActiveSweep,
    read_active_runs,
    read_active_sweep,
    read_failures,
)
from inna.experiments.tasks.data_file import is_data_file

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Status", "print_status", "read_status", "status_document"]


@dataclass(frozen=True)
class Status:
    """The progress of a study.

    Attributes:
        study: the study.
        outlook: runs done, runs and epochs left (active ones included, failed ones not).
        diverged: how many of the finished runs diverged.
        parts: label -> the outlook of each optimizer alone.
        stages: label -> what the search of each optimizer does now; empty texts for grids.
        running: the active runs.
        failed: key -> (short description, error) of the runs that failed in the latest sweep and have no row.
        sweep: the active sweep; None if there is none.
        seconds: estimated computing time left, in one process; NaN before the first row.
        damaged: a line for each file that was skipped.
        origins: a line about results of other versions of inna; empty if there are none.
        seeds: how many seeds are used, and why no more, where they are added; else empty.
    """

    study: Study
    outlook: Outlook
    diverged: int
    parts: Mapping[str, Outlook]
    stages: Mapping[str, str]
    running: tuple[ActiveRun, ...]
    failed: Mapping[str, tuple[str, str]]
    sweep: ActiveSweep | None
    seconds: float
    damaged: tuple[str, ...]
    origins: str
    seeds: str = ""


def read_status(folder: Path) -> Status:
    """Return the progress of the study in ``folder``; nothing is written.

    Raises:
        FileNotFoundError: there is no such folder, or it contains no study.json.
        DamagedRowError: study.json is damaged.
    """
    folder = Path(folder)
    damaged: list[str] = []
    rows = read_rows(folder, on_damage=damaged.append)
    study = Study.load(folder)
    keys = {run.key for run in rows}
    failed = {key: failure for key, failure in read_failures(folder, damaged.append).items() if key not in keys}
    tunings = {contender.label: state(study, contender, rows) for contender in study.contenders}
    failed_runs = [run for tuning in tunings.values() for run in tuning.runs if run.key in failed]
    running = tuple(state for state in read_active_runs(folder, damaged.append) if state.key not in keys)
    parts = {
        contender.label: outlook(
            dataclasses.replace(study, contenders=(contender,), reference=contender.label, budget=""), rows, failed_runs
        )
        for contender in study.contenders
    }
    sweep = read_active_sweep(folder, damaged.append)
    return Status(
        study=study,
        outlook=outlook(study, rows, failed_runs),
        diverged=sum(result.get("status") == "diverged" for result in rows.values()),
        parts=parts,
        stages={label: tuning.stage for label, tuning in tunings.items()},
        running=running,
        failed=failed,
        sweep=sweep,
        seconds=_seconds_left(rows, tunings, parts, running),
        damaged=tuple(damaged),
        origins=versions_note(rows.values()),
        seeds=seeds_sentence(summarize(study, rows)) if study.seed_cap else "",
    )


def print_status(status: Status, folder: Path, console: Console) -> None:
    """Print the runs done, running, failed and left, and the time left."""
    from rich.table import Table

    study, ahead = status.study, status.outlook
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    stages = any(status.stages.values())
    for head in ("optimizer", "done", "left", *(["tuning"] if stages else [])):
        table.add_column(head, justify="right" if head in ("done", "left") else "left")
    for label, part in status.parts.items():
        stage = [printable(status.stages[label], console)] if stages else []
        table.add_row(printable(label, console), str(part.done), str(part.left), *stage)
    console.print(table)
    console.print()
    running, failed = len(status.running), len(status.failed)
    runs = f"{count(ahead.done, 'run')} done ({status.diverged} diverged), {running} running, {failed} failed"
    lines = [f"{study.dataset}, {study.model}, on {study.device}, results in {folder}", f"{runs}, {ahead.left} left"]
    if is_data_file(study.dataset):
        lines.append(f"data: {study.dataset}, {study.source}")
    lines += [f"running: {state.text}, epoch {state.epoch}/{state.epochs}{_loss(state)}" for state in status.running]
    lines += [f"failed: {text}: {error}" for text, error in status.failed.values()]
    lines += [f"damaged: {line}" for line in status.damaged]
    lines += filter(None, [status.origins, status.seeds])
    if status.sweep is not None:
        since = duration(max(0.0, time.time() - status.sweep.started))
        lines.append(
            f"A sweep is running: process {status.sweep.pid} on {status.sweep.host}, {status.sweep.jobs} at once, "
            f"for {since}."
        )
    elif ahead.left:
        lines.append("No sweep is running. Resume with: " + (study.command or "(from Python)"))
    if not ahead.left:
        lines.append("Nothing is left to do.")
    elif math.isnan(status.seconds):
        lines.append("time left: not known before the first run is done")
    else:
        jobs = status.sweep.jobs if status.sweep else 1
        lines.append(f"time left: about {duration(status.seconds / jobs)} with {jobs} at once")
    for line in lines:
        print_line(console, line)


def status_document(status: Status) -> dict[str, Any]:
    """Return the progress as plain values, for JSON; null stands for an unknown time."""
    study, sweep = status.study, status.sweep
    jobs = sweep.jobs if sweep else 1
    return {
        "dataset": study.dataset,
        "model": study.model,
        "device": study.device,
        "done": status.outlook.done,
        "diverged": status.diverged,
        "left": status.outlook.left,
        "epochs_left": status.outlook.epochs_left,
        "seconds_left": None if math.isnan(status.seconds) else status.seconds / jobs,
        "optimizers": [
            {"optimizer": label, "done": part.done, "left": part.left, "tuning": status.stages[label] or None}
            for label, part in status.parts.items()
        ],
        "running": [
            {"run": each.text, "epoch": each.epoch, "epochs": each.epochs, "train_loss": _finite(each.train_loss)}
            for each in status.running
        ],
        "failed": [{"run": text, "error": error} for text, error in status.failed.values()],
        "sweep": sweep._asdict() if sweep else None,
        "damaged": list(status.damaged),
        "command": study.command or None,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _seconds_left(
    rows: Rows,
    tunings: Mapping[str, Tuning],
    parts: Mapping[str, Outlook],
    running: Collection[ActiveRun],
) -> float:
    """Return the epochs left times the mean seconds of an epoch.

    The mean is that of the same optimizer if it has rows, else of all.
    """
    costs = {
        label: [
            (number(result.get("seconds", 0.0)), max(1, len(result.get("history", ())) - 1))
            for _, result in tuning.done(rows)
        ]
        for label, tuning in tunings.items()
    }
    everything = _mean([cost for each in costs.values() for cost in each])
    total = 0.0
    for label, part in parts.items():
        total += part.epochs_left * (_mean(costs[label]) if costs[label] else everything)
    left = total - everything * sum(state.epoch for state in running)
    return 0.0 if left < 0 else left


def _mean(costs: list[tuple[float, int]]) -> float:
    return math.fsum(seconds for seconds, _ in costs) / sum(epochs for _, epochs in costs) if costs else math.nan


def _loss(state: ActiveRun) -> str:
    return "" if state.train_loss is None else f", training loss {state.train_loss:.4g}"
