"""``inna compare`` and ``inna train``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.messages import checking
from inna.cli.options import (
    Backend,
    BatchSize,
    DataDir,
    Dataset,
    Device,
    Jobs,
    Minutes,
    Model,
    OwnTask,
    Precision,
    Scheduler,
    TensorBoard,
    check_minutes,
    check_scheduler,
    default_folder,
    keep_data_in,
    listed,
    processes,
    task_name,
)
from inna.cli.run_study import carry_out, conclude
from inna.experiments.study.study import EPOCHS, SCHEDULES, SEEDS, TUNING_EPOCHS, TUNING_SEED

__all__ = [
    "compare",
]


def compare(
    *,
    dataset: Dataset = None,
    model: Model = "",
    task: OwnTask = None,
    optimizer: Annotated[
        tuple[str, ...],
        Parameter(
            help="A contender, once for each: a name with settings, such as inna:alpha=.5,beta=.1 or "
            "adamw:weight_decay=.01, any optimizer of torch.optim, or a class as package.module:Class. "
            "[default: INNA at (.1,.1), (.5,.1), (.5,.5), (.5,1), SGD, heavy ball, AdaGrad, Adam]",
            show_default=False,
        ),
    ] = (),
    epochs: Annotated[int, Parameter(help="Epochs of the final runs.")] = EPOCHS,
    tuning_epochs: Annotated[int, Parameter(help="Epochs of the tuning runs.")] = TUNING_EPOCHS,
    seeds: Annotated[
        tuple[int, ...],
        Parameter(help="Seeds of the final runs: 1,2,3.", converter=listed(int), consume_multiple=True),
    ] = SEEDS,
    tuning_seed: Annotated[int, Parameter(help="Seed of the tuning runs, none of --seeds.")] = TUNING_SEED,
    grid: Annotated[
        tuple[float, ...] | None,
        Parameter(
            help="Step sizes γ0 that are tried, extended where the best is on the edge. "
            "[default: nine half-decades, 1e-4 to 1]",
            converter=listed(float),
            consume_multiple=True,
        ),
    ] = None,
    schedules: Annotated[
        tuple[float, ...],
        Parameter(
            help="Powers q of the decay γ0 (k+1)^-q over iterations k that are tried; 0 is a constant step.",
            converter=listed(float),
            consume_multiple=True,
        ),
    ] = SCHEDULES,
    budget: Annotated[
        str,
        Parameter(
            help="At most so much, shared equally among the optimizers: 20m, 1.5h, 200runs, 3000epochs. "
            "[default: no limit]",
            show_default=False,
        ),
    ] = "",
    reference: Annotated[
        str | None, Parameter(help="The contender that others are compared with. [default: sgd, or the first]")
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    jobs: Jobs = None,
    backend: Backend = "local",
    scheduler: Scheduler = None,
    minutes: Minutes = None,
    tensorboard: TensorBoard = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, Parameter(help="Folder of rows and report. [default: runs/NAME]")] = None,
) -> int:
    """Compare optimizers fairly on a task: tune each, run the seeds, show the table, write report.html.

    Each optimizer's γ0 and schedule are those with the least training loss after the tuning epochs; test data chooses
    nothing. Rows that the folder holds already are not run again.
    """
    with checking():
        from inna.experiments.comparison import DEFAULT_OPTIMIZERS, make_study
        from inna.experiments.study.study import HALF_DECADES
        from inna.experiments.training.tensorboard import check_tensorboard

        name = task_name(dataset, task)
        keep_data_in(data_dir)
        study = make_study(
            name,
            optimizer or DEFAULT_OPTIMIZERS,
            model=model,
            epochs=epochs,
            tuning_epochs=tuning_epochs,
            seeds=seeds,
            tuning_seed=tuning_seed,
            grid=grid or HALF_DECADES,
            schedules=schedules,
            batch_size=batch_size,
            reference=reference,
            budget=budget,
            device=device,
            precision=precision,
            command=shlex.join(["inna", *sys.argv[1:]]),
        )
        check_minutes(minutes)
        check_scheduler(backend, scheduler, jobs)
        check_tensorboard(tensorboard)
        at_once = processes(jobs, study.device)
    folder = out or default_folder(name, model)
    console = Console()
    pages, failures = carry_out(
        study, folder, console, jobs=at_once, minutes=minutes, scheduler=scheduler, tensorboard=tensorboard
    )
    return conclude(console, pages, failures)
