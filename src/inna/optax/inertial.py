"""The transformations with a learning rate, and INNA without one.

`inna`, `innaprop`, `inna_lr_free`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import ScalarOrSchedule

from inna import dynamics
from inna.docstrings import insert
from inna.optax.guard import guarded
from inna.optax.settings import Rates, check_average, checked, read_dtype
from inna.optax.step import Decay, Rule, collect, initial_trees, take
from inna.optax.trees import Mask, check_params, unzip

__all__ = ["InertialState", "inna", "inna_lr_free", "innaprop"]

RATES = """\
learning_rate: learning rate (gamma) >= 0, or a schedule. It is applied here: add no ``scale_by_learning_rate``.
alpha: viscous damping >= 0, or a schedule.
beta: Newtonian damping >= 0, or a schedule."""
SPEED = """\
initial_speed: s, for the initial velocity -s times the first gradient. The paper's experiments use 1. None is s
    = beta, where the momentum starts at 0, as in the authors' code."""
DECAY = """\
weight_decay: lambda >= 0; lambda theta is added to the gradient.
decoupled_weight_decay: multiply theta by (1 - gamma lambda) instead, without changing the momentum. The fixed
    point is that of an L2 penalty with alpha lambda."""
ARRAYS = """\
mask: where to decay: a tree of bools like the parameters, a prefix of one, or a function that makes it.
momentum_dtype: dtype of the momentum. None is that of each parameter. Arithmetic is at least in float32."""
BOUND = """\
max_learning_rate: a bound at which a schedule or traced learning rate is clipped. If it and alpha are numbers
    with alpha max_learning_rate <= 1/2, XLA on the CPU copies no momentum on schedules, whatever the weight decay
    and whatever stands between ``update`` and ``apply_updates``."""


class InertialState(NamedTuple):
    """State of `inna` and `innaprop`.

    ``count`` is the number of calls, the argument of schedules. ``steps`` does not count calls with lr = 0.
    ``momentum`` is m, and ``exp_avg_sq`` is INNAprop's running mean of g², at least in float32; None for INNA.
    """

    # () in int32; hides tuple.count, as Optax's own states do
    count: jax.Array  # type: ignore[assignment]
    steps: jax.Array  # (), int32
    momentum: optax.Updates  # as the parameters
    exp_avg_sq: optax.Updates | None  # as the parameters


@insert(rates=RATES, speed=SPEED, decay=DECAY, arrays=ARRAYS, bound=BOUND)
def inna(
    learning_rate: ScalarOrSchedule = 0.1,
    alpha: ScalarOrSchedule = 0.5,
    beta: ScalarOrSchedule = 0.1,
    *,
    initial_speed: float | jax.Array | None = None,
    weight_decay: float | jax.Array = 0.0,
    mask: Mask | None = None,
    decoupled_weight_decay: bool = False,
    momentum_dtype: Any | None = None,
    max_learning_rate: float | None = None,
    loss_bound: float | jax.Array | None = None,
    time_step: float | jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""INNA, the inertial Newton algorithm, as a gradient transformation.

    .. math::
        u_k &= -\gamma_k (m_k + \beta g_k) \\
        m_{k+1} &= (1 - \alpha\gamma_k) m_k + \gamma_k (1 - \alpha\beta) g_k

    A step with a learning rate of 0 changes neither parameters nor momentum; only the count of schedules advances.
    To maximise, put ``optax.scale(-1.0)`` before it in a chain.

    With a ``loss_bound`` the step is guarded: it is shortened where it would take the average of the past batches'
    linear models of the loss below the bound. Too large a learning rate then does no harm where the loss comes near
    its bound. ``update`` takes the loss of the batch, ``update(grads, state, params, value=loss)``. The memory of the
    guard is three numbers for the whole model. A step with a loss or an inner product that is not finite changes
    nothing but ``count``.

    Args:
        {rates}
        {speed}
        {decay}
        {arrays}
        {bound}
        loss_bound: f*, a lower bound of the loss of every batch; 0 for cross-entropy and squared errors. None is no
            guard. The guard needs alpha beta <= 1, alpha h <= 1 and s >= beta.
        time_step: h > 0, the time step of the momentum. None is gamma, which is INNA. With a number, gamma is the
            length of the step only, and with a guard its cap.

    Returns:
        The transformation. With weight decay, ``update`` needs ``params``. Its state is an `InertialState`, or with a
        ``loss_bound`` a `GuardedState`.

    Raises:
        ValueError: an argument is out of range. Schedules and traced values are not checked. With a ``loss_bound``,
            ``update`` raises it if ``value`` is missing.
        TypeError: a parameter is not floating or complex.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from inna.optax import inna
        >>> optimizer = inna(learning_rate=0.1, alpha=0.5, beta=0.1)
        >>> params = jnp.array([1.0, -2.0])
        >>> state = optimizer.init(params)
        >>> for _ in range(200):
        ...     grads = jax.grad(lambda x: jnp.sum(x**2))(params)
        ...     updates, state = optimizer.update(grads, state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> bool(jnp.abs(params).max() < 0.02)
        True

    References:
        Castera, Bolte, Févotte, Pauwels, An Inertial Newton Algorithm for Deep Learning, JMLR 22(134), 2021, eq. (12).
        The guard is Polyak's step on INNA's average of gradients: :doc:`/algorithm`.
    """
    rates = Rates.checked(
        learning_rate,
        alpha,
        beta,
        weight_decay,
        initial_speed=initial_speed,
        max_learning_rate=max_learning_rate,
        time_step=time_step,
    )
    decay: Decay = "decoupled" if decoupled_weight_decay else "penalty"
    rule = Rule("inna", rates, decay, mask, read_dtype(momentum_dtype))
    if loss_bound is None:
        return _inertial(rule)
    check_average(rates)
    return guarded(rule, checked("loss_bound", loss_bound))


@insert(speed=SPEED, decay=DECAY, arrays=ARRAYS)
def inna_lr_free(
    alpha: float | jax.Array = dynamics.INNA_LR_FREE_DEFAULTS.alpha,
    beta: float | jax.Array = dynamics.INNA_LR_FREE_DEFAULTS.beta,
    *,
    loss_bound: float | jax.Array = 0.0,
    schedule: ScalarOrSchedule = 1.0,
    initial_distance: float | jax.Array = dynamics.LR_FREE_DISTANCE,
    initial_speed: float | jax.Array | None = None,
    weight_decay: float | jax.Array = 0.0,
    mask: Mask | None = None,
    decoupled_weight_decay: bool = False,
    momentum_dtype: Any | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Make the guarded INNA with no learning rate to tune.

    The guard finds the length of each step where the loss comes near its bound. Elsewhere the distance from the start
    does: see "The guarded step" in :doc:`/algorithm`.

    It is `inna` with a ``loss_bound``, ``time_step`` 0.1/alpha and a learning rate of ``schedule`` times r/sqrt(G), a
    cap, with r the largest distance from the start so far, and G the sum of all squared gradients. ``update`` takes the
    loss of the batch, ``update(grads, state, params, value=loss)``.

    Args:
        alpha: viscous damping, > 0.
        beta: Newtonian damping, with 0 <= beta <= 1/alpha.
        loss_bound: f*, a lower bound of the loss of every batch.
        schedule: factor of the cap >= 0, a number or a schedule.
        initial_distance: r_0 > 0, smaller than the distance of all weights to a solution; it grows.
        {speed}
        {decay}
        {arrays}

    Returns:
        The transformation. Its state is a `GuardedState`.

    Raises:
        ValueError: an argument is out of range. ``update`` raises it if ``value`` is missing.
        TypeError: a parameter is not floating or complex.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from inna.optax import inna_lr_free
        >>> optimizer = inna_lr_free()
        >>> params = jnp.array([3.0, -2.0])
        >>> state = optimizer.init(params)
        >>> for _ in range(200):
        ...     loss, grads = jax.value_and_grad(lambda x: jnp.sum(x**2))(params)
        ...     updates, state = optimizer.update(grads, state, params, value=loss)
        ...     params = optax.apply_updates(params, updates)
        >>> bool(loss < 1e-3), 0 < int(state.guarded) <= int(state.steps)
        (True, True)

    References:
        The cap is that of DoG (Ivgi, Hinder and Carmon, arXiv 2302.12022), the guard Polyak's.
    """
    alpha = checked("alpha", alpha, minimum=0.0, exclusive=True)
    h = dynamics.LR_FREE_TIME_STEP / alpha
    rates = Rates.checked(
        schedule, alpha, beta, weight_decay, initial_speed=initial_speed, time_step=h, name="schedule"
    )
    check_average(rates)
    decay: Decay = "decoupled" if decoupled_weight_decay else "penalty"
    return guarded(
        Rule("inna_lr_free", rates, decay, mask, read_dtype(momentum_dtype)),
        checked("loss_bound", loss_bound),
        checked("initial_distance", initial_distance, minimum=0.0, exclusive=True),
    )


@insert(rates=RATES, speed=SPEED, arrays=ARRAYS, bound=BOUND)
def innaprop(
    learning_rate: ScalarOrSchedule = 1e-3,
    alpha: ScalarOrSchedule = 0.1,
    beta: ScalarOrSchedule = 0.9,
    sigma: float | jax.Array = 0.999,
    eps: float | jax.Array = 1e-8,
    weight_decay: float | jax.Array = 0.01,
    *,
    initial_speed: float | jax.Array | None = None,
    mask: Mask | None = None,
    momentum_dtype: Any | None = None,
    max_learning_rate: float | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""INNAprop: INNA on RMSprop's gradient.

    .. math::
        v_{k+1} &= \sigma v_k + (1 - \sigma) g_k^2 \\
        \hat g_k &= g_k / (\sqrt{v_{k+1} / (1 - \sigma^{k+1})} + \epsilon)

    and the step of `inna` with :math:`\hat g_k`. Complex gradients are rescaled by their real and imaginary parts.

    Args:
        {rates}
        sigma: decay rate of the mean of g², in [0, 1).
        eps: added to the root, >= 0.
        weight_decay: lambda >= 0. As published, theta is multiplied by (1 - gamma lambda) and gamma lambda
            (1/beta - alpha) theta is added to the momentum, before the step. It needs beta > 0.
        {speed}
        {arrays}
        {bound}

    Returns:
        The transformation. With weight decay, ``update`` needs ``params``.

    Raises:
        ValueError: an argument is out of range, or beta = 0 with weight decay.
        TypeError: a parameter is not floating or complex.

    Examples:
        >>> import jax.numpy as jnp
        >>> from inna.optax import innaprop
        >>> optimizer = innaprop(learning_rate=0.1, weight_decay=0.0)
        >>> params = jnp.array([1.0, -2.0])
        >>> updates, state = optimizer.update(2 * params, optimizer.init(params), params)
        >>> print(updates.round(4))  # gamma beta against the sign of the gradient
        [-0.09  0.09]

    References:
        Bolte, Boustany, Pauwels, Purica, A second-order-like optimizer with adaptive gradient scaling for deep
        learning, arXiv 2410.05871, 2024.
    """
    rates = Rates.checked(
        learning_rate, alpha, beta, weight_decay, initial_speed=initial_speed, max_learning_rate=max_learning_rate
    )
    sigma = checked("sigma", sigma, minimum=0.0, below=1.0)
    eps = checked("eps", eps, minimum=0.0)
    if rates.weight_decay is not None and isinstance(rates.beta, float) and rates.beta == 0:
        raise ValueError(f"beta must be > 0 with weight_decay (1/beta is taken), got {beta!r}")
    return _inertial(Rule("innaprop", rates, "published", mask, read_dtype(momentum_dtype), sigma, eps))


def _inertial(rule: Rule) -> optax.GradientTransformationExtraArgs:
    return optax.GradientTransformationExtraArgs(functools.partial(_init, rule), functools.partial(_update, rule))


def _init(rule: Rule, params: optax.Params) -> InertialState:
    check_params(rule.name, params)
    # Two arrays: one buffer cannot be donated twice.
    count, steps = jnp.zeros([], jnp.int32), jnp.zeros([], jnp.int32)
    return InertialState(count, steps, *initial_trees(rule, params))


def _update(
    rule: Rule, grads: optax.Updates, state: InertialState, params: optax.Params | None = None, **_: Any
) -> tuple[optax.Updates, InertialState]:
    leaves = collect(rule, grads, state, params)
    now = rule.rates.at(state.count)
    moves = now.lr != 0
    updates, momentum, exp_avg_sq = unzip(
        state.momentum, [take(rule, now, leaf, moves, state.steps) for leaf in leaves]
    )
    return updates, InertialState(
        optax.safe_increment(state.count),
        state.steps + jnp.asarray(moves, jnp.int32),
        momentum,
        None if rule.sigma is None else exp_avg_sq,
    )
