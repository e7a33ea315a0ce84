"""The device and the precision of a run."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["PRECISIONS", "Precision", "resolve_device"]


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
