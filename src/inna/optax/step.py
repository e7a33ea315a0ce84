"""One step of one array, for all transformations. The equations are those of `inna.dynamics`.

A second form gives the same update from the new momentum m' instead of the old one:

    u = -lr (m + beta g) = -lr/(1 - alpha h) (m' + (beta - h) g)

With donated buffers, XLA on the CPU then writes m' over m. In the first form it copies m, which doubles the time of a
step. The second form divides, so it is taken only if |1 - alpha h| >= 1/2 is known in advance. Otherwise, see
docs/from-sgd-or-adam.md.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from inna import dynamics
from inna.optax.settings import Rates, Settings
from inna.optax.trees import Mask, at_least_single, broadcast, leaves_like

__all__ = ["Decay", "Leaf", "Rule", "collect", "initial_trees", "prepare", "take"]


# lambda theta is added to g; or theta shrinks; or theta shrinks and the momentum changes, as INNAprop's paper has it.
Decay = Literal["penalty", "decoupled", "published"]


class Rule(NamedTuple):
    """A transformation: its hyper-parameters and what it does to gradients and weights before the step."""

    name: str
    rates: Rates
    decay: Decay
    mask: Mask | None = None
    momentum_dtype: Any = None
    sigma: Any = None
    """Decay rate of the mean of g². None does not rescale gradients."""
    eps: Any = None


class Leaf(NamedTuple):
    """One array's part of the trees."""

    decays: Any
    theta: Any
    grad: Any
    momentum: Any
    exp_avg_sq: Any = None


class Prepared(NamedTuple):
    """What the step of an array starts from, in the dtype of the arithmetic."""

    theta: Any
    momentum: Any
    grad: Any
    exp_avg_sq: Any
    """The updated mean of g², or None."""
    decay: Any
    """What decay that multiplies theta adds to it, or None."""
    settings: Settings
    dtype: Any


def initial_trees(rule: Rule, params: Any) -> tuple[Any, Any]:
    """The momentum and the mean of g² before the first step: zeros, or None where there is no mean."""
    momentum = jax.tree.map(lambda p: jnp.zeros_like(p, rule.momentum_dtype or jnp.result_type(p)), params)
    if rule.sigma is None:
        return momentum, None
    return momentum, jax.tree.map(lambda p: jnp.zeros_like(p, at_least_single(p)), params)


def collect(rule: Rule, grads: Any, state: Any, params: Any | None) -> list[Leaf]:
    """Pair the leaves of all trees, in the order of the momentum's.

    Without ``params`` and decay, the gradients stand for them: only their dtypes matter.

    Raises:
        ValueError: a leaf is missing or does not fit; the message names it. Or the parameters are needed.
    """
    gradients = leaves_like("grads", grads, state.momentum)
    if params is not None:
        thetas = leaves_like("params", params, state.momentum)
    elif rule.rates.weight_decay is None:
        params, thetas = grads, gradients
    else:
        raise ValueError(f"{rule.name} with weight decay needs the parameters: call update(grads, state, params)")
    tree: Any = jax.tree.structure(state.momentum)
    state_trees = [state.momentum, *([] if rule.sigma is None else [state.exp_avg_sq])]
    columns = [thetas, gradients, *(leaves_like("state", x, state.momentum) for x in state_trees)]
    decays = tree.flatten_up_to(broadcast(rule.mask, params))
    return [Leaf(*row) for row in zip(decays, *columns, strict=True)]


def prepare(rule: Rule, settings: Settings, leaf: Leaf, moves: Any, steps: Any, count: Any) -> Prepared:
    """Decay, rescale and set the initial velocity, before the step.

    Args:
        rule: the transformation.
        settings: those of the step.
        leaf: the array's part of the trees.
        moves: whether the step changes anything.
        steps: the number of steps that did, before this one.
        count: steps + 1, as INNAprop's bias correction takes it.
    """
    dtype = jnp.promote_types(at_least_single(leaf.theta), leaf.momentum.dtype)
    now = settings.for_array(jnp.zeros([], dtype).real.dtype, leaf.decays)
    theta, grad, momentum = (jnp.asarray(x).astype(dtype) for x in (leaf.theta, leaf.grad, leaf.momentum))
    exp_avg_sq, decay = leaf.exp_avg_sq, None
    if rule.sigma is not None:
        grad, exp_avg_sq = _rescale(rule, grad, exp_avg_sq, count, moves)
    if now.weight_decay is not None and rule.decay == "penalty":
        grad = grad + now.weight_decay * theta
    elif now.weight_decay is not None and rule.decay == "decoupled":
        decay = -now.decay_lr * now.weight_decay * theta
    elif now.weight_decay is not None:
        shrunk, momentum = dynamics.decay_innaprop(theta, momentum, now.decay_lr, now.alpha, now.beta, now.weight_decay)
        decay = shrunk - theta
    if now.initial_speed is not None:
        start = dynamics.initial_momentum(grad, now.beta, now.initial_speed)
        momentum = momentum + jnp.where(steps == 0, start, 0)
    return Prepared(theta, momentum, grad, exp_avg_sq, decay, now, dtype)


def take(rule: Rule, settings: Settings, leaf: Leaf, moves: Any, steps: Any) -> tuple[Any, Any, Any]:
    """Take the step of one array: its update, in the array's dtype, its new momentum and mean of g².

    The arguments are those of `prepare`.
    """
    start = prepare(rule, settings, leaf, moves, steps, steps + 1)
    now = start.settings
    update, momentum = dynamics.step(
        0.0, start.momentum, start.grad, now.lr, now.alpha, now.beta, time_step=now.time_step
    )
    momentum = jnp.where(moves, momentum.astype(leaf.momentum.dtype), leaf.momentum)
    if rule.rates.divisible() and momentum.dtype == start.dtype:
        # Recompute INNAprop's gradient from a count that XLA cannot identify with the first. Otherwise XLA
        # stores the first gradient in fresh memory, which takes longer than the root.
        again = jax.lax.optimization_barrier(steps + 1)  # type: ignore[no-untyped-call]
        grad = prepare(rule, settings, leaf, moves, steps, again).grad
        h = now.lr if now.time_step is None else now.time_step
        update = -now.lr / (1 - now.alpha * h) * (momentum + (now.beta - h) * grad)
    if start.decay is not None:
        update = update + start.decay
    # An integer must not truncate its update, nor a real gradient that of a complex parameter.
    to = jnp.result_type(leaf.theta)
    kind = jnp.complexfloating if jnp.iscomplexobj(update) else jnp.floating
    to = to if jnp.issubdtype(to, kind) else momentum.dtype
    return jnp.where(moves, update, 0).astype(to), momentum, start.exp_avg_sq


def _rescale(rule: Rule, grad: Any, exp_avg_sq: Any, count: Any, moves: Any) -> tuple[Any, Any]:
    if not jnp.iscomplexobj(grad):
        return _rescale_real(rule, grad, exp_avg_sq, count, moves)
    real, real_sq = _rescale_real(rule, grad.real, exp_avg_sq.real, count, moves)
    imag, imag_sq = _rescale_real(rule, grad.imag, exp_avg_sq.imag, count, moves)
    return jax.lax.complex(real, imag), jax.lax.complex(real_sq, imag_sq)


def _rescale_real(rule: Rule, grad: Any, exp_avg_sq: Any, count: Any, moves: Any) -> tuple[Any, Any]:
    # Only the stored mean is computed: a second one would need a copy, see above. If the step changes nothing, it
    # may be 0, whose root has no derivative.
    exp_avg_sq = jnp.where(moves, dynamics.average_square(grad, exp_avg_sq, rule.sigma), exp_avg_sq)
    safe = jnp.where(moves, exp_avg_sq, 1)
    return dynamics.divide_by_root(grad, safe, count.astype(grad.dtype), rule.sigma, rule.eps), exp_avg_sq
