"""Fair comparisons of optimizers: tasks, training, sweeps, reports."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inna.experiments.comparison import compare as compare
    from inna.experiments.report.comparison_result import Comparison as Comparison
    from inna.experiments.rows.row_files import load_rows as load_rows
    from inna.experiments.rows.run import Run as Run
    from inna.experiments.tasks.task import Task as Task
    from inna.experiments.tasks.task import accuracy as accuracy
    from inna.experiments.training.train import train as train

_HOMES = {
    "Comparison": "report.comparison_result",
    "Run": "rows.run",
    "Task": "tasks.task",
    "accuracy": "tasks.task",
    "compare": "comparison",
    "load_rows": "rows.row_files",
    "train": "training.train",
}
__all__ = ["Comparison", "Run", "Task", "accuracy", "compare", "load_rows", "train"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"inna.experiments.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'inna.experiments' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
