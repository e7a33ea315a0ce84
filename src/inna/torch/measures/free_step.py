"""One step of INNAprop without a learning rate, from gathered groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inna import dynamics
from inna.torch.kernels.plan import Plan
from inna.torch.kernels.step import step as step_fused
from inna.torch.measures.distance import Share, measure, sliced
from inna.torch.measures.scalars import as_number
from inna.torch.paths import Path
from inna.torch.shards import to_local, to_local_lists
from inna.torch.steps.rescaled import innaprop
from inna.torch.tensor_lists import Operations, Settings, SumLists, TensorLists, on_device, on_device_of

__all__ = ["LONGEST", "SCALARS", "FreeGroup", "GatheredGroup", "take_step"]

# What a group keeps of all its parameters, and the ranges: the distance d, its part of r, and the total weight M.
SCALARS: dict[str, dict[str, Any]] = {
    "distance": {"minimum": 0.0, "exclusive": True},
    "correlation": {},
    "average_weight": {"minimum": 0.0},
}

# The largest distance and time step: beyond it, steps in single precision overflow.
LONGEST = 1e30


class GatheredGroup(NamedTuple):
    """A parameter group before a step of `INNApropLRFree`."""

    entries: dict[str, Any]
    """The group itself."""
    lists: TensorLists
    """The tensors with gradients, as GradScaler scaled them."""
    sums: SumLists
    resting: list[Tensor]
    """s of the parameters that have no gradient now."""
    settings: Settings
    path: Path
    plan: Plan | None
    """Of a fused step, if all tensors are plain."""


class FreeGroup(NamedTuple):
    """A parameter group in one step of `inna.torch.INNApropLRFree`."""

    entries: dict[str, Any]
    """The group itself."""
    share: Share
    settings: Settings
    path: Path
    plan: Plan | None
    """Of a fused step, if all tensors are plain."""
    time_step: float | Tensor
    moves: bool | Tensor
    """Whether its factor is not 0, ()."""


def take_step(groups: Sequence[FreeGroup], *, host: bool, sum_over_ranks: bool) -> None:
    """Estimate the distance from all groups, and step each.

    Args:
        groups: all groups of an optimizer.
        host: read the sums on the host, which then decides whether the step is taken.
        sum_over_ranks: as for `measure`.
    """
    if host and not any(group.moves for group in groups):
        return
    kept = groups[0].entries["distance"]
    sums: Any = measure([group.share for group in groups], kept.device, sum_over_ranks=sum_over_ranks)
    sums = sums.tolist() if host else sums.unbind()
    distance = as_number(kept, host=host)
    correlations = [
        dynamics.accumulate(
            as_number(group.entries["correlation"], host=host), moved, group.share.weight, group.share.sigma
        )
        for group, moved in zip(groups, sums, strict=False)
    ]
    total, norm = sum(correlations), sums[-1]
    grown = dynamics.grow_distance(distance, total, norm)
    finite: Tensor | None = None
    if not host:
        finite = torch.isfinite(total) & torch.isfinite(norm) & (grown < LONGEST)
        grown = torch.where(finite, grown, distance)
    elif not (math.isfinite(total) and math.isfinite(norm) and grown < LONGEST):
        return
    for group, correlation in zip(groups, correlations, strict=True):
        _move(group, grown, correlation, finite)


def _move(group: FreeGroup, distance: Any, correlation: Any, finite: Tensor | None) -> None:
    """Store a group's sums, then step it.

    ``finite`` is whether all sums are, (), and None on the host.
    """
    entries, share, settings = group.entries, group.share, group.settings
    operations = Operations()
    average = as_number(entries["average_weight"], host=finite is None)
    total = average + settings.beta
    total = total + (total == 0) * 1.0  # then the momentum is 0, and so is the step
    new_average = dynamics.update_average(average, 1.0, group.time_step, settings.alpha, settings.beta)
    length, time_step, lists = distance * settings.lr, group.time_step, share.lists
    if group.plan is None:
        lists = to_local_lists(lists)
    if finite is None:
        values = {"distance": distance}
        if group.moves:
            values |= {"correlation": correlation, "average_weight": new_average}
        for name, value in values.items():
            operations(entries[name].fill_, value)
        if not group.moves:
            return operations.run()
    else:
        moves = finite & group.moves
        length, time_step = (
            torch.where(moves, value, torch.zeros_like(length)) for value in (length, on_device_of(time_step, length))
        )
        lists.grads = [torch.where(on_device(grad.device, moves), grad, on_device_of(0, grad)) for grad in lists.grads]
        for name, new in (("correlation", correlation), ("average_weight", new_average)):
            operations(entries[name].copy_, torch.where(moves, new, entries[name]))
        operations(entries["distance"].copy_, distance.reshape(1))
    sums = share.grad_sums if share.plan is None else []  # the kernels update them
    for grad_sum, grad in zip(map(to_local, sums), lists.grads if sums else [], strict=True):
        part = sliced(grad, share.slice_every)
        if finite is None:
            operations(grad_sum.mul_, share.sigma**0.5)
            operations(grad_sum.add_, part, alpha=share.weight)
        else:
            weight, sigma, here = (on_device(part.device, value) for value in (share.weight, share.sigma, moves))
            new_sum = dynamics.accumulate(grad_sum, part.to(grad_sum.dtype), weight, sigma)
            operations(grad_sum.copy_, torch.where(here, new_sum, grad_sum))
    if group.path == "fused":
        settings = settings._replace(lr=length / total, time_step=time_step, decay_lr=length)
        if group.plan is not None:
            operations(group.plan.prepare(lists.params, lists.grads, settings, None, None))
        operations.run()
        if group.plan is None and lists.params:
            step_fused(lists, settings)
        return None
    operations.run()
    innaprop(
        lists,
        lr=length / total,
        alpha=settings.alpha,
        beta=settings.beta,
        sigma=settings.sigma or 0.0,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        maximize=settings.maximize,
        foreach=group.path == "foreach",
        capturable=entries["capturable"],
        time_step=time_step,
        decay_lr=length,
    )
    return None
