"""One guarded step of INNA, from gathered groups."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inna import dynamics
from inna.torch.kernels.step import step as step_fused
from inna.torch.measures.guard import GuardShare, Products, measure
from inna.torch.measures.scalars import as_number
from inna.torch.paths import Path
from inna.torch.shards import to_local_lists
from inna.torch.steps.inertial import inna
from inna.torch.tensor_lists import Operations, on_device, on_device_of

__all__ = ["DECISION", "MEMORY", "SCALARS", "GuardedGroup", "take_step"]

# The names in a group of `inna.dynamics.GuardMemory`.
MEMORY = ("guard_weight", "guard_loss", "guard_slope")
# What a group keeps of the guard, and the ranges: its memory, the number of steps, how many of them were shortened,
# the learning rate of the last one, and of all groups, for a cap by the distance: the largest distance from the start,
# and the sum of all squared gradients.
SCALARS: dict[str, dict[str, Any]] = {
    "guard_weight": {"minimum": 0.0},
    "guard_loss": {},
    "guard_slope": {},
    "guard_steps": {"minimum": 0.0},
    "guard_cuts": {"minimum": 0.0},
    "guard_lr": {"minimum": 0.0},
    "guard_distance": {"minimum": 0.0},
    "guard_squares": {"minimum": 0.0},
}
# Those without the cap's.
DECISION = (*MEMORY, "guard_steps", "guard_cuts", "guard_lr")


class GuardedGroup(NamedTuple):
    """A parameter group in one guarded step of `inna.torch.INNA`."""

    entries: dict[str, Any]
    """The group itself."""
    share: GuardShare
    path: Path
    time_step: float | Tensor
    moves: bool | Tensor
    """Whether its learning rate is not 0, (). In the end also whether any rank has a gradient for it."""
    distance: Any = None
    """Of all groups from the start, the largest so far, (); None without a cap by it."""
    squares: Any = None
    """The sum of |g|^2 of all groups and steps, ()."""


def take_step(
    groups: Sequence[GuardedGroup], loss: float | Tensor, loss_bound: float, *, host: bool, sum_over_ranks: bool
) -> None:
    """Find the factor of the step from all groups, and step each.

    A step with a loss or an inner product that is not finite changes nothing.

    Args:
        groups: all groups of an optimizer.
        loss: of the mini-batch, (); of the objective that is minimised.
        loss_bound: f*.
        host: read the inner products on the host, which then decides whether the step is taken.
        sum_over_ranks: as for `measure`.
    """
    if host and not any(group.moves for group in groups):
        return
    device = groups[0].entries[MEMORY[0]].device
    loss = on_device_of(loss, groups[0].entries[MEMORY[0]])
    sums = measure([group.share for group in groups], loss, device, sum_over_ranks=sum_over_ranks)
    values: list[Any] = sums.tolist() if host else list(sums.unbind())
    *numbers, f = values
    finite: Any = all(map(math.isfinite, values)) if host else torch.isfinite(sums).all()
    if host and not finite:
        return
    width = len(Products._fields)
    products = [Products(*numbers[i : i + width]) for i in range(0, len(numbers), width)]
    groups = [
        group._replace(moves=group.moves & (found.present > 0)) for group, found in zip(groups, products, strict=True)
    ]
    if any(group.share.starts is not None for group in groups):
        groups = _capped(groups, products, host=host)
    f = f + sum(_penalty(group, found) for group, found in zip(groups, products, strict=True))
    memories = [_memory(group, f, host=host) for group in groups]
    factor = dynamics.guard_factor(
        [_terms(group, memory, f, found) for group, memory, found in zip(groups, memories, products, strict=True)],
        loss_bound,
    )
    for group, memory, found in zip(groups, memories, products, strict=True):
        _move(group, memory, f, found, factor, None if host else finite)


def _capped(groups: Sequence[GuardedGroup], products: Sequence[Products], *, host: bool) -> list[GuardedGroup]:
    """Turn the factors of the groups into caps by their distance from the start."""
    # Both grow, and a group that does not move keeps old ones.
    distance, squares = (
        functools.reduce(_largest, (as_number(group.entries[name], host=host) for group in groups))
        for name in ("guard_distance", "guard_squares")
    )
    distance = _largest(distance, sum(found.distance_squared for found in products) ** 0.5)
    first = groups[0].entries["initial_distance"]  # it may have been given after the first step
    distance = distance.clamp(min=first) if isinstance(distance, Tensor) else max(distance, first)
    squares = squares + sum(
        _where(group.moves, found.grad_squared, 0.0 * found.grad_squared)
        for group, found in zip(groups, products, strict=True)
    )
    return [
        group._replace(
            share=group.share._replace(
                settings=group.share.settings._replace(
                    lr=dynamics.distance_cap(distance, squares, group.share.settings.lr)
                )
            ),
            distance=distance,
            squares=squares,
        )
        for group in groups
    ]


def _largest(value: Any, other: Any) -> Any:
    return torch.maximum(value, other) if isinstance(value, Tensor) else max(value, other)


def _penalty(group: GuardedGroup, found: Products) -> Any:
    settings = group.share.settings
    return 0.0 if settings.decoupled_weight_decay else settings.weight_decay / 2 * found.theta_squared


def _memory(group: GuardedGroup, loss: Any, *, host: bool) -> dynamics.GuardMemory:
    """The memory of a group before the step.

    Before its first step, that of the initial velocity.
    """
    settings, entries = group.share.settings, group.entries
    kept = [as_number(entries[name], host=host) for name in MEMORY]
    if not host:
        kept = [value.clone() for value in kept]  # autograd needs the old values
    memory = dynamics.GuardMemory(*kept)
    fresh = as_number(entries["guard_steps"], host=host) == 0
    # With a weight before its first step, the momentum is older than the guard: its losses are taken to be the present.
    memory = memory._replace(loss=_where(fresh, memory.weight * loss, memory.loss))
    if settings.initial_speed is None:
        return memory
    start = dynamics.initial_memory(loss, 0.0, settings.beta, settings.initial_speed)
    fresh = fresh & (memory.weight == 0)
    return dynamics.GuardMemory(*(_where(fresh, *pair) for pair in zip(start, memory, strict=True)))


def _terms(group: GuardedGroup, memory: dynamics.GuardMemory, loss: Any, found: Products) -> dynamics.GuardTerms:
    """The group's part in the decision; none if it does not move."""
    settings = group.share.settings
    terms = dynamics.guard_terms(memory, loss, 0.0, found.norm_squared, settings.lr, settings.beta)
    return dynamics.GuardTerms(*(_where(group.moves, value, 0.0 * value) for value in terms))


def _move(
    group: GuardedGroup,
    memory: dynamics.GuardMemory,
    loss: Any,  # ()
    found: Products,
    factor: Any,  # ()
    finite: Tensor | None,  # ()
) -> None:
    """Store a group's memory, then step it.

    ``finite`` is whether all sums are, (), and None on the host.
    """
    if finite is None and not group.moves:
        return
    entries, share = group.entries, group.share
    settings, h = share.settings, group.time_step
    cap, alpha, beta = settings.lr, settings.alpha, settings.beta
    lr = cap * factor
    memory = dynamics.update_memory(memory, loss, 0.0, h, alpha, beta)
    # m' = (1 - alpha h) u + (h - beta) g, and theta' - theta = -lr u - decay theta
    moved = -lr * _with_new_momentum(group, found.norm_squared, found.grad)
    decay = settings.weight_decay if settings.decoupled_weight_decay else 0.0
    if decay:
        moved = moved - cap * decay * _with_new_momentum(group, found.theta, found.grad_theta)
    memory = dynamics.move_memory(memory, moved)
    new = {**dict(zip(MEMORY, memory, strict=True)), "guard_lr": lr}
    if group.squares is not None:
        new |= {"guard_distance": group.distance, "guard_squares": group.squares}
    operations = Operations()
    lists, rate, moves = to_local_lists(share.lists), cap, None if finite is None else finite & group.moves
    if moves is None:
        new |= {name: entries[name].item() + more for name, more in (("guard_steps", 1), ("guard_cuts", factor < 1))}
        for name, value in new.items():
            operations(entries[name].fill_, value)
    else:
        for name, more in (("guard_steps", moves), ("guard_cuts", moves & (factor < 1))):
            operations(entries[name].add_, more)
        for name, value in new.items():
            operations(entries[name].copy_, torch.where(moves, value, entries[name].clone()))
        zero = torch.zeros_like(lr)
        h = on_device_of(h, lr)
        lr, h, rate = (torch.where(moves, value, zero) for value in (lr, h, cap))
    operations.run()
    settings = settings._replace(lr=lr, time_step=h, decay_lr=rate if decay else None)
    if share.plan is not None:
        share.plan.prepare(lists.params, lists.grads, settings, None, None)()
        return
    if group.path == "fused" and not torch.compiler.is_compiling():
        step_fused(lists, settings)
        return
    if moves is not None:
        lists.grads = [torch.where(on_device(grad.device, moves), grad, on_device_of(0, grad)) for grad in lists.grads]
    rule = {name: value for name, value in settings._asdict().items() if name not in ("sigma", "eps")}
    flags = {name: entries[name] for name in ("capturable", "differentiable")}
    inna(lists, **rule, **flags, foreach=group.path != "single")


def _with_new_momentum(group: GuardedGroup, average: Any, grad: Any) -> Any:
    """<m', x> from <u, x> and <g, x>, ()."""
    settings, h = group.share.settings, group.time_step
    return (1 - settings.alpha * h) * average + (h - settings.beta) * grad


def _where(condition: Any, value: Any, other: Any) -> Any:
    if isinstance(condition, Tensor):
        return torch.where(condition, value, other)
    return value if condition else other
