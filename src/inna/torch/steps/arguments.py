"""Arguments that the step of an optimizer, of any library, takes."""

from __future__ import annotations

import inspect

import torch

__all__ = ["closure_needed", "takes_loss"]


def closure_needed(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether ``step`` requires a closure, as L-BFGS does."""
    closure = inspect.signature(type(optimizer).step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def takes_loss(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether ``step`` takes the loss of the batch as ``loss``.

    As that of a guarded INNA does.
    """
    return "loss" in inspect.signature(type(optimizer).step).parameters
