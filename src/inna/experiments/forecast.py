"""What a study would run, and about how long that takes, from a few real iterations of each optimizer here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from inna.experiments.rows import Run
from inna.experiments.study import Contender, Study, choose, tuning_plan
from inna.experiments.tasks import Task
from inna.experiments.training import Pace, pace

__all__ = ["Forecast", "Part", "forecast"]

Clock = Callable[[Run, Task], Pace]


@dataclass(frozen=True)
class Part:
    """What a contender would run: tuning and final runs that are left, and the seconds of computing in one process."""

    contender: Contender
    tuning: tuple[Run, ...]
    finals: int
    seconds_per_epoch: float
    seconds: float


@dataclass(frozen=True)
class Forecast:
    """The parts, how many rows are there already, and the time on the clock, in seconds."""

    parts: tuple[Part, ...]
    done: int
    runs: int
    epochs: int
    seconds: float


def forecast(
    study: Study, rows: Mapping[Run, Mapping[str, Any]], task: Task, jobs: int, clock: Clock = pace
) -> Forecast:
    """The runs of ``study`` that ``rows`` do not hold, and an estimate of their time.

    Grids that will be extended, processes that slow each other down, and runs that diverge early are not foreseen.

    Args:
        clock: measures a run's `Pace`; each contender's at the middle of its grid.
    """
    parts, done = [], 0
    for contender in study.contenders:
        plan = tuning_plan(study, contender, rows)
        tuning = tuple(run for run in plan if run not in rows)
        choice = choose(study, contender, rows)
        finals = study.final_runs(contender, choice) if choice is not None and not tuning else []
        finished = sum(run in rows for run in finals)
        done += len(plan) - len(tuning) + finished
        left = len(study.seeds) - finished if tuning or finals else 0
        if not tuning and not left:
            parts.append(Part(contender, (), 0, math.nan, 0.0))
            continue
        middle = study.tuning_run(contender, contender.grid[len(contender.grid) // 2], contender.qs[0])
        measured = clock(middle, task)
        # Before the first epoch everything is measured once.
        epochs = len(tuning) * study.tuning_epochs + left * study.epochs
        seconds = epochs * measured.epoch + (len(tuning) + left) * measured.evaluation
        parts.append(Part(contender, tuning, left, measured.epoch, seconds))
    runs = sum(len(part.tuning) + part.finals for part in parts)
    epochs = sum(len(part.tuning) * study.tuning_epochs + part.finals * study.epochs for part in parts)
    return Forecast(
        tuple(parts), done, runs, epochs, math.fsum(part.seconds for part in parts) / max(1, min(jobs, runs))
    )
