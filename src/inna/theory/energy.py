"""The energy E of the flow, its two parts, and the rates at which they fall.

With m the momentum, g the gradient and theta' = -(m + beta g) the velocity, for any factor lambda

    E_lambda = lambda J + |m|²/2
    dE_lambda/dt = -alpha |theta'|² - beta |g|² + (lambda - 1 - alpha beta) <theta', g>

which is never positive between lambda_min = (1 - sqrt(alpha beta))² and lambda_max = (1 + sqrt(alpha beta))²:

    dE_min/dt = -|sqrt(alpha) theta' + sqrt(beta) g|²      dE_max/dt = -|sqrt(alpha) theta' - sqrt(beta) g|²
    E = E_min + E_max = 2 (1 + alpha beta) J + |m|²        dE/dt = -2 alpha |theta'|² - 2 beta |g|²

Lemma 8 and eq. (20) of the paper print the two signs the other way round: (psi' - theta')/beta is in DJ, not its
negative. The sum is the same. E falls along the flow. At a learning rate that is too large it does not fall along
INNA's iterates; `inna.theory.monitor` detects that in training.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from inna.checks import check_range

__all__ = [
    "energy",
    "energy_factors",
    "energy_rate",
    "partial_energy",
    "partial_energy_rate",
]


def energy(value: ArrayLike, momentum: ArrayLike, alpha: float, beta: float) -> Any:
    """Return E = 2 (1 + alpha beta) J + |m|².

    Args:
        value: J(theta), shape (...).
        momentum: m, shape (..., P); the last axis is summed over.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.

    Returns:
        A float, or an array of shape (...).

    Raises:
        ValueError: alpha or beta is negative or not finite.

    >>> energy(1.0, [3.0, 4.0], alpha=0.5, beta=0.1)
    27.1
    """
    viscous, newtonian = _dampings(alpha, beta)
    kinetic = np.sum(np.asarray(momentum, dtype=float) ** 2, axis=-1)
    return _plain(2 * (1 + viscous * newtonian) * np.asarray(value, dtype=float) + kinetic)


def energy_rate(momentum: ArrayLike, grad: ArrayLike, alpha: float, beta: float) -> Any:
    """Return dE/dt = -2 alpha |theta'|² - 2 beta |g|² along the flow.

    It is never positive.

    Args:
        momentum: m, shape (..., P).
        grad: g, shape (..., P).
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.

    Returns:
        A float, or an array of shape (...).

    Raises:
        ValueError: alpha or beta is negative or not finite.

    >>> energy_rate([1.0], [0.0], alpha=0.5, beta=0.1)
    -1.0
    """
    viscous, newtonian = _dampings(alpha, beta)
    force = np.asarray(grad, dtype=float)
    velocity = -(np.asarray(momentum, dtype=float) + newtonian * force)
    return _plain(-2 * viscous * np.sum(velocity**2, axis=-1) - 2 * newtonian * np.sum(force**2, axis=-1))


def energy_factors(alpha: float, beta: float) -> tuple[float, float]:
    """Return lambda_min and lambda_max, between which E_lambda falls.

    They are (1 - sqrt(alpha beta))² and (1 + sqrt(alpha beta))².

    Raises:
        ValueError: alpha or beta is negative or not finite.

    >>> energy_factors(0.5, 0.5)
    (0.25, 2.25)
    """
    viscous, newtonian = _dampings(alpha, beta)
    mean = math.sqrt(viscous * newtonian)
    return (1 - mean) ** 2, (1 + mean) ** 2


def partial_energy(value: ArrayLike, momentum: ArrayLike, factor: float) -> Any:
    """Return E_lambda = lambda J + |m|²/2.

    It is E_min and E_max at the two `energy_factors`.

    Args:
        value: J(theta), shape (...).
        momentum: m, shape (..., P).
        factor: lambda.

    >>> partial_energy(1.0, [2.0], factor=0.25)
    2.25
    """
    kinetic = 0.5 * np.sum(np.asarray(momentum, dtype=float) ** 2, axis=-1)
    return _plain(factor * np.asarray(value, dtype=float) + kinetic)


def partial_energy_rate(momentum: ArrayLike, grad: ArrayLike, alpha: float, beta: float, factor: float) -> Any:
    """Return dE_lambda/dt along the flow.

    It is -alpha |theta'|² - beta |g|² + (lambda - 1 - alpha beta) <theta', g>.

    Args:
        momentum: m, shape (..., P).
        grad: g, shape (..., P).
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        factor: lambda.

    Raises:
        ValueError: alpha or beta is negative or not finite.

    >>> partial_energy_rate([1.0], [0.0], alpha=0.5, beta=0.1, factor=1.0)
    -0.5
    """
    viscous, newtonian = _dampings(alpha, beta)
    force = np.asarray(grad, dtype=float)
    velocity = -(np.asarray(momentum, dtype=float) + newtonian * force)
    cross = (factor - 1 - viscous * newtonian) * np.sum(velocity * force, axis=-1)
    return _plain(cross - viscous * np.sum(velocity**2, axis=-1) - newtonian * np.sum(force**2, axis=-1))


def _dampings(alpha: float, beta: float) -> tuple[float, float]:
    return check_range("alpha", alpha, minimum=0.0), check_range("beta", beta, minimum=0.0)


def _plain(values: Any) -> Any:
    return float(values) if np.ndim(values) == 0 else values
