"""Estimate the time that a study still needs, from a few real iterations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from inna.experiments.formatting import count, duration, printable, schedule, seeds, short
from inna.experiments.rows.results import Rows, epochs_added
from inna.experiments.rows.run import Run
from inna.experiments.study.halving import Ahead, rungs
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
    """The runs that an optimizer needs, and their seconds in one process.

    The seconds are NaN if none was measured.

    ``ahead`` are the runs of a search that follow those in ``tuning``, ``epochs`` those of all.
    """

    contender: Contender
    tuning: tuple[Run, ...]
    ahead: Ahead
    finals: tuple[int, ...]
    epochs: int
    seconds_per_epoch: float
    seconds: float

    @property
    def runs(self) -> int:
        """The number of runs that are left."""
        return len(self.tuning) + self.ahead.runs + len(self.finals)


@dataclass(frozen=True)
class Forecast:
    """The runs of all optimizers, how many are done and left, and the seconds.

    NaN if not measured.
    """

    parts: tuple[Part, ...]
    done: int
    runs: int
    epochs: int
    seconds: float


def forecast(study: Study, rows: Rows, task: Task | None, jobs: int, clock: Clock = pace) -> Forecast:
    """Return the runs that are missing in ``rows``, and an estimate of their time.

    Extensions of grids, moves of a search's refinement, processes that slow each other down, and runs that diverge
    early are not predicted.

    Args:
        study: the study.
        rows: of its runs that are done.
        task: its task; None to measure nothing.
        jobs: runs at once.
        clock: measures the `Pace` of a run; of each optimizer its first, of a grid the one in the middle.
    """
    parts, done = [], 0
    for contender in study.contenders:
        plan, _, finals, _, ahead = state(study, contender, rows)
        added = dict(zip(plan, epochs_added(plan), strict=True))
        tuning = tuple(run for run in plan if run not in rows)
        finals, ahead = ((), ahead) if tuning else (finals, Ahead())
        done += len(plan) - len(tuning) + sum(run in rows for run in finals)
        left = study.seeds if tuning else tuple(run.seed for run in finals if run not in rows)
        if not tuning and not left:
            parts.append(Part(contender, (), Ahead(), (), 0, math.nan, 0.0))
            continue
        measured = Pace(math.nan, math.nan) if task is None else clock(plan[0], task)
        epochs = sum(added[run] for run in tuning) + ahead.epochs + len(left) * study.epochs
        part = Part(contender, tuning, ahead, left, epochs, measured.epoch, math.nan)
        # Before the first epoch both sets are evaluated once.
        parts.append(replace(part, seconds=epochs * measured.epoch + part.runs * measured.evaluation))
    runs, epochs = sum(part.runs for part in parts), sum(part.epochs for part in parts)
    return Forecast(
        tuple(parts), done, runs, epochs, math.fsum(part.seconds for part in parts) / max(1, min(jobs, runs))
    )


def _tuning_lines(study: Study, part: Part) -> Iterator[str]:
    tuning = f"  tuning, {seeds(study.tuning_seeds)}"
    if study.trials and part.tuning:
        lengths = " ".join(map(str, rungs(study.tuning_epochs)))
        left = count(part.runs - len(part.finals), "run")
        yield f"{tuning}: {count(study.trials, 'trial')}, compared after {lengths} epochs; {left} left"
        return
    for q in part.contender.qs if part.tuning else ():
        lrs = " ".join(short(lr) for lr in sorted(run.lr for run in part.tuning if run.decay == q))
        yield f"{tuning}, {count(study.tuning_epochs, 'epoch')}: γ₀ {lrs}; {schedule(q)}"


def print_forecast(foreseen: Forecast, study: Study, folder: Path, jobs: int, console: Console) -> None:
    """Print the runs that are left, by optimizer, and the estimate, if any."""
    for part in foreseen.parts:
        if not part.tuning and not part.finals:
            console.print(printable(f"{part.contender.label}: done", console))
            continue
        pace = "" if math.isnan(part.seconds_per_epoch) else f", about {short(part.seconds_per_epoch)} s per epoch"
        console.print(printable(f"{part.contender.label}{pace}", console))
        for line in _tuning_lines(study, part):
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
            f"once. {'A refinement that moves' if study.trials else 'A grid whose best value lies on its edge'} gets "
            "more runs, diverging runs end early, a busy machine is slower."
        )
        console.print(printable(estimate, console))
