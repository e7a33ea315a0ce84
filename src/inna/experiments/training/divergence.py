"""Detect that training has diverged, and where; compute the loss of chance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from inna.experiments.training.batches import EVALUATION_BATCH

__all__ = [
    "DIVERGENCE_FACTOR",
    "DivergedError",
    "check_epoch",
    "constant_loss",
    "diverged_in_batch",
    "diverged_in_replayed_batch",
]

# A run whose training loss after an epoch exceeds this many times the loss of its initial weights has diverged.
DIVERGENCE_FACTOR = 100.0
# Iterations of L-BFGS towards the best constant output.
ITERATIONS = 60


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


def constant_loss(output: Any, targets: Any, loss: Callable[[Any, Any], Tensor]) -> float | None:
    """Return the lowest mean loss of an output that is the same for all inputs.

    For cross-entropy it is the entropy of the classes' shares, for the mean square error the variance of the targets.
    It is found by L-BFGS, from an output of zeros.

    Args:
        output: the network's output for one input, of shape (1, ...); its values do not matter.
        targets: the targets of the whole set, of shape (N, ...).
        loss: (outputs, targets) -> the mean over the batch.

    Returns:
        None where there is none: the output is no tensor of floats, or the loss is not finite.

    Raises:
        Exception: what the loss raises, which need not accept such an output.

    >>> targets = torch.tensor([0, 0, 0, 1])
    >>> entropy = constant_loss(torch.zeros(1, 2), targets, torch.nn.functional.cross_entropy)
    >>> round(entropy or 0.0, 4), round(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), 4)
    (0.5623, 0.5623)
    """
    if not isinstance(output, Tensor) or not isinstance(targets, Tensor) or not output.is_floating_point():
        return None
    constant = torch.zeros_like(output[:1], requires_grad=True)
    optimizer = torch.optim.LBFGS([constant], max_iter=ITERATIONS, line_search_fn="strong_wolfe")
    lowest = math.inf

    def evaluate() -> Tensor:
        nonlocal lowest
        optimizer.zero_grad()
        total = constant.new_zeros(())
        for part in targets.split(EVALUATION_BATCH):
            total = total + loss(constant.expand(len(part), *constant.shape[1:]), part) * (len(part) / len(targets))
        total.backward()
        value = total.detach()
        if value < lowest:
            lowest = value.item()
        return value

    with torch.enable_grad():
        optimizer.step(evaluate)
    return lowest if math.isfinite(lowest) else None


def _broken_parameter(network: torch.nn.Module) -> str | None:
    return _first_not_finite(network.named_parameters())


def _first_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> str | None:
    for name, tensor in tensors:
        if tensor is not None and not torch.isfinite(tensor).all():
            return name
    return None
