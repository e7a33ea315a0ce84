"""Options that several commands share, and what their values mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import Parameter

__all__ = [
    "BatchSize",
    "Dataset",
    "Device",
    "Jobs",
    "OwnTask",
    "Precision",
    "default_folder",
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


Dataset = Annotated[str | None, Parameter(help="A built-in task: digits. [default: digits]")]
OwnTask = Annotated[
    str | None, Parameter(name="--task", help="A task of your own: my_task.py:make_task or package.module:make_task.")
]
BatchSize = Annotated[int | None, Parameter(help="Samples in a mini-batch. [default: 32, or the DataLoader's own]")]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, ..., or auto.")]
Jobs = Annotated[int | None, Parameter(help="Runs at once. [default: as many as cores, 1 on a GPU]")]
Precision = Annotated[Literal["float32", "float64"], Parameter(help="Arithmetic of weights and data.")]


def task_name(dataset: str | None, task: str | None) -> str:
    if dataset is not None and task is not None:
        raise ValueError("give --dataset or --task, not both")
    if task is not None and ":" not in task:
        raise ValueError(f"--task must be written my_task.py:make_task or package.module:make_task, got {task!r}")
    return task or dataset or "digits"


def default_folder(name: str, ending: str = "") -> Path:
    from inna.experiments.subsets import split_subset

    whole, images = split_subset(name)
    if images is not None:
        return default_folder(f"{whole}-{images}", ending)
    place, _, function = name.partition(":")
    parts = [Path(place).stem, function] if function else [place]
    return Path("runs") / ("-".join(parts) + ending)


def processes(wanted: int | None, device: str) -> int:
    from inna.experiments.machine import cores
    from inna.experiments.rows import check_whole

    return (cores() if device == "cpu" else 1) if wanted is None else check_whole("jobs", wanted, minimum=1)
