"""Physics: a network that solves a boundary value problem."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from inna.experiments.tasks.task import Task

__all__ = ["poisson"]

_POINTS, _TEST_POINTS = 512, 200


def poisson() -> Task:
    """Return a physics-informed network for -u'' = f on (0, 1), u(0) = u(1) = 0.

    u(x) = x(1 - x)N(x) with a network N of one input and one output. f is that of the solution
    sin 2πx + ½ sin 6πx. The loss is the mean squared residual of the equation over that of u = 0, the metric the
    error of u on a grid, relative to u in the mean square. Second derivatives make the problem ill-conditioned.

    Source: M. Raissi, P. Perdikaris, G. Karniadakis, "Physics-informed neural networks", Journal of Computational
    Physics 378, 2019.

    >>> task = poisson()
    >>> zero = torch.zeros(200, 2)
    >>> round(task.loss(zero, task.test[1]).item(), 1), task.metrics["error"][0](zero, task.test[1]).item()
    (1.0, 1.0)
    """
    points = torch.rand(_POINTS, 1)
    grid = (torch.arange(_TEST_POINTS).unsqueeze(1) + 0.5) / _TEST_POINTS
    return Task(
        "poisson",
        _Solution,
        (points, _targets(points)),
        (grid, _targets(grid)),
        _residual,
        {"error": (_error, "min")},
        model_name="tanh",
    )


class _Solution(nn.Module):
    """(batch, 1) -> (batch, 2), -u'' and u.

    The first two derivatives go through the layers with the values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(1, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        value, first, second = 2 * x - 1, torch.full_like(x, 2.0), torch.zeros_like(x)
        for position, layer in enumerate((self.first, self.middle, self.last)):
            if position > 0:
                value = value.tanh()
                slope = 1 - value.square()
                first, second = slope * first, slope * (second - 2 * value * first.square())
            value, first, second = layer(value), first @ layer.weight.T, second @ layer.weight.T
        bend = -2 * value + 2 * (1 - 2 * x) * first + x * (1 - x) * second
        return torch.cat([-bend, x * (1 - x) * value], 1)


def _targets(x: Tensor) -> Tensor:
    """Return f and u at ``x``, side by side."""
    fast, slow = torch.sin(6 * math.pi * x), torch.sin(2 * math.pi * x)
    return torch.cat([math.pi**2 * (4 * slow + 18 * fast), slow + fast / 2], 1)


def _residual(outputs: Tensor, targets: Tensor) -> Tensor:
    # The mean of f² over (0, 1) is π⁴(4² + 18²)/2.
    return (outputs[:, 0] - targets[:, 0]).square().mean() / (170 * math.pi**4)


def _error(outputs: Tensor, targets: Tensor) -> Tensor:
    return ((outputs[:, 1] - targets[:, 1]).square().mean() / targets[:, 1].square().mean()).sqrt()
