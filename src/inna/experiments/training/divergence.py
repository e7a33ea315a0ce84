"""Whether training has left the finite numbers, or is about to, and which step and parameter tell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["DIVERGENCE_FACTOR", "Finding", "after_epoch", "in_batch", "in_replayed_batch"]

# A run whose training loss after an epoch exceeds this many times the loss of its initial weights has diverged.
DIVERGENCE_FACTOR = 100.0


class Finding(NamedTuple):
    """What has diverged.

    Attributes:
        steps_back: 1 where the step before did it, 0 where it shows in the iteration at hand.
        parameter: the first that is not finite, or whose gradient is not; None if all are.
        reason: in words.
    """

    steps_back: int
    parameter: str | None
    reason: str


def in_batch(network: torch.nn.Module, loss: Tensor, value: float) -> Finding:
    """Which step made the ``loss`` of a batch ``value``, not finite: the one before, if it left such a parameter."""
    broken = _broken_parameter(network)
    if broken is not None:
        return Finding(1, broken, "the step made a parameter non-finite")
    loss.backward()
    broken = _first_not_finite((name, p.grad) for name, p in network.named_parameters())
    return Finding(0, broken, f"the loss became {value}")


def in_replayed_batch(network: torch.nn.Module, value: float) -> Finding:
    """As `in_batch`, where later steps have been taken already and gradients tell nothing."""
    return Finding(0, _broken_parameter(network), f"the loss became {value}")


def after_epoch(network: torch.nn.Module, train_loss: float, initial_loss: float | None) -> Finding | None:
    """What is wrong after an epoch with this training loss, if anything; None for ``initial_loss`` before the first."""
    broken = _broken_parameter(network)
    if broken is not None:
        return Finding(1, broken, "a parameter is non-finite at the end of the epoch")
    if not math.isfinite(train_loss):
        return Finding(1, None, f"the training loss after the epoch is {train_loss}")
    initial = abs(initial_loss or 0.0)
    if initial > 0 and train_loss > DIVERGENCE_FACTOR * initial:
        reason = f"the training loss after the epoch is {train_loss:.3g}, over {DIVERGENCE_FACTOR:g} times the initial"
        return Finding(1, None, reason)
    return None


def _broken_parameter(network: torch.nn.Module) -> str | None:
    return _first_not_finite(network.named_parameters())


def _first_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    for name, tensor in tensors:
        if tensor is not None and not torch.isfinite(tensor).all():
            return name
    return None
