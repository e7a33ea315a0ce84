"""The inner products over all parameters that give the guarded step its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inna import dynamics
from inna.torch.blocks import BLOCK
from inna.torch.kernels.plan import Plan
from inna.torch.kernels.step import measure as measure_by_kernels
from inna.torch.measures.sums import (
    PieceSums,
    add_up,
    by_mesh,
    can_reuse,
    empty_sums,
    one_order,
    pieces,
    real,
    total,
    world_size,
)
from inna.torch.shards import to_local, to_local_lists
from inna.torch.steps.companding import widen
from inna.torch.tensor_lists import Settings, TensorLists, coefficient_dtype, on_device

__all__ = ["GuardShare", "Products", "measure"]


class GuardShare(NamedTuple):
    """The part of a parameter group in the guard's decision."""

    lists: TensorLists
    """The tensors with gradients, without their shards taken apart."""
    first: list[bool] | list[Tensor]
    """Whether this is a parameter's first step, () each; empty without an initial speed."""
    settings: Settings
    plan: Plan | None = None
    """Of a fused step, whose kernel takes the inner products of the plain tensors."""
    kernels: bool = False
    """Whether the kernels of CUDA devices take them without a plan, of DTensors for instance."""
    starts: list[Tensor] | None = None
    """theta_0 of each, for a cap by the distance."""
    params: Sequence[Tensor] = ()
    """All parameters of the group, with or without gradients."""


class Products(NamedTuple):
    """The inner products of one group, () each.

    u is m + beta g, and g contains an L2 penalty.
    """

    norm_squared: Any
    """|u|^2."""
    grad: Any
    """<g, u>."""
    theta: Any
    """<u, theta>, with weight decay."""
    grad_theta: Any
    """<g, theta>, with weight decay."""
    theta_squared: Any
    """|theta|^2, with weight decay."""
    grad_squared: Any
    """|g|^2, for a cap by the distance."""
    distance_squared: Any
    """|theta - theta_0|^2, likewise."""
    present: Any
    """Positive if a parameter has a gradient, on any rank."""


def measure(
    shares: Sequence[GuardShare],
    loss: Tensor,  # ()
    device: torch.device,
    *,
    sum_over_ranks: bool,
) -> Tensor:
    """The `Products` of each group, then the loss.

    Shards of DTensors are added over their mesh, see `inna.torch.measures.sums.add_up`. What each rank has a copy of
    counts once. The loss is averaged over the ranks of the mesh, or of the default process group, since each has its
    own mini-batch.

    Args:
        shares: of all groups.
        loss: of this rank's mini-batch, in float64.
        device: of the result.
        sum_over_ranks: as for `inna.torch.measures.sums.add_up`.

    Returns:
        (number of groups * number of products + 1,), in float64.
    """
    width = len(Products._fields)
    first = Products._fields.index("grad_squared")
    there = torch.ones((), dtype=torch.float64, device=device)
    totals = empty_sums((share.params for share in shares), len(shares) * width + 1)
    for position, share in enumerate(shares):
        if share.starts is not None and (share.plan is None or not share.plan.measures_distance):
            for mesh, copies, indices in by_mesh(share.lists.params):
                for squares in _distances(share, indices):
                    for i, value in enumerate(squares):
                        totals[mesh][position * width + first + i].append(value / copies)
        if share.plan is not None:
            for i, number in enumerate(share.plan.measure(share.lists.grads, share.settings)):
                totals[None][position * width + i].append(torch.as_tensor(number, dtype=torch.float64))
            totals[None][position * width + width - 1].append(there)
            continue
        for mesh, copies, indices in by_mesh(share.lists.params):
            totals[mesh][position * width + width - 1].append(there)
            for found in _products_by_kernels(share, indices) if share.kernels else _products(share, indices):
                for i, value in enumerate(found):
                    totals[mesh][position * width + i].append(value / copies)
    ranks = world_size()
    whole = next((mesh for mesh in totals if mesh is not None and mesh.size() == ranks), None)
    if whole is not None or ranks == 1 or sum_over_ranks:
        totals[whole][-1].append(loss / ranks)
        return add_up(totals, device, sum_over_ranks=sum_over_ranks)
    # Every rank has all parameters, as with DistributedDataParallel, or the meshes are parts of the group.
    mean = loss / ranks
    torch.distributed.all_reduce(mean)
    totals[None][-1].append(mean)
    return add_up(totals, device, sum_over_ranks=False)


def _products_by_kernels(share: GuardShare, indices: list[int]) -> Iterator[list[Tensor]]:
    """Yield the `Products` of these tensors, device by device."""
    for found in measure_by_kernels(to_local_lists(share.lists.subset(indices)), share.settings):
        yield list(found.unbind())


def _products(share: GuardShare, indices: list[int]) -> Iterator[list[Tensor]]:
    """Yield the `Products` of pieces of these tensors."""
    settings = share.settings
    decays = bool(settings.weight_decay)
    penalty = 0.0 if settings.decoupled_weight_decay else settings.weight_decay
    rooms: list[Tensor] = []
    sign = -1.0 if settings.maximize else 1.0
    factor = None if decays or isinstance(settings.beta, Tensor) else sign * settings.beta
    quick: dict[torch.dtype, tuple[PieceSums, Tensor]] = {}
    for momentum, grad, theta, compensation in pieces(_rows(share, indices, decays=decays)):
        if factor is not None and grad.dtype is momentum.dtype is coefficient_dtype(grad) and can_reuse(grad):
            if grad.dtype not in quick:
                quick[grad.dtype] = PieceSums(2, grad.dtype), torch.empty(BLOCK, dtype=grad.dtype)
            sums, room = quick[grad.dtype]
            average = room if grad.numel() == BLOCK else room[: grad.numel()]
            torch.add(momentum, grad, alpha=factor, out=average)
            sums.add((average, average), (grad, average))
            continue
        dtype = coefficient_dtype(grad)
        dtype = torch.promote_types(dtype, momentum.dtype)
        grad, momentum = grad.to(dtype), momentum.to(dtype)
        if settings.maximize:
            grad = -grad
        if decays:
            # Autograd needs the values before the step.
            theta = theta.to(dtype, copy=torch.is_grad_enabled())
            if compensation is not None:
                theta = theta + compensation.to(dtype)
        if penalty:
            grad = grad + penalty * theta
        beta = on_device(grad.device, settings.beta)
        if isinstance(beta, Tensor) or not can_reuse(grad):
            average, product = momentum + beta * grad, None
        else:
            # A number is applied in the same pass, and fresh memory for each piece would take longer than the sums.
            rooms = rooms or [torch.empty(BLOCK, dtype=torch.float64) for _ in range(2)]
            average, product = (room.view(dtype)[: grad.numel()] for room in rooms)
            torch.add(momentum, grad, alpha=beta, out=average)
        pairs = [(average, average), (grad, average)]
        if decays:
            pairs += [(average, theta), (grad, theta), (theta, theta)]
        yield [total(torch.mul(a, b, out=product)) for a, b in pairs]
    for sums, _ in quick.values():
        norm_squared, correlation = sums.totals()
        yield [norm_squared, sign * correlation]


def _distances(share: GuardShare, indices: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield |g|^2 and |theta - theta_0|^2 of pieces of these tensors."""
    settings = share.settings
    penalty = 0.0 if settings.decoupled_weight_decay else settings.weight_decay
    if settings.maximize:
        penalty = -penalty
    quick: dict[torch.dtype, tuple[PieceSums, Tensor]] = {}
    for start, theta, grad, compensation in pieces(_starts(share, indices)):
        dtype = coefficient_dtype(theta)
        kinds = {start.dtype, theta.dtype, grad.dtype}
        if not penalty and compensation is None and kinds == {dtype} and can_reuse(grad):
            if dtype not in quick:
                quick[dtype] = PieceSums(2, dtype), torch.empty(BLOCK, dtype=dtype)
            sums, room = quick[dtype]
            apart = room if grad.numel() == BLOCK else room[: grad.numel()]
            torch.sub(theta, start, out=apart)
            sums.add((grad, grad), (apart, apart))
            continue
        theta, grad = theta.to(dtype), grad.to(dtype)
        if compensation is not None:
            theta = theta + compensation.to(dtype)
        if penalty:
            grad = grad + penalty * theta
        apart = theta - start.to(dtype)
        yield total(grad * grad), total(apart * apart)
    for sums, _ in quick.values():
        grad_squared, distance_squared = sums.totals()
        yield grad_squared, distance_squared


def _starts(share: GuardShare, indices: list[int]) -> Iterator[list[Any]]:
    """Yield theta_0, theta, g and theta's rounding error of each parameter, flat."""
    assert share.starts is not None
    for i in indices:
        lists = share.lists
        row = [
            share.starts[i],
            lists.params[i],
            lists.grads[i],
            lists.compensations[i] if lists.compensations else None,
        ]
        yield one_order([None if each is None else real(to_local(each)) for each in row])


def _rows(share: GuardShare, indices: list[int], *, decays: bool) -> Iterator[list[Any]]:
    """Yield m, g, theta and theta's rounding error of each parameter, flat.

    The last two with weight decay only.
    """
    lists, settings = share.lists, share.settings
    for i in indices:
        param, grad, momentum = (to_local(tensors[i]) for tensors in (lists.params, lists.grads, lists.momentums))
        if lists.momentum_scales and (scales := lists.momentum_scales[i]) is not None:
            momentum = widen(momentum, to_local(scales))
        if share.first and share.first[i] is not False and settings.initial_speed is not None:
            gradient = -grad if settings.maximize else grad
            if not settings.decoupled_weight_decay:
                gradient = gradient + settings.weight_decay * param
            start = dynamics.initial_momentum(gradient, on_device(grad.device, settings.beta), settings.initial_speed)
            momentum = momentum + on_device(grad.device, share.first[i]) * start
        compensation = lists.compensations[i] if decays and lists.compensations else None
        row = [momentum, grad, param if decays else None, None if compensation is None else to_local(compensation)]
        yield one_order([None if each is None else real(each) for each in row])
