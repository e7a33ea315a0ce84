"""The guarded step: INNA with a lower bound of its averaged model.

The step is cut where the model of the loss would fall below it.

The equations are those of `inna.dynamics`. Its memory measures theta from the current theta, see
`inna.dynamics.move_memory`: JAX is in float32 by default, and the textbook form <m, theta> + offset cancels there.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from inna import dynamics
from inna.optax.settings import Settings
from inna.optax.step import Leaf, Rule, again, collect, initial_trees, prepare, take
from inna.optax.trees import bits, check_bits, check_params, leaves_like, product, sums, unzip

__all__ = ["GuardedState", "guarded"]


class GuardedState(NamedTuple):
    """State of `inna` with a ``loss_bound``, and of `inna_lr_free`.

    ``count``, ``steps`` and ``momentum`` are those of `InertialState`; ``steps`` does not count skipped steps either.
    ``memory`` holds three numbers, as in `inna.dynamics.GuardMemory`, with theta measured from the current parameters.
    ``guarded`` is the number of steps that the guard shortened, so that guarded/steps is their share. ``last_lr`` is
    the learning rate after the guard of the last step taken. Numbers are in float32, or in float64 where JAX has it
    enabled. The last three are those of `inna_lr_free`, None else: ``start`` is theta_0, ``distance`` the largest
    distance from it so far, and ``squares`` the sum of all squared gradients.
    """

    count: jax.Array  # type: ignore[assignment]  # (), int32
    steps: jax.Array  # (), int32
    momentum: optax.Updates  # as the parameters
    memory: dynamics.GuardMemory  # of ()
    guarded: jax.Array  # (), int32
    last_lr: jax.Array  # ()
    start: optax.Updates | None = None  # as the parameters
    distance: jax.Array | None = None  # ()
    squares: jax.Array | None = None  # ()


class Measures(NamedTuple):
    """One array's part in the inner products over all parameters, all ()."""

    norm_squared: Any
    """|m + beta g|^2."""
    next_momentum: Any
    """<m', m + beta g>."""
    decay: Any
    """<m', what decay that multiplies theta adds to it>."""
    penalty: Any
    """lambda/2 |theta|^2, where weight decay is a penalty."""
    grad_squared: Any
    """|g|^2, for a cap by the distance."""
    distance_squared: Any
    """|theta - theta_0|^2, likewise."""


def guarded(rule: Rule, loss_bound: Any, initial_distance: Any = None) -> optax.GradientTransformationExtraArgs:
    """The transformation of a ``rule`` without mean of g², with a guard.

    With an ``initial_distance``, the learning rate is a factor of a cap by the distance from the start.
    """
    return optax.GradientTransformationExtraArgs(
        functools.partial(_init, rule, initial_distance), functools.partial(_update, rule, loss_bound)
    )


def _init(rule: Rule, initial_distance: Any, params: optax.Params) -> GuardedState:
    check_params(rule.name, params)
    # An array for each number: one buffer cannot be donated twice.
    (count, steps, guarded_steps), (weight, loss, offset, last_lr) = (
        [jnp.zeros([], dtype) for _ in range(n)] for dtype, n in ((jnp.int32, 3), (float, 4))
    )
    momentum, _ = initial_trees(rule, params)
    memory = dynamics.GuardMemory(weight, loss, offset)
    state = GuardedState(count, steps, momentum, memory, guarded_steps, last_lr)
    if initial_distance is None:
        return state
    check_bits(rule.name, params)
    return state._replace(
        # Copies: one buffer cannot be donated twice.
        start=jax.tree.map(lambda p: jnp.array(p, jnp.result_type(p), copy=True), params),
        distance=jnp.array(initial_distance, float),
        squares=jnp.zeros([], float),
    )


def _update(
    rule: Rule,
    loss_bound: Any,
    grads: optax.Updates,
    state: GuardedState,
    params: optax.Params | None = None,
    *,
    value: Any = None,
    **_: Any,
) -> tuple[optax.Updates, GuardedState]:
    dtype = state.memory.weight.dtype
    loss = _read_loss(rule, value).astype(dtype)
    leaves = collect(rule, grads, state, params)
    now = rule.rates.at(state.count)
    now = now._replace(time_step=now.lr if now.time_step is None else now.time_step)
    starts: list[Any] = [None] * len(leaves)
    if state.start is not None:
        if params is None:
            raise ValueError(f"{rule.name} needs the parameters: call update(grads, state, params, value=loss)")
        starts = leaves_like("state", state.start, state.momentum)
    parts = [_measure(rule, now, *pair, state.steps, dtype) for pair in zip(leaves, starts, strict=True)]
    totals = Measures(*(sum(column, jnp.zeros([], dtype)) for column in zip(*parts, strict=True)))
    turned = now.lr != 0
    distance, squares = state.distance, state.squares
    if distance is not None and squares is not None:
        distance = jnp.maximum(distance, jnp.sqrt(totals.distance_squared))
        squares = squares + totals.grad_squared
        cap = dynamics.distance_cap(distance, squares, 1.0)
        now = now._replace(lr=cap * now.lr, decay_lr=cap * now.decay_lr)
        totals = totals._replace(decay=cap * totals.decay)
    loss = loss + totals.penalty
    memory = state.memory
    if now.initial_speed is not None:
        start = dynamics.initial_memory(loss, 0.0, now.beta, now.initial_speed)
        memory = jax.tree.map(lambda new, old: jnp.where(state.steps == 0, new, old), start, memory)
    factor = dynamics.guard_factor(
        [dynamics.guard_terms(memory, loss, 0.0, totals.norm_squared, now.lr, now.beta)], loss_bound
    )
    lr = now.lr * factor
    memory = dynamics.update_memory(memory, loss, 0.0, now.time_step, now.alpha, now.beta)
    memory = dynamics.move_memory(memory, totals.decay - lr * totals.next_momentum)
    # All inner products are in the condition, so that XLA has them before it writes over the old momentum.
    finite = functools.reduce(jnp.logical_and, map(jnp.isfinite, (loss, *totals)))
    moves = turned & finite
    cut = now._replace(lr=jnp.where(moves, lr, 0))
    rows = [take(rule, cut, leaf, moves, state.steps) for leaf in leaves]
    updates, momentum, _ = unzip(state.momentum, rows)
    if params is not None:
        rounded = [
            _rounding(rule, cut, leaf, row, moves, state.steps, dtype) for leaf, row in zip(leaves, rows, strict=True)
        ]
        memory = dynamics.move_memory(memory, sum(rounded, jnp.zeros([], dtype)))
    memory, last_lr, distance, squares = jax.tree.map(
        lambda new, old: jnp.where(moves, new, old).astype(dtype),
        (memory, lr, distance, squares),
        (state.memory, state.last_lr, state.distance, state.squares),
    )
    return updates, GuardedState(
        optax.safe_increment(state.count),
        state.steps + jnp.asarray(moves, jnp.int32),
        momentum,
        memory,
        state.guarded + jnp.asarray(moves & (factor < 1), jnp.int32),
        last_lr,
        state.start,
        distance,
        squares,
    )


def _read_loss(rule: Rule, value: Any) -> jax.Array:
    if value is None:
        raise ValueError(
            f"{rule.name} with a loss_bound needs the loss of the batch: call update(grads, state, params, value=loss) "
            "with loss and grads from jax.value_and_grad"
        )
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise ValueError(
            f"value must be the loss, a floating number of shape (), got {jnp.result_type(value)} of shape "
            f"{jnp.shape(value)}"
        )
    return jnp.asarray(value)


def _measure(rule: Rule, now: Settings, leaf: Leaf, first: Any, steps: Any, dtype: Any) -> Measures:
    # Numbers that XLA cannot identify with those of the step. Otherwise it stores m', which takes longer.
    beta, h = again((now.beta, now.time_step))
    start = prepare(rule, now._replace(beta=beta, time_step=h), leaf, True, steps, None)
    here = start.settings
    average = start.momentum + here.beta * start.grad
    momentum = dynamics.update_average(start.momentum, start.grad, here.time_step, here.alpha, here.beta)
    decay = 0.0 if start.decay is None else product(momentum, start.decay)
    penalty = 0.0
    if here.weight_decay is not None and rule.decay == "penalty":
        penalty = here.weight_decay / 2 * product(start.theta, start.theta)
    squares: list[Any] = [0.0, 0.0]
    if first is not None:
        squares = [product(x, x) for x in (start.grad, start.theta - jnp.asarray(first).astype(start.dtype))]
    terms = Measures(product(average, average), product(momentum, average), decay, penalty, *squares)
    here_at_all = [not isinstance(term, float) for term in terms]
    made = iter(sums([term for term, there in zip(terms, here_at_all, strict=True) if there], dtype))
    return Measures(*(next(made) if there else jnp.zeros([], dtype) for there in here_at_all))


def _rounding(
    rule: Rule, now: Settings, leaf: Leaf, row: tuple[Any, Any, Any], moves: Any, steps: Any, dtype: Any
) -> jax.Array:
    """<m', error of theta'> by rounding theta' to fewer than 32 bits.

    Where that is not small.
    """
    if bits(leaf.theta) >= 32:
        return jnp.zeros([], dtype)
    to = jnp.finfo(jnp.result_type(leaf.theta))  # type: ignore[no-untyped-call]
    update, momentum, _ = row
    start = prepare(rule, now, leaf, moves, steps, None)
    average = start.momentum + start.settings.beta * start.grad
    meant = (0.0 if start.decay is None else start.decay) - start.settings.lr * average
    # A plain cast to 16 bits and back may be removed by XLA.
    theta = jax.lax.reduce_precision(start.theta + update.astype(start.dtype), to.nexp, to.nmant)
    (total,) = sums([product(momentum, theta - start.theta - meant)], dtype)
    return total
