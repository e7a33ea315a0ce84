"""One step of one array, for all transformations.

The equations are those of `inna.dynamics`.

A second form gives the same update from the new momentum m' instead of the old one:

    u = -lr (m + beta g) = -lr/(1 - alpha h) (m' + (beta - h) g)

With donated buffers, XLA on the CPU then writes m' over m. In the first form it copies m, which doubles the time of a
step, unless it knows that theta' is computed first. The second form divides, so it is taken only if |1 - alpha h| >=
1/2 is known in advance. Otherwise `_after` says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from inna import dynamics
from inna.optax.settings import Rates, Settings
from inna.optax.trees import Mask, at_least_single, broadcast, leaves_like

T = TypeVar("T")

__all__ = ["Decay", "Leaf", "Rule", "again", "collect", "initial_trees", "prepare", "take"]


# lambda theta is added to g; or theta shrinks; or theta shrinks and the momentum changes, as INNAprop's paper has it.
Decay = Literal["penalty", "decoupled", "published"]


class Rule(NamedTuple):
    """A transformation: hyper-parameters, rescaling of gradients, and decay."""

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
    """Not a parameter if ``given`` is False: only its dtype matters."""
    grad: Any
    momentum: Any
    exp_avg_sq: Any = None
    given: bool = True


class Prepared(NamedTuple):
    """The arrays from which the step starts, in the dtype of the arithmetic."""

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
    """The momentum and the mean of g² before the first step.

    Zeros, or None where there is no mean.
    """
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
    given = params is not grads
    return [Leaf(*row)._replace(given=given) for row in zip(decays, *columns, strict=True)]


def prepare(
    rule: Rule, settings: Settings, leaf: Leaf, moves: Any, steps: Any, count: Any, exp_avg_sq: Any = None
) -> Prepared:
    """Decay, rescale and set the initial velocity, before the step.

    Args:
        rule: the transformation.
        settings: those of the step.
        leaf: the array's part of the trees.
        moves: whether the step changes anything.
        steps: the number of steps that did, before this one.
        count: steps + 1, as INNAprop's bias correction takes it.
        exp_avg_sq: the updated mean of g², if it is there already.
    """
    dtype = jnp.promote_types(at_least_single(leaf.theta), leaf.momentum.dtype)
    now = settings.for_array(jnp.zeros([], dtype).real.dtype, leaf.decays)
    theta, grad, momentum = (jnp.asarray(x).astype(dtype) for x in (leaf.theta, leaf.grad, leaf.momentum))
    decay = None
    if rule.sigma is not None:
        if exp_avg_sq is None:
            exp_avg_sq = _by_parts(functools.partial(_average, rule, moves), grad, leaf.exp_avg_sq)
        grad = _by_parts(functools.partial(_rescale, rule, moves, count), grad, exp_avg_sq)
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
    """Take the step of one array.

    Its update, in the array's dtype, its new momentum and mean of g².

    The arguments are those of `prepare`.
    """
    start = prepare(rule, settings, leaf, moves, steps, steps + 1)
    now = start.settings
    reads_old = not rule.rates.divisible() or leaf.momentum.dtype != start.dtype
    update, momentum = dynamics.step(
        0.0, start.momentum, start.grad, now.lr, now.alpha, now.beta, time_step=now.time_step
    )
    # INNAprop's gradient is computed twice, from counts that XLA cannot identify. Otherwise XLA stores it in fresh
    # memory, which takes longer than the root.
    count = again(steps + 1)
    if not reads_old:
        momentum = jnp.where(moves, momentum, leaf.momentum)
        grad = prepare(rule, settings, leaf, moves, steps, count).grad
        h = now.lr if now.time_step is None else now.time_step
        update = -now.lr / (1 - now.alpha * h) * (momentum + (now.beta - h) * grad)
    if start.decay is not None:
        update = update + start.decay
    # An integer must not truncate its update, nor a real gradient that of a complex parameter.
    to = jnp.result_type(leaf.theta)
    kind = jnp.complexfloating if jnp.iscomplexobj(update) else jnp.floating
    to = to if jnp.issubdtype(to, kind) else leaf.momentum.dtype
    update = jnp.where(moves, update, 0).astype(to)
    if reads_old:
        if leaf.given:
            moved = optax.apply_updates(leaf.theta, update)
            later = leaf._replace(grad=_after(moved, jnp.asarray(leaf.grad), steps))
            start = prepare(rule, settings, later, moves, steps, count, exp_avg_sq=start.exp_avg_sq)
            _, momentum = dynamics.step(
                0.0, start.momentum, start.grad, now.lr, now.alpha, now.beta, time_step=now.time_step
            )
            if rule.decay == "published" and now.weight_decay is not None and moved.dtype == start.dtype:
                momentum = _after_decay(moved, leaf.momentum.astype(start.dtype), start.grad, momentum, now, steps)
        momentum = jnp.where(moves, momentum.astype(leaf.momentum.dtype), leaf.momentum)
    return update, momentum, start.exp_avg_sq


def again(values: T) -> T:
    """Return ``values``, which XLA does not identify with the arguments.

    So it computes once more what is made of them.
    """
    return jax.lax.optimization_barrier(values)  # type: ignore[no-untyped-call, no-any-return]


def _after(earlier: Any, grad: Any, steps: Any) -> Any:
    """Return ``grad``, which XLA on the CPU computes after ``earlier``.

    So is everything that is made of the result.

    It merges ``earlier`` with the caller's own sum of parameter and update. Each entry seems to depend on the sum's,
    but the condition never holds.
    """

    def wait(grad: Any, earlier: Any, steps: Any) -> Any:
        return jnp.where(steps < 0, earlier.astype(grad.dtype), grad)

    return jax.lax.platform_dependent(grad, earlier, steps, cpu=wait, default=lambda grad, *_: grad)


def _after_decay(moved: Any, momentum: Any, grad: Any, new: Any, now: Settings, steps: Any) -> Any:
    """Return the momentum after INNAprop's decay.

    On the CPU it is calculated from the new parameter. The decay adds a multiple of the old one, which would be copied
    before it is overwritten. So it is taken back from the new one:

        theta' = kept theta - lr (m + pull theta + beta ghat)

    Each array stands once in the result: XLA would store a rescaled gradient that is named twice.

    Args:
        moved: the new parameter.
        momentum: the old momentum.
        grad: the rescaled gradient.
        new: the result for other devices.
        now: the settings.
        steps: the number of steps before this one.
    """

    def solve(moved: Any, momentum: Any, grad: Any, new: Any) -> Any:
        kept, pull = dynamics.decay_innaprop(1.0, 0.0, now.lr, now.alpha, now.beta, now.weight_decay)
        part = pull / (kept - now.lr * pull)
        start: Any = 0.0
        if now.initial_speed is not None:
            start = jnp.where(steps == 0, dynamics.initial_momentum(1.0, now.beta, now.initial_speed), 0)
        rates = now.lr, now.alpha, now.beta
        of_grad = dynamics.update_average(start + part * now.lr * (start + now.beta), 1.0, *rates)
        rest = dynamics.update_average((1 + part * now.lr) * momentum + part * moved, 0.0, *rates)
        return rest + of_grad * grad

    return jax.lax.platform_dependent(moved, momentum, grad, new, cpu=solve, default=lambda *arrays: arrays[-1])


def _by_parts(function: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
    """``function`` of two arrays, or of the parts of two complex ones."""
    if not jnp.iscomplexobj(x):
        return function(x, y)
    return jax.lax.complex(function(x.real, y.real), function(x.imag, y.imag))


def _average(rule: Rule, moves: Any, grad: Any, exp_avg_sq: Any) -> Any:
    return jnp.where(moves, dynamics.average_square(grad, exp_avg_sq, rule.sigma), exp_avg_sq)


def _rescale(rule: Rule, moves: Any, count: Any, grad: Any, exp_avg_sq: Any) -> Any:
    # Only the stored mean is computed: a second one would need a copy, see above. If the step changes nothing, it
    # may be 0, whose root has no derivative.
    safe = jnp.where(moves, exp_avg_sq, 1)
    return dynamics.divide_by_root(grad, safe, count.astype(grad.dtype), rule.sigma, rule.eps)
