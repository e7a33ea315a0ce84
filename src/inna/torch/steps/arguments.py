"""Arguments that the step of an optimizer, of any library, takes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["closure_needed", "takes_loss"]


def closure_needed(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether ``step`` requires a closure, as L-BFGS does."""
    closure = _parameters(type(optimizer).step).get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def takes_loss(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether ``step`` takes the loss of the batch as ``loss``.

    As that of a guarded INNA does.
    """
    return "loss" in _parameters(type(optimizer).step)


@functools.cache
def _parameters(step: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(step).parameters
