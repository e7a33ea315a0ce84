"""Demonstrations of the guarded step: its averaged model, distances and limits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inna.dynamics import (
    NO_MEMORY,
    check_weights,
    guard_factor,
    guard_terms,
    initial_memory,
    initial_momentum,
    step,
    update_memory,
)
from inna.schedules import power_decay
from inna.theory.criticality import criticality
from inna.theory.demonstrations.registry import Outcome, demonstration
from inna.theory.objectives import SPURIOUS_CORNER

__all__ = ["GuardedPath", "follow_guarded"]

Floats = NDArray[np.float64]
# (k, theta) -> loss and gradient of the k-th mini-batch.
Evaluate = Callable[[int, Floats], tuple[float, Floats]]


class GuardedPath(NamedTuple):
    """K guarded steps on P parameters.

    Attributes:
        theta: (K + 1, P), the iterates.
        momentum: (K + 1, P).
        lr: (K,), the lengths e_k of the steps.
        factor: (K,), e_k over the learning rate gamma_k, in [0, 1].
        weight: (K,), the total weight W_k of the models.
        before: (K,), the averaged model of each step at theta_k, minus the bound: gap_k / W_k.
        after: (K,), the same model at theta_{k+1}, minus the bound.
    """

    theta: Floats
    momentum: Floats
    lr: Floats
    factor: Floats
    weight: Floats
    before: Floats
    after: Floats


def follow_guarded(
    evaluate: Evaluate,
    start: Floats,
    lr: Callable[[int], float],
    alpha: float,
    beta: float,
    steps: int,
    *,
    loss_bound: float = 0.0,
    time_step: float | None = None,
    initial_speed: float | None = None,
) -> GuardedPath:
    """Take guarded steps on mini-batches.

    The averaged model is evaluated from all past mini-batches, not from the guard's three scalars.

    Args:
        evaluate: (k, theta) -> loss and gradient of the k-th mini-batch.
        start: theta_0, (P,).
        lr: gamma_k as a function of k = 0, 1, 2, ...
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, with 0 <= beta <= 1/alpha.
        steps: K, the number of iterations.
        loss_bound: f*.
        time_step: h, with alpha h <= 1; None is gamma_k.
        initial_speed: s >= beta; None is beta.

    Raises:
        ValueError: alpha beta > 1 or alpha h > 1.

    >>> path = follow_guarded(lambda k, t: (0.5 * float(t @ t), t), np.array([1.0]), lambda k: 1.0, 1.0, 1.0, 3)
    >>> path.theta[:, 0].tolist()  # alpha beta = 1: Polyak's step halves t
    [1.0, 0.5, 0.25, 0.125]
    """
    theta, momentum, memory = np.array(start, dtype=float), np.zeros(len(start)), NO_MEMORY
    thetas, momenta, totals = [theta], [momentum], []
    before: list[float] = []
    after: list[float] = []
    lengths, factors = np.empty(steps), np.empty(steps)
    offsets, slopes, weights = np.empty(steps), np.empty((steps, len(start))), np.zeros(steps)
    for k in range(steps):
        gamma = lr(k)
        h = gamma if time_step is None else time_step
        check_weights(alpha, beta=beta, time_step=h)
        loss, grad = evaluate(k, theta)
        offsets[k], slopes[k] = loss - grad @ theta, grad
        if k == 0 and initial_speed is not None:
            momentum = initial_momentum(grad, beta, initial_speed)
            memory = initial_memory(loss, float(grad @ theta), beta, initial_speed)
            weights[0] = initial_speed - beta
            momenta[0] = momentum
        direction = momentum + beta * grad
        terms = guard_terms(memory, loss, float(momentum @ theta), float(direction @ direction), gamma, beta)
        factor = float(guard_factor([terms], loss_bound))
        average = weights[: k + 1] + beta * (np.arange(k + 1) == k)
        total = float(average.sum())
        memory = update_memory(memory, loss, float(grad @ theta), h, alpha, beta)
        moved, momentum = step(theta, momentum, grad, gamma * factor, alpha, beta, h)
        for where, point in ((before, theta), (after, moved)):
            models = offsets[: k + 1] + slopes[: k + 1] @ point
            where.append(float(average @ models) / total - loss_bound if total > 0 else np.inf)
        weights[: k + 1] *= 1 - alpha * h
        weights[k] += h * (1 - alpha * beta)
        theta = moved
        thetas.append(theta)
        momenta.append(momentum)
        totals.append(total)
        lengths[k], factors[k] = gamma * factor, factor
    columns = (thetas, momenta, lengths, factors, totals, before, after)
    return GuardedPath(*map(np.array, columns))


def _random_batches(rng: np.random.Generator, noise: float, exponent: float) -> tuple[Evaluate, Floats]:
    """Return mini-batch losses mean |A theta - b|^p / p.

    The second value is the solution of A theta = b without noise.
    """
    inputs, solution = rng.standard_normal((12, 4)), rng.standard_normal(4)
    targets = inputs @ solution + noise * rng.standard_normal(12)
    batches = [rng.choice(12, size=3, replace=False) for _ in range(200)]

    def evaluate(k: int, theta: Floats) -> tuple[float, Floats]:
        rows = batches[k % 200]
        residual = inputs[rows] @ theta - targets[rows]
        slope = np.sign(residual) * np.abs(residual) ** (exponent - 1)
        return float(np.mean(np.abs(residual) ** exponent) / exponent), inputs[rows].T @ slope / len(rows)

    return evaluate, solution


def _constant(lr: float, k: int) -> float:
    return lr


def _random_dampings(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return alpha, beta and h with alpha beta <= 1 and alpha h <= 1."""
    alpha = float(10 ** rng.uniform(-1.5, 0.5))
    beta, h = rng.uniform(0.02, 1, 2) / alpha
    return alpha, float(beta), float(h)


@demonstration(
    "guard-model",
    statement="A guarded step never takes the averaged model below its bound, and a cut one takes it to the bound",
    expected="over 200 random problems x 50 steps: below the bound by < 1e-9 of the losses, cut steps to 1e-9 of it",
    source="docs/theory.md, The guarded step",
)
def _guard_model() -> Outcome:
    rng = np.random.default_rng(0)
    below = off = 0.0
    cut = steps = 0
    for _ in range(200):
        alpha, beta, h = _random_dampings(rng)
        evaluate, _ = _random_batches(rng, noise=0.5, exponent=2.0)
        path = follow_guarded(evaluate, rng.standard_normal(4), lambda k: 3.0, alpha, beta, 50, time_step=h)
        scale = 1 + np.abs(path.before)
        aimed = np.minimum(path.before, 0.0)  # a model that is already below stays where it is
        below = max(below, float(np.max((aimed - path.after) / scale)))
        shortened = (path.factor < 1) & (path.before > 0)
        off = max(off, float(np.max(np.abs(path.after[shortened]) / scale[shortened], initial=0.0)))
        cut, steps = cut + int(shortened.sum()), steps + len(path.factor)
    return f"below by {below:.1e}, cut steps off by {off:.1e}; {cut} of {steps} cut", max(below, off) < 1e-9 < cut


@demonstration(
    "guard-distance",
    statement="On convex mini-batches that one point brings to the bound, no guarded step moves away from that point",
    expected="200 random problems, |r| and r²: |theta' - theta*|² + e gap <= |theta - theta*|² to 1e-9; a lower bound "
    "and plain INNA move away",
    source="docs/theory.md, The guarded step",
)
def _guard_distance() -> Outcome:
    rng = np.random.default_rng(0)
    worst, lower, plain = -np.inf, 0.0, 0.0
    for n in range(200):
        alpha, beta, h = _random_dampings(rng)
        evaluate, solution = _random_batches(rng, noise=0.0, exponent=1.0 + n % 2)
        start, gamma = rng.standard_normal(4), float(10 ** rng.uniform(-1, 2))
        for bound in (0.0, -1.0):
            path = follow_guarded(
                evaluate, start, functools.partial(_constant, gamma), alpha, beta, 60, time_step=h, loss_bound=bound
            )
            square = np.sum((path.theta - solution) ** 2, axis=1)
            if bound == 0:
                gap = np.maximum(path.weight * path.before, 0.0)
                worst = max(worst, float(np.max((np.diff(square) + path.lr * gap) / (1 + square[:-1]))))
            else:
                lower = max(lower, float(np.max(np.diff(square))))
        theta, momentum = start, np.zeros(4)
        for k in range(10):
            moved, momentum = step(theta, momentum, evaluate(k, theta)[1], gamma, alpha, beta, h)
            plain = max(plain, float(np.sum((moved - solution) ** 2) - np.sum((theta - solution) ** 2)))
            theta = moved
    holds = worst < 1e-9 and lower > 0.1 and plain > 0.1
    return f"largest excess {worst:.1e}; with the bound 1 too low {lower:.2g}; plain INNA {plain:.2g}", holds


@demonstration(
    "guard-limits",
    statement="Once the guard no longer binds, the iterates are INNA's: a limit above the bound is D-critical",
    expected="spurious corner, gamma_k = 2/(k+1)^0.8, bound 1/2 below min J: cut at first, never after; from there "
    "INNA's iterates bit for bit; the end is within 0.01 of the minimiser, where dist(0, DJ) = 0",
    source="docs/theory.md, The guarded step; paper, Theorem 3",
)
def _guard_limits() -> Outcome:
    objective, alpha, beta, steps = SPURIOUS_CORNER, 0.5, 0.5, 6000
    assert objective.term_gradients is not None
    (minimiser,) = objective.minimisers

    def lr(k: int) -> float:
        return 2 * float(power_decay(0.8)(k))

    def evaluate(k: int, theta: Floats) -> tuple[float, Floats]:
        return float(objective.value(theta)), objective.gradient(theta)

    bound = float(objective.value(minimiser)) - 0.5
    path = follow_guarded(evaluate, np.array([1.1, 0.5]), lr, alpha, beta, steps, loss_bound=bound)
    cuts = np.flatnonzero(path.factor < 1)
    last = int(cuts[-1]) + 1
    theta, momentum = path.theta[last], path.momentum[last]
    same = True
    for k in range(last, steps):
        theta, momentum = step(theta, momentum, evaluate(k, theta)[1], lr(k), alpha, beta)
        same = same and bool(np.array_equal(theta, path.theta[k + 1]))
    distance = float(np.linalg.norm(path.theta[-1] - minimiser))
    critical = criticality(objective.term_gradients, minimiser).d
    words = f"{len(cuts)} cuts, the last at step {last}; INNA's from there: {same}; distance {distance:.1e}"
    return words, 0 < last < 1000 and same and distance < 0.01 and critical < 1e-8
