"""Numbers that a parameter group keeps of all its parameters, in float64."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["as_number", "as_scalar"]


def as_scalar(value: Any, device: torch.device) -> Tensor:
    """``value`` as a group keeps it, (1,) in float64; itself if it is so already.

    Under torch.compile, what is written to a tensor of a group of shape () would be lost.
    """
    tensor = torch.as_tensor(value, dtype=torch.float64, device=device)
    return tensor if tensor.shape == (1,) else tensor.detach().clone().reshape(1)


def as_number(
    scalar: Tensor,  # (1,)
    *,
    host: bool,
) -> Any:
    """A scalar of a group as a float on the host, else as a tensor of shape ()."""
    return scalar.item() if host else scalar.reshape(())
