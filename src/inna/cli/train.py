"""The command ``inna train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import (
    OUTPUT,
    Compute,
    DataFolder,
    DataFolderOptions,
    Task,
    TaskOptions,
    checking,
    default_folder,
    waiting,
)
from inna.experiments.formatting import count, print_line
from inna.experiments.study.options import ComputeOptions, TrainingOptions
from inna.experiments.sweep.options import LogOptions

__all__ = ["train"]


def train(
    optimizer: Annotated[
        str, Parameter(help="A name with settings, such as inna:alpha=.5,beta=.1, as for inna compare.")
    ] = "inna",
    /,
    *,
    training: Annotated[TrainingOptions, Parameter(name="*")] = TrainingOptions(),
    log: Annotated[LogOptions, Parameter(name="*")] = LogOptions(),
    out: Annotated[
        Path | None, OUTPUT, Parameter(help="Folder of the result and the checkpoint. [default: runs/NAME-train]")
    ] = None,
    task: Task = TaskOptions(),
    data: DataFolder = DataFolderOptions(),
    compute: Compute = ComputeOptions(),
) -> int:
    """Train with one optimizer.

    Live progress, a checkpoint after each epoch, the result at the end.

    Run the same command to resume an interrupted run from its checkpoint, bit for bit. The checkpoint of a finished run
    is kept; it contains the weights.
    """
    console = Console()
    with checking():
        name = task.name
        task.check()
        training.check(optimizer)
        compute.check_samples()
        compute.check_device()
        log.check()
        with waiting(console, f"loading {name}"):
            from inna.experiments.comparison import make_run
            from inna.experiments.rows.origins import versions_note
            from inna.experiments.rows.row_files import find_result, row_path
            from inna.experiments.sweep.progress import TrainingProgress, outcome
            from inna.experiments.training.allocation import keep_freed_memory
            from inna.experiments.training.tensorboard import EventLog
            from inna.experiments.training.train import checkpoint_epochs, checkpoint_path
            from inna.experiments.training.train import train as train_run

            data.use()
            run = make_run(optimizer, name, model=task.network, **vars(training), **vars(compute))
    folder = out or default_folder(name, task.network, "train")
    result = find_result(folder, run, lambda text: print_line(console, f"{text}; the run is repeated if it is needed"))
    if result is not None:
        print_line(console, "This run is finished.")
        if note := versions_note([result]):
            print_line(console, note)
    else:
        keep_freed_memory()
        with TrainingProgress(console, run) as progress, EventLog(log.tensorboard, run) as events:

            def watch(entry: dict[str, Any]) -> None:
                progress(entry)
                events.update(entry)

            result = train_run(run, folder=folder, on_epoch=watch, on_note=progress.note)
    for line in outcome(result):
        print_line(console, line)
    if (path := row_path(folder, run)).exists():
        print_line(console, f"row: {path}")
    if (path := checkpoint_path(folder, run)).exists():
        # Runs that differ in their epochs alone share it.
        epochs = checkpoint_epochs(path)
        after = "" if epochs in (None, run.epochs) else f", after {count(epochs, 'epoch')}"
        print_line(console, f"checkpoint: {path}{after}")
    return 0
