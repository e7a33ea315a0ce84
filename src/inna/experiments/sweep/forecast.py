"""Estimate the time that a study still needs, from a few real iterations."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inna.experiments.formatting import count, duration, printable, schedule, short
from inna.experiments.rows.results import Rows
from inna.experiments.rows.run import Run
from inna.experiments.study.study import Contender, Study
from inna.experiments.study.tuning import state
from inna.experiments.tasks.task import Task
from inna.experiments.training.loop import Pace
from inna.experiments.training.train import pace

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Forecast", "Part", "forecast", "print_forecast"]

Clock = Callable[[Run, Task], Pace]


@dataclass(frozen=True)
class Part:
    """The runs that an optimizer needs, and their seconds in one process, which are NaN if not measured."""

    contender: Contender
    tuning: tuple[Run, ...]
    finals: tuple[int, ...]
    seconds_per_epoch: float
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """The runs of all optimizers, how many are done and left, and the seconds; NaN if not measured."""

    parts: tuple[Part, ...]
    done: int
    runs: int
    epochs: int
    seconds: float


def forecast(study: Study, rows: Rows, task: Task | None, jobs: int, clock: Clock = pace) -> Forecast:
    """Return the runs that are missing in ``rows``, and an estimate of their time.

    Extensions of grids, processes that slow each other down, and runs that diverge early are not predicted.

    Args:
        study: the study.
        rows: of its runs that are done.
        task: its task; None to measure nothing.
        jobs: runs at once.
        clock: measures the `Pace` of a run; of each optimizer the one in the middle of its grid.
    """
    parts, done = [], 0
    for contender in study.contenders:
        plan, _, finals = state(study, contender, rows)
        tuning = tuple(run for run in plan if run not in rows)
        finals = () if tuning else finals
        done += len(plan) - len(tuning) + sum(run in rows for run in finals)
        left = study.seeds if tuning else tuple(run.seed for run in finals if run not in rows)
        if not tuning and not left:
            parts.append(Part(contender, (), (), math.nan, 0.0))
            continue
        middle = study.tuning_run(contender, contender.grid[len(contender.grid) // 2], contender.qs[0])
        measured = Pace(math.nan, math.nan) if task is None else clock(middle, task)
        # Before the first epoch both sets are evaluated once.
        epochs = len(tuning) * study.tuning_epochs + len(left) * study.epochs
        seconds = epochs * measured.epoch + (len(tuning) + len(left)) * measured.evaluation
        parts.append(Part(contender, tuning, left, measured.epoch, seconds))
    runs = sum(len(part.tuning) + len(part.finals) for part in parts)
    epochs = sum(len(part.tuning) * study.tuning_epochs + len(part.finals) * study.epochs for part in parts)
    return Forecast(
        tuple(parts), done, runs, epochs, math.fsum(part.seconds for part in parts) / max(1, min(jobs, runs))
    )


def print_forecast(foreseen: Forecast, study: Study, folder: Path, jobs: int, console: Console) -> None:
    """Print the runs that are left, a few lines for each optimizer, and the estimate if there is one."""
    for part in foreseen.parts:
        if not part.tuning and not part.finals:
            console.print(printable(f"{part.contender.label}: done", console))
            continue
        pace = "" if math.isnan(part.seconds_per_epoch) else f", about {short(part.seconds_per_epoch)} s per epoch"
        console.print(printable(f"{part.contender.label}{pace}", console))
        for q in part.contender.qs if part.tuning else ():
            lrs = " ".join(short(lr) for lr in sorted(run.lr for run in part.tuning if run.q == q))
            line = f"  tuning, seed {study.tuning_seed}, {count(study.tuning_epochs, 'epoch')}: γ₀ {lrs}; {schedule(q)}"
            console.print(printable(line, console))
        if part.finals:
            seeds = " ".join(map(str, part.finals))
            console.print(printable(f"  final, {count(study.epochs, 'epoch')}: seeds {seeds}", console))
    summary = (
        f"{study.dataset}, {study.model}, on {study.device}, results in {folder}: {count(foreseen.done, 'run')} done, "
        f"{foreseen.runs} to do, {count(foreseen.epochs, 'epoch')}."
    )
    console.print(printable(summary, console))
    if foreseen.runs and not math.isnan(foreseen.seconds):
        estimate = (
            f"Estimate, from a few iterations of each optimizer here: {duration(foreseen.seconds)} with {jobs} at "
            "once. A grid whose best value lies on its edge gets more runs, diverging runs end early, a busy machine "
            "is slower."
        )
        console.print(printable(estimate, console))
