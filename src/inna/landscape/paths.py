"""Run optimizers on a scene.

Iterates, loss and energy, and when one leaves the frame or diverges.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inna.checks import check_range, check_whole
from inna.dynamics import (
    guard_factor,
    guard_terms,
    initial_memory,
    initial_momentum,
    move_memory,
    step,
    update_memory,
)
from inna.landscape.optimizers import Optimizer, adam_step
from inna.landscape.scenes import Frame, Scene
from inna.schedules import power_decay
from inna.theory.energy import energy

__all__ = ["MAX_STEPS", "Path", "check_course", "follow"]

Floats = NDArray[np.float64]

# Every iterate is kept in memory.
MAX_STEPS = 2_000_000
# Iterations between two calls of on_progress.
SLICE = 2_000


@dataclass(frozen=True, eq=False)
class Path:
    """The path of an optimizer, up to the last iteration with a finite loss.

    Attributes:
        optimizer: the optimizer that made it.
        theta: the iterates (K + 1, 2).
        value: J at the iterates (K + 1,).
        energy: E / (2 (1 + alpha beta)), J where the momentum is zero (K + 1,); None for Adam.
        diverged_at: the first iteration at which theta or J is not finite; None if all are finite.
    """

    optimizer: Optimizer
    theta: Floats
    value: Floats
    energy: Floats | None
    diverged_at: int | None

    def left_at(self, frame: Frame) -> int | None:
        """Return the first iteration outside ``frame``; None if there is none."""
        x, y = self.theta[:, 0], self.theta[:, 1]
        outside = (x < frame.left) | (x > frame.right) | (y < frame.bottom) | (y > frame.top)
        return int(np.argmax(outside)) if outside.any() else None


def follow(
    scene: Scene,
    optimizers: Sequence[Optimizer],
    start: tuple[float, float],
    steps: int,
    *,
    q: float = 0.0,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Run optimizers from ``start`` on the exact gradient.

    Learning rates are multiplied by (k + 1)^-q.

    For the heavy ball and Nesterov's method a schedule scales the step but not the buffer, as in ``torch.optim.SGD``.
    In the terms of `inna.dynamics.step`, gamma, alpha and beta are `from_sgd`'s of every iteration, and the momentum is
    multiplied by gamma_{k+1}/gamma_k.

    Args:
        scene: the objective.
        optimizers: at least one.
        start: theta_0.
        steps: iterations, up to `MAX_STEPS`.
        q: power of the decay, >= 0; 0 is constant.
        on_progress: called with the number of completed iterations.

    Returns:
        One path per optimizer, in the same order.

    Raises:
        ValueError: no optimizer, or steps, start or q out of range.
    """
    if not optimizers:
        raise ValueError("optimizers must contain at least one, got none")
    check_course(start, steps, q)
    theta = np.tile(np.array(start, dtype=float), (len(optimizers), 1))
    decay = power_decay(q)
    rolling = [each for each in optimizers if each.uses_step]
    adams = [each for each in optimizers if not each.uses_step]
    balls = len(rolling)
    iterates = np.empty((steps + 1, len(optimizers), 2))
    momenta = np.empty((steps + 1, balls, 2))
    # Columns, so that they broadcast against (optimizers, 2).
    gamma, alpha, beta = _columns([each.at(1.0) for each in rolling], 3)
    speed = _columns([(each.speed,) for each in rolling], 1)[0]
    keeps_buffer = _columns([(each.kind != "inna",) for each in rolling], 1)[0] > 0
    rate, beta1, beta2, eps = _columns([each.adam_settings for each in adams], 4)
    first = second = np.zeros((len(adams), 2))
    grad = scene.objective.gradient(theta)
    momentum = initial_momentum(grad[:balls], beta, speed)
    guards = _Guards(scene, rolling, theta[:balls], beta, speed)

    # Divergence overflows; it is detected from the values below.
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(steps):
            iterates[k], momenta[k] = theta, momentum
            grad = scene.objective.gradient(theta)
            if q > 0 and k > 0:
                before = gamma
                gamma, alpha, beta = _columns([each.at(decay(k)) for each in rolling], 3)
                momentum = np.where(keeps_buffer, momentum * (gamma / before), momentum)
            length = gamma * guards.factor(theta[:balls], momentum, grad[:balls], gamma, beta)
            rolled, momentum = step(theta[:balls], momentum, grad[:balls], length, alpha, beta, gamma)
            guards.update(rolled - theta[:balls], momentum, gamma, alpha, beta)
            if adams:
                moved, first, second = adam_step(
                    theta[balls:], first, second, grad[balls:], k + 1, rate * decay(k), beta1, beta2, eps
                )
                theta = np.concatenate([rolled, moved])
            else:
                theta = rolled
            if (k + 1) % SLICE == 0:
                on_progress(k + 1)
        iterates[steps], momenta[steps] = theta, momentum
        values = scene.objective.value(iterates)
    on_progress(steps)
    columns = {id(each): column for column, each in enumerate([*rolling, *adams])}
    return [_path(each, columns[id(each)], iterates, momenta, values) for each in optimizers]


class _Guards:
    """The guards of those INNAs that have one, side by side.

    Their memory measures theta from where it is, see `inna.dynamics.move_memory`.
    """

    def __init__(self, scene: Scene, rolling: Sequence[Optimizer], theta: Floats, beta: Floats, speed: Floats) -> None:
        """Start as many guards as optimizers have a loss bound."""
        self.value = scene.objective.value
        self.at = [position for position, each in enumerate(rolling) if each.loss_bound is not None]
        bounds = [(each.loss_bound or 0.0,) for each in rolling if each.loss_bound is not None]
        self.bounds = _columns(bounds, 1)[0]
        self.loss = self._losses(theta)
        self.memory = initial_memory(self.loss, 0.0, beta[self.at], speed[self.at])

    def _losses(self, theta: Floats) -> Floats:
        return np.asarray(self.value(theta[self.at]))[:, None] if self.at else np.empty((0, 1))

    def factor(self, theta: Floats, momentum: Floats, grad: Floats, gamma: Floats, beta: Floats) -> Floats:
        """Return the factors (optimizers, 1) of the steps; 1 without a guard."""
        factors = np.ones_like(gamma)
        if self.at:
            self.loss = self._losses(theta)
            direction = (momentum + beta * grad)[self.at]
            square = np.sum(direction**2, axis=-1, keepdims=True)
            terms = guard_terms(self.memory, self.loss, 0.0, square, gamma[self.at], beta[self.at])
            factors[self.at] = guard_factor([terms], self.bounds)
        return factors

    def update(self, moved: Floats, momentum: Floats, gamma: Floats, alpha: Floats, beta: Floats) -> None:
        """Add the models of this step, which changed theta by ``moved``."""
        if self.at:
            memory = update_memory(self.memory, self.loss, 0.0, gamma[self.at], alpha[self.at], beta[self.at])
            slope = np.sum((momentum * moved)[self.at], axis=-1, keepdims=True)
            self.memory = move_memory(memory, slope)


def check_course(start: tuple[float, float], steps: int, q: float) -> None:
    """Check the arguments of `follow`.

    Raises:
        ValueError: the start is not finite, steps is no whole number from 1 to `MAX_STEPS`, or q is not >= 0.
    """
    for coordinate in start:
        check_range("start", coordinate)
    if check_whole("steps", steps, minimum=1) > MAX_STEPS:
        raise ValueError(f"steps must be at most {MAX_STEPS}, because every iterate is kept; got {steps}")
    check_range("q", q, minimum=0.0)


def _columns(rows: Sequence[Sequence[float]], width: int) -> list[Floats]:
    """Turn rows of ``width`` numbers into ``width`` columns (rows, 1)."""
    return list(np.array(rows, dtype=float).reshape(-1, width).T[:, :, None])


def _path(optimizer: Optimizer, column: int, iterates: Floats, momenta: Floats, values: Floats) -> Path:
    theta, value = iterates[:, column], values[:, column]
    finite = np.isfinite(theta).all(axis=-1) & np.isfinite(value)
    kept = len(finite) if finite.all() else int(np.argmin(finite))
    height = None
    if optimizer.uses_step:
        _, alpha, beta = optimizer.at(1.0)
        with np.errstate(over="ignore"):
            height = energy(value[:kept], momenta[:kept, column], alpha, beta) / (2 * (1 + alpha * beta))
    return Path(optimizer, theta[:kept], value[:kept], height, kept if kept < len(finite) else None)
