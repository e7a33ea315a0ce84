"""Detect that training has diverged, and where."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = [
    "DIVERGENCE_FACTOR",
    "DivergedError",
    "check_epoch",
    "diverged_in_batch",
    "diverged_in_replayed_batch",
]

# A run whose training loss after an epoch exceeds this many times the loss of its initial weights has diverged.
DIVERGENCE_FACTOR = 100.0


class DivergedError(Exception):
    """Training has diverged.

    Attributes:
        reason: in words.
        parameter: the name of the first that is not finite, or whose gradient is not; None if all are.
        steps_back: 1 if the previous step is to blame, 0 if the current iteration is.
    """

    def __init__(self, reason: str, parameter: str | None, steps_back: int) -> None:
        super().__init__(reason)
        self.reason, self.parameter, self.steps_back = reason, parameter, steps_back


def diverged_in_batch(network: torch.nn.Module, loss: Tensor, value: float) -> DivergedError:
    """Return the error for a batch whose ``loss`` has a ``value`` that is not finite."""
    broken = _broken_parameter(network)
    if broken is not None:
        return DivergedError("the step made a parameter non-finite", broken, steps_back=1)
    loss.backward()
    broken = _first_not_finite((name, p.grad) for name, p in network.named_parameters())
    return DivergedError(f"the loss became {value}", broken, steps_back=0)


def diverged_in_replayed_batch(network: torch.nn.Module, value: float) -> DivergedError:
    """Return the error for such a batch after later steps: its gradients are gone."""
    return DivergedError(f"the loss became {value}", _broken_parameter(network), steps_back=0)


def check_epoch(network: torch.nn.Module, train_loss: float, initial_loss: float | None) -> None:
    """Check the parameters and the training loss after an epoch.

    ``initial_loss`` is None before the first epoch.

    Raises:
        DivergedError: a parameter or the loss is not finite, or the loss has grown by `DIVERGENCE_FACTOR`.
    """
    broken = _broken_parameter(network)
    if broken is not None:
        raise DivergedError("a parameter is non-finite at the end of the epoch", broken, steps_back=1)
    if not math.isfinite(train_loss):
        raise DivergedError(f"the training loss after the epoch is {train_loss}", None, steps_back=1)
    initial = abs(initial_loss or 0.0)
    if initial > 0 and train_loss > DIVERGENCE_FACTOR * initial:
        reason = f"the training loss after the epoch is {train_loss:.3g}, over {DIVERGENCE_FACTOR:g} times the initial"
        raise DivergedError(reason, None, steps_back=1)


def _broken_parameter(network: torch.nn.Module) -> str | None:
    return _first_not_finite(network.named_parameters())


def _first_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    for name, tensor in tensors:
        if tensor is not None and not torch.isfinite(tensor).all():
            return name
    return None
