"""The device, the precision and the threads of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch

__all__ = ["PRECISIONS", "THREADS", "Precision", "resolve_device", "threads"]

THREADS = 1  # of every run, so that its row does not depend on what runs beside it


class Precision(NamedTuple):
    """The dtype of weights, data and optimizer, and that of autocast layers."""

    weights: torch.dtype
    layers: torch.dtype | None = None


# In bfloat16 a step smaller than 1/256 of a weight is lost, so the weights stay in float32.
PRECISIONS = {
    "float32": Precision(torch.float32),
    "float64": Precision(torch.float64),
    "bfloat16": Precision(torch.float32, layers=torch.bfloat16),
}


def resolve_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` is a GPU if there is one.

    Raises:
        ValueError: torch has no such device, or the machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {name!r} is not usable here: {next(iter(str(error).splitlines()), '')}") from None
    return device


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run a block with ``count`` threads of torch, then restore their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
