"""The update rule of INNA, implemented once, with operators only.

The functions take floats, NumPy arrays, JAX arrays and torch tensors, and import the standard library only. Every
faster implementation in this package is tested against them.

Symbols: theta parameters, psi the paper's phase variable, m (``momentum``) the momentum that replaces it,
g (``grad``) a mini-batch gradient, gamma (``lr``) the learning rate, alpha viscous damping, beta Newtonian damping.

    theta_{k+1} = theta_k - gamma_k (m_k + beta g_k)
    m_{k+1}     = (1 - alpha gamma_k) m_k + gamma_k (1 - alpha beta) g_k        m = (alpha - 1/beta) theta + psi/beta

Source: Castera, Bolte, Févotte, Pauwels, "An Inertial Newton Algorithm for Deep Learning", JMLR 22(134), 2021.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from inna.checks import check_range

__all__ = [
    "INNAPROP_DEFAULTS",
    "INNA_DEFAULTS",
    "Hyperparameters",
    "PropHyperparameters",
    "average_square",
    "decay_innaprop",
    "divide_by_root",
    "field",
    "from_sgd",
    "initial_momentum",
    "momentum_from_phase",
    "phase_from_momentum",
    "rescale",
    "step",
]

# A number or an array of any framework. Only the operators + - * / ** are applied to it.
Array = Any


class Hyperparameters(NamedTuple):
    """Hyper-parameters of INNA.

    Learning rate ``lr`` (gamma >= 0), viscous damping ``alpha`` (>= 0) and Newtonian damping ``beta`` (>= 0).
    """

    lr: float
    alpha: float
    beta: float


class PropHyperparameters(NamedTuple):
    """Hyper-parameters of INNAprop.

    Those of INNA, the decay rate ``sigma`` in [0, 1) of the mean of g², ``eps`` >= 0 and ``weight_decay`` >= 0.
    """

    lr: float
    alpha: float
    beta: float
    sigma: float
    eps: float
    weight_decay: float


INNA_DEFAULTS = Hyperparameters(lr=0.1, alpha=0.5, beta=0.1)
"""Defaults of every INNA in this package: the paper's recommended dampings, the authors' learning rate."""

INNAPROP_DEFAULTS = PropHyperparameters(lr=1e-3, alpha=0.1, beta=0.9, sigma=0.999, eps=1e-8, weight_decay=0.01)
"""Defaults of every INNAprop in this package, as published."""


def field(
    theta: Array,  # any shape
    psi: Array,  # as theta
    grad: Array,  # as theta
    alpha: Array,  # ()
    beta: Array,  # ()
) -> tuple[Array, Array]:
    """Right-hand side of the paper's first-order system in (theta, psi), eq. (5).

        dtheta = (1/beta - alpha) theta - psi/beta - beta grad
        dpsi   = (1/beta - alpha) theta - psi/beta

    Args:
        theta, psi, grad: arrays of one shape, or floats; ``grad`` is the gradient at ``theta``.
        alpha: viscous damping, >= 0 (1/time).
        beta: Newtonian damping, > 0 (time).

    Returns:
        The time derivatives (dtheta, dpsi), shaped like ``theta``.

    Raises:
        ValueError: beta is 0, where there is no phase variable. `step` allows it.

    >>> field(1.0, 0.0, 2.0, alpha=0.5, beta=0.1)
    (9.3, 9.5)
    """
    _check_positive_beta(beta)
    dpsi = (1 / beta - alpha) * theta - psi / beta
    return dpsi - beta * grad, dpsi


def step(
    theta: Array,  # any shape
    momentum: Array,  # as theta
    grad: Array,  # as theta
    lr: Array,  # ()
    alpha: Array,  # ()
    beta: Array,  # ()
) -> tuple[Array, Array]:
    """Take one iteration of INNA in momentum form: the iterates of the paper's eq. (12) for any learning rates.

        theta' = theta - lr (momentum + beta grad)
        momentum' = (1 - alpha lr) momentum + lr (1 - alpha beta) grad

    Args:
        theta, momentum, grad: arrays of one shape, or floats; ``grad`` is the gradient at ``theta``.
        lr: learning rate gamma_k, >= 0.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.

    Returns:
        The next (theta, momentum). The arguments do not change.

    >>> step(1.0, 0.0, 2.0, lr=0.1, alpha=0.5, beta=0.1)
    (0.98, 0.19)
    """
    return (
        theta - lr * (momentum + beta * grad),
        (1 - alpha * lr) * momentum + lr * (1 - alpha * beta) * grad,
    )


def momentum_from_phase(
    theta: Array,  # any shape
    psi: Array,  # as theta
    alpha: Array,  # ()
    beta: Array,  # ()
) -> Array:
    """The momentum of a phase variable: m = (alpha - 1/beta) theta + psi/beta.

    Args:
        theta, psi: arrays of one shape, or floats.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, > 0.

    Raises:
        ValueError: beta is the number 0.

    >>> momentum_from_phase(2.0, 1.9, alpha=0.5, beta=0.1)  # psi = (1 - alpha beta) theta is at rest
    0.0
    """
    _check_positive_beta(beta)
    # (psi - (1 - alpha beta) theta) / beta is more accurate than (alpha - 1/beta) theta + psi/beta, whose terms are
    # rounded before they cancel.
    return (psi - (1 - alpha * beta) * theta) / beta


def phase_from_momentum(
    theta: Array,  # any shape
    momentum: Array,  # as theta
    alpha: Array,  # ()
    beta: Array,  # ()
) -> Array:
    """The phase variable of a momentum: psi = beta m + (1 - alpha beta) theta.

    Args:
        theta, momentum: arrays of one shape, or floats.
        alpha, beta: the dampings, >= 0.

    >>> phase_from_momentum(2.0, 0.0, alpha=0.5, beta=0.1)
    1.9
    """
    return beta * momentum + (1 - alpha * beta) * theta


def initial_momentum(
    grad: Array,  # any shape
    beta: Array,  # ()
    initial_speed: Array | None = None,  # ()
) -> Array:
    """The momentum m_0 = (s - beta) g_0 of the initial velocity theta'(0) = -s g_0.

    Args:
        grad: the first gradient.
        beta: Newtonian damping, >= 0.
        initial_speed: s. The paper's experiments use 1. None is s = beta and m_0 = 0, as in the authors' code.

    >>> initial_momentum(2.0, beta=0.1, initial_speed=1.0)
    1.8
    >>> initial_momentum(2.0, beta=0.1)
    0.0
    """
    speed = beta if initial_speed is None else initial_speed
    return (speed - beta) * grad


def from_sgd(lr: float, momentum: float = 0.0, nesterov: bool = False) -> Hyperparameters:
    """The hyper-parameters of the INNA with the iterates of ``torch.optim.SGD(lr, momentum, nesterov=nesterov)``.

        gamma = sqrt(lr)    alpha = (1 - momentum)/sqrt(lr)    beta = sqrt(lr), or (1 + momentum) sqrt(lr) with nesterov

    The iterates agree at a constant learning rate, with m_0 = 0. A schedule that scales gamma alone leaves the heavy
    ball, since the discount 1 - alpha gamma and the weight of the momentum change too.

    Args:
        lr: SGD's learning rate, > 0.
        momentum: SGD's momentum, in [0, 1]; dampening is 0.
        nesterov: as in torch, only with a momentum > 0.

    Raises:
        ValueError: an argument is out of range, or nesterov without momentum.

    >>> from_sgd(0.01, momentum=0.95)
    Hyperparameters(lr=0.1, alpha=0.5000000000000004, beta=0.1)
    """
    check_range("lr", lr, minimum=0.0, exclusive=True)
    check_range("momentum", momentum, minimum=0.0, maximum=1.0)
    if nesterov and momentum == 0:
        raise ValueError(f"nesterov=True needs a momentum > 0, got momentum={momentum!r}")
    gamma = math.sqrt(lr)
    return Hyperparameters(gamma, (1 - momentum) / gamma, (1 + momentum) * gamma if nesterov else gamma)


def average_square(
    grad: Array,  # any shape
    exp_avg_sq: Array,  # as grad
    sigma: Array,  # ()
) -> Array:
    """INNAprop's running mean of g²: v' = sigma v + (1 - sigma) g².

    Args:
        grad, exp_avg_sq: g and v, real arrays of one shape, or floats.
        sigma: decay rate of v, in [0, 1).

    >>> average_square(2.0, 0.0, sigma=0.5)
    2.0
    """
    return sigma * exp_avg_sq + (1 - sigma) * grad * grad


def divide_by_root(
    grad: Array,  # any shape
    exp_avg_sq: Array,  # as grad
    count: Array,  # ()
    sigma: Array,  # ()
    eps: Array,  # ()
) -> Array:
    """INNAprop's gradient from the updated mean of g²: ghat = g / (sqrt(v'/(1 - sigma^count)) + eps).

    Args:
        grad, exp_avg_sq: g and v', real arrays of one shape, or floats.
        count: number of this step, counted from 1.
        sigma: decay rate of v, in [0, 1).
        eps: added to the root, >= 0.

    >>> divide_by_root(2.0, 2.0, 1, sigma=0.5, eps=0.0)
    1.0
    """
    return grad / ((exp_avg_sq / (1 - sigma**count)) ** 0.5 + eps)


def rescale(
    grad: Array,  # any shape
    exp_avg_sq: Array,  # as grad
    count: Array,  # ()
    sigma: Array,  # ()
    eps: Array,  # ()
) -> tuple[Array, Array]:
    """INNAprop's gradient, which replaces g in `step` (arXiv 2410.05871), and the updated mean of g².

        v' = sigma v + (1 - sigma) g²        ghat = g / (sqrt(v'/(1 - sigma^count)) + eps)

    This is `average_square` followed by `divide_by_root`.

    Args:
        grad, exp_avg_sq: g and v, real arrays of one shape, or floats.
        count: number of this step, counted from 1.
        sigma: decay rate of v, in [0, 1).
        eps: added to the root, >= 0.

    Returns:
        (ghat, v').

    >>> rescale(2.0, 0.0, 1, sigma=0.5, eps=0.0)
    (1.0, 2.0)
    """
    exp_avg_sq = average_square(grad, exp_avg_sq, sigma)
    return divide_by_root(grad, exp_avg_sq, count, sigma, eps), exp_avg_sq


def decay_innaprop(
    theta: Array,  # any shape
    momentum: Array,  # as theta
    lr: Array,  # ()
    alpha: Array,  # ()
    beta: Array,  # ()
    weight_decay: Array,  # ()
) -> tuple[Array, Array]:
    """Apply INNAprop's weight decay as published, before the step.

        theta' = (1 - lr lambda) theta        m' = m + lr lambda (1/beta - alpha) theta

    The publication shrinks theta and does not change psi. In momentum form this is the second equation.

    Args:
        theta, momentum: arrays of one shape, or floats.
        lr, alpha: learning rate and viscous damping, >= 0.
        beta: Newtonian damping, > 0.
        weight_decay: lambda, >= 0.

    Raises:
        ValueError: beta is the number 0.

    >>> decay_innaprop(1.0, 0.0, lr=0.1, alpha=0.5, beta=0.1, weight_decay=1.0)
    (0.9, 0.9500000000000001)
    """
    _check_positive_beta(beta)
    rate = lr * weight_decay
    return (1 - rate) * theta, momentum + rate * (1 / beta - alpha) * theta


def _check_positive_beta(beta: Array) -> None:
    if isinstance(beta, (int, float)) and beta == 0:
        raise ValueError(f"beta must be > 0 here (1/beta is taken), got {beta!r}")
