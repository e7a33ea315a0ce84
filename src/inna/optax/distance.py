"""INNAprop that finds the length of its steps from an estimated distance.

The distance to the solution, estimated as Prodigy does.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import ScalarOrSchedule

from inna import dynamics
from inna.checks import check_whole
from inna.docstrings import insert
from inna.optax.inertial import ARRAYS
from inna.optax.settings import Rates, check_average, checked, read_dtype
from inna.optax.step import Rule, again, collect, initial_trees, take
from inna.optax.trees import Mask, check_bits, check_params, product, size, sums, unzip

__all__ = ["DistanceState", "innaprop_lr_free"]


class DistanceState(NamedTuple):
    """State of `innaprop_lr_free`.

    The first four are those of `InertialState`; ``steps`` does not count skipped steps either. ``start`` is theta_0
    and ``grad_sum`` is s. ``distance`` is d, ``correlation`` is r and ``average_weight`` is M: () in float32, or in
    float64 where JAX has it enabled.
    """

    count: jax.Array  # type: ignore[assignment]  # (), int32
    steps: jax.Array  # (), int32
    momentum: optax.Updates  # as the parameters
    exp_avg_sq: optax.Updates  # as the parameters
    start: optax.Params  # as the parameters, or (ceil(n / slice_every),) each
    grad_sum: optax.Updates  # as start
    distance: jax.Array  # ()
    correlation: jax.Array  # ()
    average_weight: jax.Array  # ()


@insert(arrays=ARRAYS)
def innaprop_lr_free(
    schedule: ScalarOrSchedule = 1.0,
    alpha: float | jax.Array = dynamics.INNAPROP_DEFAULTS.alpha,
    beta: float | jax.Array = dynamics.INNAPROP_DEFAULTS.beta,
    *,
    sigma: float | jax.Array = dynamics.INNAPROP_DEFAULTS.sigma,
    eps: float | jax.Array = dynamics.INNAPROP_DEFAULTS.eps,
    initial_distance: float | jax.Array = dynamics.LR_FREE_DISTANCE,
    slice_every: int = 1,
    time_step: float | jax.Array | None = None,
    weight_decay: float | jax.Array = 0.0,
    mask: Mask | None = None,
    momentum_dtype: Any | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Make the INNAprop that finds the length of its steps.

    No learning rate has to be tuned.

    .. math::
        w &= (d/d_0)\, d\, \ell, \qquad
        r' = \sqrt\sigma\, r + w \langle g, \theta_0 - \theta\rangle, \qquad
        s' = \sqrt\sigma\, s + w g, \qquad d' = \max(d,\ r'/\|s'\|_1) \\
        u &= -\frac{d' \ell}{M + \beta} (m + \beta \hat g) \\
        m' &= (1 - \alpha h) m + h (1 - \alpha\beta) \hat g, \qquad
        M' = (1 - \alpha h) M + h (1 - \alpha\beta)

    with the rescaled gradient :math:`\hat g` of `innaprop`. The distance d estimates how far the farthest weight is
    from its value at a solution. It starts at :math:`d_0` and never shrinks. M is the total weight of the gradients in
    m, so a step moves each weight by about d. A step with :math:`\ell = 0` or a sum that is not finite changes nothing
    but ``count``.

    Args:
        schedule: factor l >= 0 of the step, a number or a schedule. A decay to 0 helps.
        alpha: viscous damping, > 0.
        beta: Newtonian damping, with 0 <= beta <= 1/alpha.
        sigma: decay rate of the mean of g², in [0, 1).
        eps: added to the root, >= 0.
        initial_distance: d_0 > 0, smaller than any weight's distance to a solution; it grows.
        slice_every: keep ``start`` and ``grad_sum`` for every so many entries of each array only. With 11 they take an
            eleventh of the memory.
        time_step: h of the momentum, with 0 < h <= 1/alpha. None is 0.1/alpha.
        weight_decay: lambda >= 0; theta is multiplied by (1 - d' l lambda), without changing the momentum.
        {arrays}

    Returns:
        The transformation. ``update`` needs ``params``. Its state is a `DistanceState`.

    Raises:
        ValueError: an argument is out of range, or a parameter has fewer than 32 bits: the first steps, of length d_0,
            would be lost in rounding.
        TypeError: a parameter is not floating or complex.

    Examples:
        >>> import jax, jax.numpy as jnp, optax
        >>> from inna.optax import innaprop_lr_free
        >>> optimizer = innaprop_lr_free(optax.linear_schedule(1.0, 0.0, 200))
        >>> params = jnp.array([3.0, -2.0])
        >>> state = optimizer.init(params)
        >>> for _ in range(200):
        ...     grads = jnp.sign(params)  # of |theta|, with the solution 0
        ...     updates, state = optimizer.update(grads, state, params)
        ...     params = optax.apply_updates(params, updates)
        >>> bool(jnp.abs(params).max() < 0.1), 0.1 < float(state.distance) <= 3
        (True, True)

    References:
        The estimate is Prodigy's (Mishchenko and Defazio, arXiv 2306.06101), on INNAprop's average of rescaled
        gradients: :doc:`/algorithm`.
    """
    alpha = checked("alpha", alpha, minimum=0.0, exclusive=True)
    h = dynamics.LR_FREE_TIME_STEP / alpha if time_step is None else time_step
    rates = Rates.checked(schedule, alpha, beta, weight_decay, time_step=h, name="schedule")
    check_average(rates)
    sigma = checked("sigma", sigma, minimum=0.0, below=1.0)
    eps = checked("eps", eps, minimum=0.0)
    first = checked("initial_distance", initial_distance, minimum=0.0, exclusive=True)
    if isinstance(slice_every, jax.Array):
        raise ValueError(
            f"slice_every must be a number of Python, got {slice_every!r}; with optax.inject_hyperparams, list it in "
            "static_args"
        )
    every = check_whole("slice_every", slice_every, 1)
    rule = Rule("innaprop_lr_free", rates, "decoupled", mask, read_dtype(momentum_dtype), sigma, eps)
    return optax.GradientTransformationExtraArgs(
        functools.partial(_init, rule, first, every), functools.partial(_update, rule, first, every)
    )


def _init(rule: Rule, initial_distance: Any, slice_every: int, params: optax.Params) -> DistanceState:
    check_params(rule.name, params)
    check_bits(rule.name, params)
    # Copies, and an array for each number: one buffer cannot be donated twice.
    start = jax.tree.map(lambda p: jnp.array(_slice(p, slice_every), jnp.result_type(p), copy=True), params)
    grad_sum = jax.tree.map(jnp.zeros_like, start)
    momentum, exp_avg_sq = initial_trees(rule, params)
    return DistanceState(
        jnp.zeros([], jnp.int32),
        jnp.zeros([], jnp.int32),
        momentum,
        exp_avg_sq,
        start,
        grad_sum,
        jnp.asarray(initial_distance, float),
        jnp.zeros([], float),
        jnp.zeros([], float),
    )


def _update(
    rule: Rule,
    initial_distance: Any,
    slice_every: int,
    grads: optax.Updates,
    state: DistanceState,
    params: optax.Params | None = None,
    **_: Any,
) -> tuple[optax.Updates, DistanceState]:
    if params is None:
        raise ValueError(f"{rule.name} needs the parameters: call update(grads, state, params)")
    leaves = collect(rule, grads, state, params)
    tree: Any = jax.tree.structure(state.momentum)
    starts, old_sums = tree.flatten_up_to(state.start), tree.flatten_up_to(state.grad_sum)
    now = rule.rates.at(state.count)
    dtype = state.distance.dtype
    weight = dynamics.distance_weight(state.distance, initial_distance, now.lr)
    moved = norm = jnp.zeros([], dtype)
    for leaf, start, grad_sum in zip(leaves, starts, old_sums, strict=True):
        theta, grad = (_slice(x, slice_every).astype(start.dtype) for x in (leaf.theta, leaf.grad))
        new_sum = _accumulate(rule, grad_sum, grad, weight)
        part, its_norm = sums([product(grad, start - theta), size(new_sum)], dtype)
        moved, norm = moved + part, norm + its_norm
    correlation = dynamics.accumulate(state.correlation, moved, weight, rule.sigma)
    distance = dynamics.grow_distance(state.distance, correlation, norm)
    total = state.average_weight + now.beta
    total = total + (total == 0) * 1.0  # then the momentum is 0, and so is the step
    moves = (now.lr != 0) & jnp.isfinite(correlation) & jnp.isfinite(norm)
    length = jnp.where(moves, distance * now.lr, 0)
    here = now._replace(lr=length / total, decay_lr=length)
    rows = [take(rule, here, leaf, moves, state.steps) for leaf in leaves]
    updates, momentum, exp_avg_sq = unzip(state.momentum, rows)
    average_weight = dynamics.update_average(state.average_weight, 1.0, now.time_step, now.alpha, now.beta)
    # Computed a second time, from a weight that XLA cannot identify. Otherwise it stores the first, which takes longer.
    weight = again(weight)
    grad_sums = [
        jnp.where(moves, _accumulate(rule, old, _slice(leaf.grad, slice_every), weight), old)
        for leaf, old in zip(leaves, old_sums, strict=True)
    ]
    scalars = [
        jnp.where(moves, new, old).astype(dtype)
        for new, old in zip((distance, correlation, average_weight), state[-3:], strict=True)
    ]
    return updates, DistanceState(
        optax.safe_increment(state.count),
        state.steps + jnp.asarray(moves, jnp.int32),
        momentum,
        exp_avg_sq,
        state.start,
        tree.unflatten(grad_sums),
        *scalars,
    )


def _accumulate(rule: Rule, grad_sum: jax.Array, grad: jax.Array, weight: jax.Array) -> Any:
    return dynamics.accumulate(grad_sum, grad.astype(grad_sum.dtype), weight.astype(grad_sum.real.dtype), rule.sigma)


def _slice(
    x: Any,  # any shape
    every: int,
) -> jax.Array:
    """Every ``every``-th entry in the order of rows, (ceil(n / every),).

    All in their own shape if it is 1.
    """
    x = jnp.asarray(x)
    return x if every == 1 else jnp.ravel(x)[::every]
