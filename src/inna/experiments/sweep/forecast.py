"""Estimate the time that a study still needs, from a few real iterations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inna.experiments.formatting import count, duration, printable, schedule, seeds, short
from inna.experiments.rows.results import Rows
from inna.experiments.rows.run import Run
from inna.experiments.study.halving import rungs
from inna.experiments.study.remaining import Remaining, remaining
from inna.experiments.study.study import Contender, Study
from inna.experiments.tasks.task import Task
from inna.experiments.training.loop import Pace
from inna.experiments.training.optimizers import RefusedError
from inna.experiments.training.train import pace as measure_pace

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Forecast", "Part", "forecast", "print_forecast"]

Clock = Callable[[Run, Task], Pace]


@dataclass(frozen=True)
class Part:
    """The runs that an optimizer needs, and their seconds in one process.

    The seconds are NaN if none was measured.
    """

    contender: Contender
    remaining: Remaining
    seconds_per_epoch: float
    seconds: float


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


def forecast(study: Study, rows: Rows, task: Task | None, jobs: int, clock: Clock = measure_pace) -> Forecast:
    """Return the runs that are missing in ``rows``, and an estimate of their time.

    Extensions and refinements of grids, moves of a search's refinement, processes that slow each other down, and runs
    that diverge early are not predicted.

    Args:
        study: the study.
        rows: of its runs that are done.
        task: its task; None to measure nothing.
        jobs: runs at once.
        clock: measures the `Pace` of a run; of each optimizer its first, of a grid the one in the middle.

    Raises:
        ValueError: an optimizer fails in its first steps; its name begins the message.
    """
    parts = []
    for contender in study.contenders:
        left = remaining(study, contender, rows)
        pace, seconds = Pace(math.nan, math.nan), 0.0
        if left.runs:
            if task is not None and left.first is not None:
                pace = _measured(clock, (left.first, *left.tuning), task, contender.label)
            # Before the first epoch both sets are evaluated once.
            seconds = left.epochs * pace.epoch + left.runs * pace.evaluation
        parts.append(Part(contender, left, pace.epoch, seconds))
    runs = sum(part.remaining.runs for part in parts)
    return Forecast(
        tuple(parts),
        sum(part.remaining.done for part in parts),
        runs,
        sum(part.remaining.epochs for part in parts),
        math.fsum(part.seconds for part in parts) / max(1, min(jobs, runs)),
    )


def _measured(clock: Clock, runs: Iterable[Run], task: Task, label: str) -> Pace:
    """Return the pace of the first run whose optimizer accepts its settings.

    An error of an optimizer, which may be the first step's, is given the label.
    """
    refusal: Exception | None = None
    for run in runs:
        try:
            return clock(run, task)
        except RefusedError as error:
            refusal = refusal or error
        except (ValueError, TypeError, RuntimeError) as error:
            refusal = error
            break
    raise ValueError(f"{label}: {next(iter(str(refusal).splitlines()), '')}") from refusal


def _tuning_lines(study: Study, part: Part) -> Iterator[str]:
    tuning = f"  tuning, {seeds(study.tuning_seeds)}"
    if study.trials and part.remaining.tuning:
        lengths = " ".join(map(str, rungs(study.tuning_epochs)))
        left = count(len(part.remaining.tuning) + part.remaining.ahead.runs, "run")
        yield f"{tuning}: {count(study.trials, 'trial')}, compared after {lengths} epochs; {left} left"
        return
    for q in part.contender.qs if part.remaining.tuning else ():
        lrs = " ".join(short(lr) for lr in sorted(run.lr for run in part.remaining.tuning if run.decay == q))
        yield f"{tuning}, {count(study.tuning_epochs, 'epoch')}: γ₀ {lrs}; {schedule(q)}"


def print_forecast(estimate: Forecast, study: Study, folder: Path, jobs: int, console: Console) -> None:
    """Print the runs that are left, by optimizer, and the estimate, if any."""
    for part in estimate.parts:
        if not part.remaining.runs:
            console.print(printable(f"{part.contender.label}: done", console))
            continue
        pace = "" if math.isnan(part.seconds_per_epoch) else f", about {short(part.seconds_per_epoch)} s per epoch"
        console.print(printable(f"{part.contender.label}{pace}", console))
        for line in _tuning_lines(study, part):
            console.print(printable(line, console))
        if part.remaining.finals:
            seeds = " ".join(map(str, part.remaining.finals))
            console.print(printable(f"  final, {count(study.epochs, 'epoch')}: seeds {seeds}", console))
        if part.remaining.untuned:
            seeds = " ".join(map(str, part.remaining.untuned))
            rate = f"γ {short(part.contender.untuned_lr or math.nan)}"
            line = f"  untuned, {count(study.epochs, 'epoch')}: {rate}; constant; seeds {seeds}"
            console.print(printable(line, console))
    summary = (
        f"{study.dataset}, {study.model}, on {study.device}, results in {folder}: {count(estimate.done, 'run')} done, "
        f"{estimate.runs} to do, {count(estimate.epochs, 'epoch')}."
    )
    console.print(printable(summary, console))
    if estimate.runs and not math.isnan(estimate.seconds):
        duration_words = (
            f"Estimate, from a few iterations of each optimizer here: {duration(estimate.seconds)} with {jobs} at "
            f"once. {_more_runs(study)} more runs, diverging runs end early, a busy machine is slower."
        )
        console.print(printable(duration_words, console))
    if words := _more_seeds(estimate, study, jobs):
        console.print(printable(words, console))


def _more_runs(study: Study) -> str:
    if study.trials:
        return "A refinement that moves gets"
    return f"A grid whose best value lies on its edge{', and each refinement,' if study.refinement else ''} gets"


def _more_seeds(estimate: Forecast, study: Study, jobs: int) -> str:
    """Return what the seeds that may be added cost at most; "" if none may be."""
    more = study.most_seeds - len(study.seeds)
    if not more:
        return ""
    kinds = [2 if part.contender.untuned_lr is not None else 1 for part in estimate.parts]
    runs = more * sum(kinds)
    words = (
        f"Seeds are added until the winner on training loss is established: with {study.seed_cap} seeds up to "
        f"{count(runs, 'run')} more, {count(runs * study.epochs, 'epoch')}"
    )
    # Of an optimizer that is done the pace was not measured.
    known = [part.seconds_per_epoch for part in estimate.parts if math.isfinite(part.seconds_per_epoch)]
    if not known:
        return f"{words}."
    mean = math.fsum(known) / len(known)
    paces = [part.seconds_per_epoch if math.isfinite(part.seconds_per_epoch) else mean for part in estimate.parts]
    seconds = more * study.epochs * math.fsum(kind * pace for kind, pace in zip(kinds, paces, strict=True)) / jobs
    first = 0.0 if math.isnan(estimate.seconds) else estimate.seconds
    return f"{words}; the whole then takes {duration(first)} to {duration(first + seconds)} with {jobs} at once."
