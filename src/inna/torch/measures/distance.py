"""The sums over all parameters that give INNAprop its distance.

From the distance to the solution it finds the length of its steps.

They are taken before anything changes, in pieces that fit the cache and in float64. A piece does not depend on the
number of threads, so neither do the sums.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inna import dynamics
from inna.torch.blocks import BLOCK
from inna.torch.shards import is_dtensor, to_local
from inna.torch.tensor_lists import TensorLists, is_dense, same_layout

__all__ = ["Share", "measure", "sliced"]

# Numbers that torch adds up on one thread: it divides sums of more than 32768.
ROW = 2**14


class Share(NamedTuple):
    """The part of a parameter group in the estimate."""

    lists: TensorLists
    """The tensors with gradients, without their shards taken apart."""
    starts: list[Tensor]
    """theta_0 of each, sliced."""
    grad_sums: list[Tensor]
    """s of each, sliced."""
    resting: list[Tensor]
    """s of the parameters that have no gradient now."""
    slice_every: int
    sigma: Any
    weight: Any
    """w of this step; 0 with a sigma of 1 if the group does not move."""
    maximize: bool


def sliced(tensor: Tensor, every: int) -> Tensor:
    """Every ``every``-th entry in the order of rows, (ceil(n / every),).

    The tensor itself if that is 1.

    >>> sliced(torch.arange(6).reshape(2, 3), 4)
    tensor([0, 4])
    """
    return tensor if every == 1 else tensor.reshape(-1)[::every]


def measure(shares: Sequence[Share], device: torch.device, *, sum_over_ranks: bool) -> Tensor:
    """The sums of a step: <g, theta_0 - theta> by group, and the norm of s'.

    Shards of DTensors are added over their mesh in one all-reduce for each of its dimensions. What each rank has a copy
    of counts once.

    Args:
        shares: of all groups.
        device: of the result.
        sum_over_ranks: whether each rank of the default process group holds other parameters, as with
            `torch.distributed.optim.ZeroRedundancyOptimizer`.

    Returns:
        (number of groups + 1,), in float64.
    """
    totals: dict[Any, list[list[Tensor]]] = defaultdict(lambda: [[] for _ in range(len(shares) + 1)])
    for position, share in enumerate(shares):
        for mesh, copies, indices in _by_mesh(share.lists.params):
            for moved, norm in _sums(share, indices):
                totals[mesh][position].append(moved / copies)
                totals[mesh][-1].append(norm / copies)
        for mesh, copies, indices in _by_mesh(share.resting):
            totals[mesh][-1] += [_norm(to_local(share.resting[i])) / copies for i in indices]
    result = _added(totals[None], device)
    for mesh, found in totals.items():
        if mesh is None:
            continue
        part = _added(found, device)
        for dimension in range(mesh.ndim):
            torch.distributed.all_reduce(part, group=mesh.get_group(dimension))
        result = result + part
    if sum_over_ranks:
        torch.distributed.all_reduce(result)
    return result


def _added(found: list[list[Tensor]], device: torch.device) -> Tensor:
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack([torch.stack([zero, *(each.to(device) for each in terms)]).sum() for terms in found])


def _by_mesh(tensors: Sequence[Tensor]) -> Iterator[tuple[Any, int, list[int]]]:
    """Yield (mesh, copies, indices) of the tensors of each mesh.

    ``copies`` is the number of ranks with the same entries. Plain tensors have no mesh.
    """
    found: dict[tuple[Any, int], list[int]] = {}
    for i, tensor in enumerate(tensors):
        key: tuple[Any, int] = (None, 1)
        if is_dtensor(tensor):
            sharded: Any = tensor
            mesh, placements = sharded.device_mesh, sharded.placements
            key = mesh, math.prod(mesh.size(i) for i, placement in enumerate(placements) if not placement.is_shard())
        found.setdefault(key, []).append(i)
    for (mesh, copies), indices in found.items():
        yield mesh, copies, indices


def _sums(share: Share, indices: list[int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield <g, theta_0 - theta> and |s'|_1 of pieces of these tensors."""
    sign = -1.0 if share.maximize else 1.0
    for start, grad_sum, theta, grad, compensation in _pieces(share, indices):
        grad = grad.to(grad_sum.dtype)
        apart = start.to(grad_sum.dtype) - theta.to(grad_sum.dtype)
        if compensation is not None:
            apart -= compensation.to(grad_sum.dtype)  # what rounding has kept back of theta
        new_sum = dynamics.accumulate(grad_sum, grad, share.weight, share.sigma)
        yield sign * _total(apart.mul_(grad)), _norm(new_sum)


def _pieces(share: Share, indices: list[int]) -> Iterator[list[Any]]:
    """Yield theta_0, s, theta, g and theta's rounding error, flat.

    Small tensors come together.
    """
    together: list[list[Any]] = []
    size = 0
    for i in indices:
        lists = share.lists
        whole = (lists.params[i], lists.grads[i], lists.compensations[i] if lists.compensations else None)
        parts = [None if each is None else sliced(to_local(each), share.slice_every) for each in whole]
        state = (to_local(share.starts[i]), to_local(share.grad_sums[i]))
        tensors = _flat([None if each is None else _plain(each) for each in (*state, *parts)])
        number = tensors[0].numel()
        if not number:
            continue
        if not _has_cache(tensors[0]):
            yield tensors
            continue
        if number > BLOCK:
            for begin in range(0, number, BLOCK):
                yield [None if each is None else each[begin : begin + BLOCK] for each in tensors]
            continue
        alike = not together or all(
            (a is None) == (b is None) and (a is None or a.dtype == b.dtype)
            for a, b in zip(together[-1], tensors, strict=True)
        )
        if together and (size + number > BLOCK or not alike):
            yield _joined(together)
            together, size = [], 0
        together.append(tensors)
        size += number
    if together:
        yield _joined(together)


def _joined(pieces: list[list[Any]]) -> list[Any]:
    if len(pieces) == 1:
        return pieces[0]
    return [None if each[0] is None else torch.cat(each) for each in zip(*pieces, strict=True)]


def _plain(tensor: Tensor) -> Tensor:
    tensor = tensor.resolve_neg()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def _flat(tensors: list[Any]) -> list[Any]:
    """Tensors of one shape with one dimension each, their entries in one order.

    Copies only where they must be.
    """
    first = tensors[0]
    present = [each for each in tensors if each is not None]
    if first.is_contiguous() or not all(is_dense(each) and same_layout(each, first) for each in present):
        return [None if each is None else each.reshape(-1) for each in tensors]
    return [None if each is None else each.as_strided((each.numel(),), (1,)) for each in tensors]


def _has_cache(tensor: Tensor) -> bool:
    """Return whether pieces that fit the cache are faster than the whole."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


def _norm(values: Tensor) -> Tensor:
    values = _plain(values).reshape(-1)
    if not _has_cache(values):
        return values.abs().sum(dtype=torch.float64)
    return sum((_total(piece.abs()) for piece in values.split(BLOCK)), start=torch.zeros((), dtype=torch.float64))


def _total(
    values: Tensor,  # (n,)
) -> Tensor:
    """The sum in float64, () ; the same whatever the number of threads."""
    rows = values.numel() // ROW
    rest = values[rows * ROW :].sum(dtype=torch.float64)
    return rest if not rows else values[: rows * ROW].reshape(rows, ROW).sum(1, dtype=torch.float64).sum() + rest
