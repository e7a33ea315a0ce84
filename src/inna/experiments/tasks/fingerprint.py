"""The fingerprint of a task that has no file: a digest of its data and code."""

from __future__ import annotations

import hashlib
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.tasks.task import Task, describe_type

__all__ = [
    "fingerprint",
]


def fingerprint(task: Task) -> str:
    """Return a digest of a task's data, of its network's layout and of its functions' code.

    It is the same in every process of one Python version. It covers only the type and length of a DataLoader, and only
    the names of the globals that a function uses.
    """
    digest = hashlib.sha256(repr((task.name, task.model_name, task.measures, task.channels_last)).encode())
    with isolated(derive(0, "fingerprint")):
        network = task.model()
    digest.update(repr(network).encode())
    for function in (task.model, task.loss, *(function for function, _ in task.metrics.values())):
        digest.update(_as_text(function).encode())
    for data in (task.train, task.test):
        if isinstance(data, DataLoader):
            digest.update(repr((describe_type(data.dataset), len(data))).encode())
        else:
            for tensor in data:
                digest.update(repr((tensor.dtype, tensor.shape)).encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _as_text(part: Any) -> str:
    """Return a function, or a part of its code, as text without memory addresses."""
    if isinstance(part, CodeType):
        constants = [_as_text(constant) for constant in part.co_consts]
        return repr((part.co_name, part.co_code, part.co_names, part.co_varnames, constants))
    if isinstance(part, FunctionType):
        cells = [cell.cell_contents for cell in part.__closure__ or ()]
        values = [_as_text(value) for value in (*cells, *(part.__defaults__ or ()))]
        return repr((_as_text(part.__code__), values))
    if isinstance(part, (nn.Module, int, float, complex, str, bytes, tuple, frozenset, type(None), type(...))):
        return repr(part)
    return describe_type(part)
