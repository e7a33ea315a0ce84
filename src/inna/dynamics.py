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
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inna.checks import check_range

__all__ = [
    "INNAPROP_DEFAULTS",
    "INNA_DEFAULTS",
    "INNA_LR_FREE_DEFAULTS",
    "LENGTH_RANGES",
    "LR_FREE_DISTANCE",
    "LR_FREE_TIME_STEP",
    "NO_MEMORY",
    "RANGES",
    "GuardMemory",
    "GuardTerms",
    "Hyperparameters",
    "PropHyperparameters",
    "Ranges",
    "accumulate",
    "average_square",
    "check_weights",
    "decay_innaprop",
    "distance_cap",
    "distance_weight",
    "divide_by_root",
    "field",
    "from_sgd",
    "grow_distance",
    "guard_factor",
    "guard_terms",
    "initial_memory",
    "initial_momentum",
    "momentum_from_phase",
    "move_memory",
    "phase_from_momentum",
    "rescale",
    "step",
    "update_average",
    "update_memory",
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


Ranges = Mapping[str, Mapping[str, Any]]
"""Name of a setting -> keyword arguments of `check_range`."""

RANGES: Ranges = {
    "lr": {"minimum": 0.0},
    "alpha": {"minimum": 0.0},
    "beta": {"minimum": 0.0},
    "weight_decay": {"minimum": 0.0},
    "sigma": {"minimum": 0.0, "below": 1.0},
    "eps": {"minimum": 0.0},
}
"""The range of each setting."""

LENGTH_RANGES: Ranges = {name: {"minimum": 0.0, "exclusive": True} for name in ("time_step", "initial_distance")}
"""The ranges of the settings of `INNA.lr_free` and `INNAprop.lr_free` that may be None."""

INNA_DEFAULTS = Hyperparameters(lr=0.1, alpha=0.5, beta=0.1)
"""Defaults of every INNA in this package: the paper's recommended dampings, the authors' learning rate."""

INNAPROP_DEFAULTS = PropHyperparameters(lr=1e-3, alpha=0.1, beta=0.9, sigma=0.999, eps=1e-8, weight_decay=0.01)
"""Defaults of every INNAprop in this package, as published."""

LR_FREE_TIME_STEP = 0.1
"""Without a learning rate, the time step h is this over alpha: an average over ten steps, whatever alpha is."""

LR_FREE_DISTANCE = 1e-6
"""Without a learning rate, the distance that is known at the start; far below that of any weight to a solution.

Of each weight with INNAprop (d_0), of all weights with INNA (r_0).
"""

INNA_LR_FREE_DEFAULTS = Hyperparameters(lr=1.0, alpha=0.5, beta=0.5)
"""Defaults of the INNA without a learning rate, where lr is a factor of the cap."""


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
    time_step: Array | None = None,  # ()
) -> tuple[Array, Array]:
    """Take one iteration of INNA in momentum form, the paper's eq. (12).

    The iterates agree for any learning rates.

        theta' = theta - lr (momentum + beta grad)
        momentum' = (1 - alpha h) momentum + h (1 - alpha beta) grad        h = lr

    With a ``time_step`` h of its own, the momentum forgets at a rate that does not depend on the learning rate.

    Args:
        theta, momentum, grad: arrays of one shape, or floats; ``grad`` is the gradient at ``theta``.
        lr: learning rate gamma_k, >= 0.
        alpha: viscous damping, >= 0.
        beta: Newtonian damping, >= 0.
        time_step: h > 0, the time step of the momentum. None is lr, which is INNA.

    Returns:
        The next (theta, momentum). The arguments do not change.

    >>> step(1.0, 0.0, 2.0, lr=0.1, alpha=0.5, beta=0.1)
    (0.98, 0.19)
    """
    h = lr if time_step is None else time_step
    return theta - lr * (momentum + beta * grad), update_average(momentum, grad, h, alpha, beta)


def update_average(
    average: Array,  # any shape
    value: Array,  # as average
    time_step: Array,  # ()
    alpha: Array,  # ()
    beta: Array,  # ()
) -> Array:
    """Update a sum of past values with the momentum's weights.

    It becomes a' = (1 - alpha h) a + h (1 - alpha beta) x.

    The momentum is this sum of the gradients. The weights are >= 0 if alpha beta <= 1 and alpha h <= 1. With the
    newest value's beta x, their total tends to 1/alpha.

    Args:
        average: a, the sum before this step.
        value: x, this step's value, shaped like ``average``.
        time_step: h, > 0.
        alpha, beta: the dampings, >= 0.

    >>> update_average(2.0, 1.0, time_step=0.5, alpha=0.5, beta=0.0)
    2.0
    """
    return (1 - alpha * time_step) * average + time_step * (1 - alpha * beta) * value


def check_weights(alpha: float, **factors: float | None) -> None:
    """Check that past gradients have weights >= 0 in m + beta g.

    That is, alpha times each factor is at most 1.

    Args:
        alpha: viscous damping.
        **factors: beta and the time step, by their names in the message; None is not checked.

    Raises:
        ValueError: a product is larger than 1.

    >>> check_weights(0.5, beta=0.1, time_step=3.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ValueError: alpha * time_step must be <= 1 here, got 0.5 * 3.0: past gradients would ...
    """
    for name, value in factors.items():
        if value is not None and alpha * value > 1:
            raise ValueError(
                f"alpha * {name} must be <= 1 here, got {alpha!r} * {value!r}: "
                "past gradients would have negative weights"
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

    >>> # psi = (1 - alpha beta) theta is at rest
    >>> momentum_from_phase(2.0, 1.9, alpha=0.5, beta=0.1)
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
    """The hyper-parameters of the INNA with the iterates of ``torch.optim.SGD``.

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
    """INNAprop's gradient from the updated mean of g².

    It is ghat = g / (sqrt(v'/(1 - sigma^count)) + eps).

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
    """INNAprop's gradient, which replaces g in `step`, and the new mean of g².

    Source: arXiv 2410.05871.

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


class GuardMemory(NamedTuple):
    """The guarded step's memory of past mini-batches: three scalars.

    They are weighted sums, as the momentum is one.

    Each past mini-batch i gives a linear model of its loss, f_i + <g_i, theta - theta_i>. With the momentum's weights
    w_i these models sum up to ``loss + offset + <m, theta>``. Keep the scalars in float64: the last two cancel.
    """

    weight: Array
    """M, the sum of w_i."""
    loss: Array
    """The sum of w_i f_i."""
    offset: Array
    """Minus the sum of w_i <g_i, theta_i>."""


NO_MEMORY = GuardMemory(0.0, 0.0, 0.0)
"""The memory before the first step, where the momentum is 0."""


class GuardTerms(NamedTuple):
    """The part of a group of parameters in the guard's decision, all ()."""

    decrease: Array
    """Predicted decrease of the averaged model under the full step: lr |m + beta g|^2 / W."""
    loss: Array
    """Average of the losses, the newest one included."""
    slope: Array
    """Average of <g_i, theta - theta_i>."""


def guard_terms(
    memory: GuardMemory,
    loss: Array,  # ()
    momentum_theta: Array,  # ()
    norm_squared: Array,  # ()
    lr: Array,  # ()
    beta: Array,  # ()
) -> GuardTerms:
    """Describe the averaged model of the loss at theta, and a full step on it.

    The average has the weights of u = m + beta g, whose total is W = M + beta, so that its gradient is u/W:

        decrease = lr |u|^2 / W      loss = (memory.loss + beta f) / W      slope = (memory.offset + <m, theta>) / W

    Args:
        memory: before this step.
        loss: f, the loss of the mini-batch whose gradient is g. With an L2 penalty, the penalty included.
        momentum_theta: the inner product <m, theta>.
        norm_squared: |m + beta g|^2.
        lr: learning rate, >= 0.
        beta: Newtonian damping, >= 0.

    >>> guard_terms(NO_MEMORY, 3.0, 0.0, 4.0, lr=0.5, beta=0.5)
    GuardTerms(decrease=4.0, loss=3.0, slope=0.0)
    """
    total = memory.weight + beta
    total = total + (total == 0) * 1.0  # then u is 0, and so are the three numerators
    return GuardTerms(
        lr * norm_squared / total,
        (memory.loss + beta * loss) / total,
        (memory.offset + momentum_theta) / total,
    )


def guard_factor(groups: Sequence[GuardTerms], loss_bound: Array) -> Array:
    """The factor in [0, 1] by which the guard shortens the step of all groups.

    A step along -u that takes the averaged model below a lower bound f* of the losses trusts the model where it cannot
    be right. The step is cut where the model reaches f*. With one group, the learning rate becomes

        e = min(lr, max(gap, 0)/|u|^2)      gap = phi + <m, theta> + beta f - (M + beta) f*

    where phi is ``memory.loss + memory.offset``. For several groups the decreases and the slopes are summed, and the
    averages of the losses are averaged with the decreases as weights. If the groups agree in alpha, beta and time
    step, this is the formula above for all parameters together.

    Args:
        groups: `guard_terms` of each group of parameters, all finite.
        loss_bound: f*, at most the loss of any mini-batch.

    Returns:
        1 where the guard does not bind or no group would move.

    Source: Polyak's step on INNA's average of gradients. For alpha beta = 1 it is SPS (Loizou et al. 2021), for the
    heavy ball it is MoMo (Schaipp et al., arXiv 2305.07583).

    >>> guard_factor([GuardTerms(decrease=4.0, loss=3.0, slope=-1.0)], 0.0)
    0.5
    >>> guard_factor([GuardTerms(decrease=1.0, loss=3.0, slope=-1.0)], 0.0)
    1.0
    """
    decrease = sum(group.decrease for group in groups)
    moves = (decrease > 0) * 1.0
    loss = sum(group.decrease * group.loss for group in groups) / (decrease + (1 - moves))
    gap = loss + sum(group.slope for group in groups) - loss_bound
    cut = moves * ((gap < decrease) * 1.0)
    return (1 - cut) + cut * ((gap > 0) * 1.0) * gap / (decrease + (1 - moves))


def distance_cap(
    distance: Array,  # ()
    squares: Array,  # ()
    lr: Array,  # ()
) -> Array:
    """The learning rate of INNA without one, before the guard: lr r / sqrt(G).

    0 where all gradients were 0.

    Args:
        distance: r, the largest distance from the start so far, the largest of r_0 and |theta_i - theta_0|.
        squares: G, the sum of |g_i|^2 over the mini-batches so far, this one included.
        lr: factor of the schedule, >= 0.

    Source: DoG (Ivgi, Hinder and Carmon, arXiv 2302.12022), here for INNA's sum of gradients, whose total weight is
    1/alpha.

    >>> distance_cap(3.0, 4.0, 0.5), distance_cap(3.0, 0.0, 0.5)
    (0.75, 0.0)
    """
    positive = (squares > 0) * 1.0
    return positive * lr * distance / (squares + (1 - positive)) ** 0.5


def update_memory(
    memory: GuardMemory,
    loss: Array,  # ()
    grad_theta: Array,  # ()
    time_step: Array,  # ()
    alpha: Array,  # ()
    beta: Array,  # ()
) -> GuardMemory:
    """Add this mini-batch's linear model to the memory.

    `step` adds its gradient to the momentum with the same weight.

    Args:
        memory: before this step.
        loss: f, as for `guard_terms`.
        grad_theta: the inner product <g, theta>, with theta before the step.
        time_step: h, > 0. Never the shortened learning rate: once that is 0, the average would never forget.
        alpha, beta: the dampings, with alpha beta <= 1 and alpha h <= 1.

    >>> update_memory(NO_MEMORY, 3.0, 2.0, time_step=0.1, alpha=0.5, beta=0.0)
    GuardMemory(weight=0.1, loss=0.30000000000000004, offset=-0.2)
    """
    return GuardMemory(
        *(update_average(*pair, time_step, alpha, beta) for pair in zip(memory, (1.0, loss, -grad_theta), strict=True))
    )


def initial_memory(
    loss: Array,  # ()
    grad_theta: Array,  # ()
    beta: Array,  # ()
    initial_speed: Array | None = None,  # ()
) -> GuardMemory:
    """The memory before the first step with an initial velocity.

    The weight of the first batch is s - beta.

    Args:
        loss: f_0, the first mini-batch's loss.
        grad_theta: the inner product <g_0, theta_0>.
        beta: Newtonian damping, >= 0.
        initial_speed: s >= beta, as for `initial_momentum`. None is s = beta.

    >>> initial_memory(3.0, 2.0, beta=0.5, initial_speed=1.0)
    GuardMemory(weight=0.5, loss=1.5, offset=-1.0)
    """
    return GuardMemory(*(initial_momentum(value, beta, initial_speed) for value in (1.0, loss, -grad_theta)))


def move_memory(
    memory: GuardMemory,
    momentum_moved: Array,  # ()
) -> GuardMemory:
    """Let theta be measured from the new theta' instead of the old one.

    The models are the same wherever theta is measured from. Measured from itself, theta is 0, and so are <m, theta> in
    `guard_terms` and <g, theta> in `update_memory`. Then ``offset`` is the average slope itself, and nothing cancels:
    float32 suffices.

    Args:
        memory: after `update_memory`.
        momentum_moved: the inner product <m', theta' - theta> with the updated momentum.

    >>> move_memory(GuardMemory(weight=0.5, loss=1.5, offset=-1.0), -0.25)
    GuardMemory(weight=0.5, loss=1.5, offset=-1.25)
    """
    return memory._replace(offset=memory.offset + momentum_moved)


def accumulate(
    total: Array,  # any shape
    value: Array,  # as total
    weight: Array,  # ()
    sigma: Array,  # ()
) -> Array:
    """A sum that finds INNAprop's distance: a' = sqrt(sigma) a + w x.

    Of r, x is <g, theta_0 - theta>; of s, x is g.

    Args:
        total: a, the sum before this step.
        value: x, shaped like ``total``.
        weight: w, from `distance_weight`.
        sigma: decay rate of the mean of g², in [0, 1).

    >>> accumulate(1.0, 3.0, 0.5, sigma=0.25)
    2.0
    """
    return sigma**0.5 * total + weight * value


def distance_weight(
    distance: Array,  # ()
    initial_distance: Array,  # ()
    lr: Array,  # ()
) -> Array:
    """Weight of this step in the sums that find the distance: w = (d/d_0) d lr.

    Args:
        distance: d, the estimate before this step.
        initial_distance: d_0 > 0.
        lr: factor of the schedule, >= 0.

    >>> distance_weight(0.5, 0.25, 1.0)
    1.0
    """
    return distance / initial_distance * distance * lr


def grow_distance(
    distance: Array,  # ()
    correlation: Array,  # ()
    norm: Array,  # ()
) -> Array:
    """The estimate of the distance to the solution, per entry.

    It is d' = max(d, r'/|s'|_1).

    Args:
        distance: d, the estimate before this step.
        correlation: r', the updated sum of w <g, theta_0 - theta>.
        norm: the 1-norm of s', the updated sum of w g.

    Source: Prodigy (Mishchenko and Defazio, arXiv 2306.06101), on INNAprop's average of rescaled gradients.

    >>> grow_distance(0.5, 3.0, 4.0)
    0.75
    >>> grow_distance(0.5, 0.0, 0.0)
    0.5
    """
    grows = (norm > 0) * 1.0 * (correlation > distance * norm)
    return (1 - grows) * distance + grows * correlation / (norm + (1 - grows))


def _check_positive_beta(beta: Array) -> None:
    if isinstance(beta, (int, float)) and beta == 0:
        raise ValueError(f"beta must be > 0 here (1/beta is taken), got {beta!r}")
