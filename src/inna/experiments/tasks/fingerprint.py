"""Digests of a task's content and of its code."""

from __future__ import annotations

import hashlib
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.tasks.task import Task, _kind

__all__ = [
    "fingerprint",
]


def fingerprint(task: Task) -> str:
    """A digest of a task that has no file: its data, the layout of its network, the code of its functions.

    The same in every process of one Python version. A DataLoader enters with its kind and length only, and of what
    functions refer to elsewhere only the names.
    """
    digest = hashlib.sha256(repr((task.name, task.model_name, task.measures, task.channels_last)).encode())
    with isolated(derive(0, "fingerprint")):
        network = task.model()
    digest.update(repr(network).encode())
    for function in (task.model, task.loss, *(function for function, _ in task.metrics.values())):
        digest.update(_written(function).encode())
    for data in (task.train, task.test):
        if isinstance(data, DataLoader):
            digest.update(repr((_kind(data.dataset), len(data))).encode())
        else:
            for tensor in data:
                digest.update(repr((tensor.dtype, tensor.shape)).encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _written(part: Any) -> str:
    """A function, or a part of its code, as a text without addresses."""
    if isinstance(part, CodeType):
        constants = [_written(constant) for constant in part.co_consts]
        return repr((part.co_name, part.co_code, part.co_names, part.co_varnames, constants))
    if isinstance(part, FunctionType):
        cells = [cell.cell_contents for cell in part.__closure__ or ()]
        values = [_written(value) for value in (*cells, *(part.__defaults__ or ()))]
        return repr((_written(part.__code__), values))
    if isinstance(part, (nn.Module, int, float, complex, str, bytes, tuple, frozenset, type(None), type(...))):
        return repr(part)
    return _kind(part)
