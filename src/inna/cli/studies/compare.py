"""The command ``inna compare``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import (
    OUTPUT,
    Compute,
    DataFolder,
    DataFolderOptions,
    Protocol,
    ProtocolArguments,
    Show,
    Sweep,
    Task,
    TaskOptions,
    arguments,
    checking,
    default_folder,
    folder_for,
    waiting,
)
from inna.cli.studies.run_study import DryRun, conclude, missing_data, print_plan, run_study
from inna.experiments.formatting import print_line
from inna.experiments.study.optimizer_names import DEFAULT_OPTIMIZERS
from inna.experiments.study.options import ComputeOptions
from inna.experiments.sweep.options import SweepOptions

__all__ = ["compare"]


def compare(
    *,
    optimizer: Annotated[
        tuple[str, ...],
        Parameter(
            help="An optimizer; repeat the option for each. A name with settings, such as inna:alpha=.5,beta=.1 or "
            "adamw:weight_decay=.01, any optimizer of torch.optim, or a class as package.module:Class. A learning rate "
            "that is given is not tuned: sgd:lr=.1. Without --grid a setting may be a range: "
            "adamw:weight_decay=1e-4..1. [default: INNA "
            "at (.1,.1), (.5,.1), (.5,.5), (.5,1), SGD, heavy ball, AdaGrad, Adam]"
        ),
    ] = (),
    out: Annotated[
        Path | None,
        OUTPUT,
        Parameter(
            help="Folder of the results and the report. [default: runs/NAME, or runs/NAME-DIGEST if runs/NAME contains "
            "another study]"
        ),
    ] = None,
    dry_run: DryRun = False,
    show: Show = False,
    task: Task = TaskOptions(),
    data: DataFolder = DataFolderOptions(),
    protocol: Protocol = ProtocolArguments(),
    compute: Compute = ComputeOptions(),
    sweep: Sweep = SweepOptions(),
) -> int:
    """Compare optimizers on a task.

    Tune each, run the seeds, show the table, write report.html.

    Each optimizer's learning rate (γ), schedule and further settings are searched by successive halving, or its
    learning rate and schedule on a grid. Training losses decide, without test data. Runs that the folder contains are
    not repeated.
    """
    console = Console()
    with checking():
        optimizers = optimizer or DEFAULT_OPTIMIZERS
        name = task.name
        task.check()
        protocol.check(optimizers)
        compute.check_samples()
        compute.check_device()
        sweep.check()
        data.use()
        if dry_run and (missing := missing_data(name)):
            print_line(console, missing)
            return 0
        with waiting(console, f"loading {name}"):
            from inna.experiments.comparison import make_study

            study = make_study(
                name,
                optimizers,
                model=task.network,
                command=shlex.join(arguments()),
                **vars(protocol),
                **vars(compute),
            )
    folder = out or folder_for(study, default_folder(name, task.network), console)
    if dry_run:
        print_plan(study, folder, console, sweep)
        return 0
    pages, failures = run_study(study, folder, console, sweep)
    return conclude(console, pages, failures, show=show)
