"""The guarded step and the step that finds its own length, on vectors, from `inna.dynamics` alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inna import dynamics

Array = Any


@dataclass
class GuardedGroup:
    """A group of parameters as one vector, with settings of its own."""

    theta: Array  # (P,)
    lr: float
    alpha: float
    beta: float
    time_step: float | None = None
    initial_speed: float | None = None

    def __post_init__(self) -> None:
        """Start at rest."""
        self.momentum = np.zeros_like(self.theta)
        self.memory = dynamics.NO_MEMORY

    def terms(self, loss: float, grad: Array) -> dynamics.GuardTerms:
        """The group's part in the decision."""
        u = self.momentum + self.beta * grad
        return dynamics.guard_terms(self.memory, loss, self.momentum @ self.theta, u @ u, self.lr, self.beta)

    def start(self, loss: float, grad: Array) -> None:
        """Set the initial velocity."""
        if self.initial_speed is not None:
            self.momentum = dynamics.initial_momentum(grad, self.beta, self.initial_speed)
            self.memory = dynamics.initial_memory(loss, grad @ self.theta, self.beta, self.initial_speed)

    def step(self, loss: float, grad: Array, factor: float) -> None:
        """Take the step, shortened by ``factor``."""
        h = self.lr if self.time_step is None else self.time_step
        self.memory = dynamics.update_memory(self.memory, loss, grad @ self.theta, h, self.alpha, self.beta)
        self.theta, self.momentum = dynamics.step(
            self.theta, self.momentum, grad, self.lr * factor, self.alpha, self.beta, h
        )


def guarded_steps(
    groups: Sequence[GuardedGroup],
    evaluate: Callable[[int, list[Array]], tuple[float, list[Array]]],
    steps: int,
    loss_bound: float = 0.0,
    initial_distance: float | None = None,
) -> list[float]:
    """Step all groups; return the factors. ``evaluate(k, thetas)`` is (loss, gradients) of the k-th mini-batch.

    With an ``initial_distance`` the groups' lr are factors of a cap by the distance; the caps are returned.
    """
    factors = []
    starts, given = [group.theta.copy() for group in groups], [group.lr for group in groups]
    distance, squares = initial_distance, 0.0
    for k in range(steps):
        loss, grads = evaluate(k, [group.theta for group in groups])
        pairs = list(zip(groups, grads, strict=True))
        if k == 0:
            for group, grad in pairs:
                group.start(loss, grad)
        if distance is not None:
            apart = [group.theta - start for group, start in zip(groups, starts, strict=True)]
            distance = max(distance, math.sqrt(sum(part @ part for part in apart)))
            squares += sum(grad @ grad for grad in grads)
            for group, lr in zip(groups, given, strict=True):
                group.lr = dynamics.distance_cap(distance, squares, lr)
        factor = dynamics.guard_factor([group.terms(loss, grad) for group, grad in pairs], loss_bound)
        for group, grad in pairs:
            group.step(loss, grad, factor)
        factors.append(float(factor) * (1 if distance is None else groups[0].lr))
    return factors


@dataclass
class FreeGroup:
    """A group of parameters as one vector, for `free_steps`; ``lr`` is the factor of the schedule."""

    theta: Array  # (P,)
    alpha: float = 0.1
    beta: float = 0.9
    sigma: float = 0.999
    eps: float = 1e-8
    lr: float = 1.0
    time_step: float = 1.0
    slice_every: int = 1
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        """Start at rest."""
        self.start = self.theta.copy()
        self.momentum, self.exp_avg_sq, self.grad_sum = (np.zeros_like(self.theta) for _ in range(3))
        self.correlation = self.weight = 0.0


def free_steps(
    groups: Sequence[FreeGroup],
    evaluate: Callable[[int, list[Array]], list[Array]],
    steps: int,
    initial_distance: float = 1e-6,
) -> list[float]:
    """Step all groups; return the distances d'. ``evaluate(k, thetas)`` is the gradients of the k-th mini-batch."""
    distance, distances = initial_distance, []
    for k in range(steps):
        grads = evaluate(k, [group.theta for group in groups])
        pairs = list(zip(groups, grads, strict=True))
        for group, grad in pairs:
            weight = dynamics.distance_weight(distance, initial_distance, group.lr)
            part = slice(None, None, group.slice_every)
            moved = grad[part] @ (group.start - group.theta)[part]
            group.correlation = dynamics.accumulate(group.correlation, moved, weight, group.sigma)
            group.grad_sum = dynamics.accumulate(group.grad_sum, grad, weight, group.sigma)
        distance = dynamics.grow_distance(
            distance,
            sum(group.correlation for group in groups),
            sum(np.abs(group.grad_sum[:: group.slice_every]).sum() for group in groups),
        )
        for group, grad in pairs:
            rescaled, group.exp_avg_sq = dynamics.rescale(grad, group.exp_avg_sq, k + 1, group.sigma, group.eps)
            length = distance * group.lr / (group.weight + group.beta)
            setting = group.alpha, group.beta
            shrunk = (1 - distance * group.lr * group.weight_decay) * group.theta
            group.theta, group.momentum = dynamics.step(
                shrunk, group.momentum, rescaled, length, *setting, group.time_step
            )
            group.weight = dynamics.update_average(group.weight, 1.0, group.time_step, *setting)
        distances.append(float(distance))
    return distances
