"""Runs that avoid spurious points and strict saddles.

Many runs are computed together as the rows of one array. Theorem 3 of the paper proves that accumulation points are
D-critical. That spurious ones among them are avoided from almost every start is expected there, not proved; the runs
here show it. That strict saddles are avoided with a constant step is proved in arXiv 2111.04596.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from inna.checks import check_range
from inna.dynamics import initial_momentum, step
from inna.theory.objectives import Objective

__all__ = ["Escape", "Runs", "escape_from", "mini_batch_runs", "reversible_lr"]

Floats = NDArray[np.float64]


class Runs(NamedTuple):
    """The ends of R runs: ``theta`` and ``momentum``, each of shape (R, P)."""

    theta: Floats
    momentum: Floats

    def ended_at(self, points: ArrayLike, tolerance: float) -> NDArray[np.bool_]:
        """Return for each run, (R,), whether it ended near one of the points (K, P).

        A run ended near a point if its distance is at most ``tolerance``.
        """
        targets = np.asarray(points, dtype=float).reshape(-1, self.theta.shape[1])
        distances = np.linalg.norm(self.theta[:, None] - targets, axis=2)
        return np.asarray(np.any(distances <= tolerance, axis=1))


class Escape(NamedTuple):
    """The escape of R runs from a saddle.

    Attributes:
        iterations: (R,), the first iteration at which each run was further from the saddle than the radius; -1: none.
        runs: the ends of the runs.
    """

    iterations: NDArray[np.int_]
    runs: Runs


def mini_batch_runs(
    objective: Objective,
    starts: ArrayLike,
    momenta: ArrayLike,
    alpha: float,
    beta: float,
    lr: Callable[[int], float],
    steps: int,
    *,
    seed: int = 0,
) -> Runs:
    """Run INNA on mini-batches: one random term of the sum per step and run.

    The gradient of the grad J_n is scaled by the number N of terms.

    Args:
        objective: a sum, with ``term_gradients``.
        starts: theta_0 of each run, (R, P).
        momenta: m_0 of each run, (R, P).
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        lr: the learning rate gamma_k as a function of k = 0, 1, 2, ...
        steps: the number of iterations, >= 1.
        seed: of the random terms.

    Raises:
        ValueError: an argument is out of range, or the objective is not given as a sum.

    >>> from inna.theory.objectives import SPURIOUS_VALLEY
    >>> starts, momenta = [[0.0], [0.5]], [[0.0], [0.0]]  # the first: the spurious point
    >>> runs = mini_batch_runs(
    ...     SPURIOUS_VALLEY, starts, momenta, 0.5, 0.1, lambda k: 0.1, 200
    ... )
    >>> float(runs.theta[0, 0]), bool(runs.theta[1, 0] < 0)
    (0.0, True)
    """
    if objective.term_gradients is None:
        raise ValueError(f"objective must be given as a sum of terms, and {objective.name} is not")
    check_range("alpha", alpha, minimum=0.0)
    check_range("beta", beta, minimum=0.0)
    theta, momentum = _side_by_side(objective, starts, "starts"), _side_by_side(objective, momenta, "momenta")
    if theta.shape != momentum.shape:
        raise ValueError(f"starts and momenta must have one shape, got {theta.shape} and {momentum.shape}")
    rng = np.random.default_rng(seed)
    rows = np.arange(len(theta))
    for k in range(_count("steps", steps)):
        gradients = objective.term_gradients(theta)
        terms = gradients.shape[1]
        grad = terms * gradients[rows, rng.integers(terms, size=len(theta))]
        theta, momentum = step(theta, momentum, grad, lr(k), alpha, beta)
    return Runs(theta, momentum)


def escape_from(
    saddle: ArrayLike,
    objective: Objective,
    starts: ArrayLike,
    lr: float,
    alpha: float,
    beta: float,
    steps: int,
    *,
    initial_speed: float | None = None,
    radius: float = 0.5,
) -> Escape:
    """Run INNA from starts near a saddle and record when each run leaves it.

    The gradient is the full one and the learning rate constant.

    With alpha beta = 1 and m_0 = 0 this is gradient descent with the step lr beta.

    Args:
        saddle: (P,).
        objective: J.
        starts: theta_0 of each run, (R, P).
        lr: learning rate, > 0.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        steps: the number of iterations, >= 1.
        initial_speed: s in theta'(0) = -s grad J; None: m_0 = 0.
        radius: the distance from the saddle beyond which a run has escaped, > 0.

    Raises:
        ValueError: an argument is out of range.

    >>> from inna.theory.objectives import DOUBLE_WELL
    >>> start = [[1e-6, 0.0]]
    >>> found = escape_from([0.0, 0.0], DOUBLE_WELL, start, 0.02, 0.5, 1.0, 500)
    >>> found.runs.theta.round(3)
    array([[1.414, 0.   ]])
    """
    check_range("lr", lr, minimum=0.0, exclusive=True)
    check_range("alpha", alpha, minimum=0.0)
    check_range("beta", beta, minimum=0.0)
    check_range("radius", radius, minimum=0.0, exclusive=True)
    center = np.asarray(saddle, dtype=float)
    theta = _side_by_side(objective, starts, "starts")
    momentum = np.asarray(initial_momentum(objective.gradient(theta), beta, initial_speed))
    iterations = np.full(len(theta), -1)
    for k in range(_count("steps", steps) + 1):
        away = np.linalg.norm(theta - center, axis=1) > radius
        iterations[away & (iterations < 0)] = k
        if k < steps:
            theta, momentum = step(theta, momentum, objective.gradient(theta), lr, alpha, beta)
    return Escape(iterations, Runs(theta, momentum))


def reversible_lr(alpha: float, beta: float, lipschitz: float) -> float:
    """Return a learning rate for which INNA's iteration is a local diffeomorphism.

    The stable manifold theorem needs this. The learning rate is

        min( beta, (a + sqrt(a² - 4 L)) / (2 L), 1/L )    with a = alpha + beta L; the middle term where a² >= 4 L

    Args:
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, > 0.
        lipschitz: L > 0, a Lipschitz constant of the gradient.

    Raises:
        ValueError: an argument is out of range.

    >>> reversible_lr(0.5, 1.0, 50.0)
    0.02
    """
    viscous = check_range("alpha", alpha, minimum=0.0)
    newtonian = check_range("beta", beta, minimum=0.0, exclusive=True)
    bound = check_range("lipschitz", lipschitz, minimum=0.0, exclusive=True)
    a = viscous + newtonian * bound
    discriminant = a * a - 4 * bound
    invertible = (a + math.sqrt(discriminant)) / (2 * bound) if discriminant >= 0 else math.inf
    return min(newtonian, invertible, 1 / bound)


def _side_by_side(objective: Objective, points: ArrayLike, name: str) -> Floats:
    rows = np.asarray(points, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != objective.dimension or len(rows) == 0 or not np.all(np.isfinite(rows)):
        raise ValueError(f"{name} must contain finite points, shape (runs, {objective.dimension}), got {rows.shape}")
    return rows


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
    return value
