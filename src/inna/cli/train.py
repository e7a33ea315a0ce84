"""``inna train``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from inna.cli.messages import checking, say
from inna.cli.options import (
    BatchSize,
    DataDir,
    Dataset,
    Device,
    Model,
    OwnTask,
    Precision,
    TensorBoard,
    default_folder,
    keep_data_in,
    task_name,
)

__all__ = [
    "train",
]


def train(
    optimizer: Annotated[
        str, Parameter(help="A name with settings, such as inna:alpha=.5,beta=.1, as for inna compare.")
    ] = "inna",
    /,
    *,
    dataset: Dataset = None,
    model: Model = "",
    task: OwnTask = None,
    lr: Annotated[float | None, Parameter(help="Step size γ0. [default: the optimizer's own]")] = None,
    q: Annotated[
        float, Parameter(help="Power of the decay γ0 (k+1)^-q over iterations k; 0 is a constant step.")
    ] = 0.0,
    epochs: Annotated[int, Parameter(help="Passes over the training data.")] = 15,
    seed: Annotated[int, Parameter(help="Decides the initial weights and the order of the data.")] = 0,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    tensorboard: TensorBoard = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, Parameter(help="Folder of row and checkpoint. [default: runs/NAME-train]")] = None,
) -> int:
    """Train with one optimizer: live progress, a checkpoint after each epoch, a row at the end.

    The same command goes on from the checkpoint of an interrupted run, bit for bit. The checkpoint of a finished run
    stays; it holds the weights.
    """
    console = Console()
    with checking():
        from inna.experiments.comparison import make_run
        from inna.experiments.rows.row_files import DamagedRowError, read_row, row_path
        from inna.experiments.sweep.progress import TrainingProgress, outcome
        from inna.experiments.training.tensorboard import EventLog, check_tensorboard
        from inna.experiments.training.train import checkpoint_path
        from inna.experiments.training.train import train as train_run

        check_tensorboard(tensorboard)
        name = task_name(dataset, task)
        keep_data_in(data_dir)
        run = make_run(
            optimizer,
            name,
            model=model,
            lr=lr,
            q=q,
            epochs=epochs,
            seed=seed,
            batch_size=batch_size,
            device=device,
            precision=precision,
        )
    folder = out or default_folder(name, model, "train")
    path = row_path(folder, run)
    try:
        _, result = read_row(path)
        say(console, "this run is done already")
    except FileNotFoundError:
        result = None
    except DamagedRowError as error:
        say(console, f"{error}; it is run again")
        result = None
    if result is None:
        with TrainingProgress(console, run) as progress, EventLog(tensorboard, run) as log:

            def watch(entry: dict[str, Any]) -> None:
                progress(entry)
                log.update(entry)

            result = train_run(run, folder=folder, on_epoch=watch, on_note=progress.note)
    for line in outcome(result):
        say(console, line)
    say(console, f"row: {path}")
    if checkpoint_path(folder, run).exists():
        say(console, f"checkpoint: {checkpoint_path(folder, run)}")
    return 0
