"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

__all__ = [
    "Backend",
    "BatchSize",
    "DataDir",
    "Dataset",
    "Device",
    "Jobs",
    "Minutes",
    "Model",
    "OwnTask",
    "Precision",
    "Scheduler",
    "TensorBoard",
    "check_minutes",
    "check_scheduler",
    "default_folder",
    "keep_data_in",
    "listed",
    "processes",
    "task_name",
]


def listed(kind: type) -> Any:
    """A converter for several values, separated by blanks or commas."""

    def convert(target: Any, tokens: Sequence[cyclopts.Token]) -> tuple[Any, ...]:
        parts = [part for token in tokens for part in token.value.split(",")]
        try:
            return tuple(kind(part) for part in parts)
        except ValueError:
            kinds = {int: "whole numbers", float: "numbers", str: "words"}[kind]
            raise ValueError(f"must be {kinds}, separated by commas or blanks") from None

    return convert


Dataset = Annotated[
    str | None,
    Parameter(help="A built-in task: digits, mnist, fashion-mnist, cifar10 or cifar100. [default: digits]"),
]
Model = Annotated[
    str,
    Parameter(
        help="Its network: lenet5 or nin for mnist and fashion-mnist; nin for cifar10 and cifar100; small-cnn for "
        "digits. [default: the first of these]",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    Parameter(help="Folder of the data sets. [default: the variable INNA_DATA, or else the user's cache folder]"),
]
OwnTask = Annotated[
    str | None, Parameter(name="--task", help="A task of your own: my_task.py:make_task or package.module:make_task.")
]
BatchSize = Annotated[int | None, Parameter(help="Samples in a mini-batch. [default: 32, or the DataLoader's own]")]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, ..., or auto.")]
Jobs = Annotated[int | None, Parameter(help="Runs at once. [default: as many as cores, 1 on a GPU]")]
Precision = Annotated[
    Literal["float32", "float64", "bfloat16"],
    Parameter(help="Arithmetic; bfloat16: the layers' alone, with weights, loss and optimizer in float32."),
]
Backend = Annotated[
    Literal["local", "dask"], Parameter(help="Who does the runs: processes here, or the workers of a Dask cluster.")
]
Scheduler = Annotated[
    str | None,
    Parameter(
        help="With --backend dask: the scheduler's address, such as tcp://10.0.0.1:8786. Start workers with one thread "
        "each; they need the same version of inna, no common folder, and a built-in data set of their own.",
        show_default=False,
    ),
]
TensorBoard = Annotated[
    Path | None,
    Parameter(
        name="--tensorboard",
        help="Also log the curves of each run into this folder, for TensorBoard. [default: no logs]",
        show_default=False,
    ),
]
Minutes = Annotated[
    float | None,
    Parameter(
        help="Stop after so many minutes: runs under way finish their epoch and leave a checkpoint, and the same "
        "command goes on from there. [default: no limit]"
    ),
]


def task_name(dataset: str | None, task: str | None) -> str:
    if dataset is not None and task is not None:
        raise ValueError("give --dataset or --task, not both")
    if task is not None and ":" not in task:
        raise ValueError(f"--task must be written my_task.py:make_task or package.module:make_task, got {task!r}")
    return task or dataset or "digits"


def default_folder(name: str, *endings: str) -> Path:
    from inna.experiments.tasks.subsets import split_subset

    whole, images = split_subset(name)
    if images is not None:
        return default_folder(f"{whole}-{images}", *endings)
    place, _, function = name.partition(":")
    parts = [Path(place).stem, function] if function else [place]
    return Path("runs") / "-".join([*parts, *filter(None, endings)])


def processes(wanted: int | None, device: str) -> int:
    from inna.checks import check_whole
    from inna.experiments.training.hardware import cores

    return (cores() if device == "cpu" else 1) if wanted is None else check_whole("jobs", wanted, minimum=1)


def check_minutes(minutes: float | None) -> None:
    from inna.checks import check_range

    if minutes is not None:
        check_range("minutes", minutes, minimum=0.0, exclusive=True)


def check_scheduler(backend: str, scheduler: str | None, jobs: int | None) -> None:
    if backend == "local" and scheduler is not None:
        raise ValueError("--scheduler goes with --backend dask")
    if backend == "dask":
        if scheduler is None:
            raise ValueError("--backend dask needs --scheduler ADDRESS, such as tcp://10.0.0.1:8786")
        if jobs is not None:
            raise ValueError(
                "--jobs is for processes here; on a Dask cluster there are as many runs at once as workers"
            )
        if find_spec("distributed") is None:
            raise ValueError("--backend dask needs the package distributed: pip install 'inna[dask]'")


def keep_data_in(folder: Path | None) -> None:
    """Make ``folder`` the data folder of this process and of its workers, which inherit the variable."""
    from inna.experiments.tasks.local_files import FOLDER_VARIABLE

    if folder is not None:
        os.environ[FOLDER_VARIABLE] = str(folder.expanduser().absolute())
