"""The loss of chance: that of the best output that is the same for all inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["constant_loss"]

# Iterations of L-BFGS towards the best constant output.
ITERATIONS = 60


def constant_loss(
    output: Any, targets: Any, loss: Callable[[Any, Any], Tensor], *, batch_size: int | None = None
) -> float | None:
    """Return the lowest mean loss of an output that is the same for all inputs.

    For cross-entropy it is the entropy of the classes' shares, for the mean square error the variance of the targets.
    It is found by L-BFGS, from an output of zeros.

    Args:
        output: the network's output for one input, of shape (1, ...); its values do not matter.
        targets: the targets of the whole set, of shape (N, ...).
        loss: (outputs, targets) -> the mean over the batch.
        batch_size: samples for which the loss is computed at once; None is all.

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
        for part in targets.split(batch_size or max(1, len(targets))):
            total = total + loss(constant.expand(len(part), *constant.shape[1:]), part) * (len(part) / len(targets))
        total.backward()
        value = total.detach()
        if value < lowest:
            lowest = value.item()
        return value

    with torch.enable_grad():
        optimizer.step(evaluate)
    return lowest if math.isfinite(lowest) else None
