"""Sums over all parameters, taken before anything changes.

They are taken in pieces that fit the cache and in float64. A piece does not depend on the number of threads, so neither
do the sums.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from inna.torch.blocks import BLOCK
from inna.torch.shards import is_dtensor
from inna.torch.tensor_lists import is_dense, same_layout

__all__ = [
    "PieceSums",
    "add_up",
    "by_mesh",
    "can_reuse",
    "empty_sums",
    "norm",
    "one_order",
    "pieces",
    "real",
    "total",
    "world_size",
]

# Numbers that are added up in their own precision, on one thread: torch divides sums of more than 32768.
ROW = 2**9
# Smaller tensors are put together: copying them costs less than calls of their own.
ALONE = 2**15
# Pieces whose rows are added up together.
SLOTS = 2**6


def add_up(totals: Mapping[Any, list[list[Tensor]]], device: torch.device, *, sum_over_ranks: bool) -> Tensor:
    """Add up the terms of each sum, and the sums of all ranks.

    The result is (number of sums,), in float64.

    Shards of DTensors are added in one all-reduce if their meshes have all ranks. A mesh of some of the ranks takes one
    for each of its dimensions.

    Args:
        totals: mesh, or None for plain tensors -> the terms of each sum, () each. All ranks of a mesh need the same
            meshes in the same order, as `empty_sums` gives them.
        device: of the result.
        sum_over_ranks: whether each rank of the default process group holds other parameters, as with
            `torch.distributed.optim.ZeroRedundancyOptimizer`.

    Raises:
        ValueError: ``sum_over_ranks`` with DTensors, whose shards would count once more on each rank.
    """
    if sum_over_ranks and len(totals) > 1:
        raise ValueError(
            "sum_over_ranks=True is for plain tensors, each on one rank, as with ZeroRedundancyOptimizer; the shards "
            "of DTensors are added without it"
        )
    result = _added(totals[None], device)
    parts: dict[Any, list[Tensor]] = defaultdict(list)  # process groups, one after another -> their sums
    for mesh, found in totals.items():
        if mesh is None:
            continue
        groups = tuple(mesh.get_group(dimension) for dimension in range(mesh.ndim))
        if mesh.ndim > 1 and mesh.size() == world_size():
            groups = (torch.distributed.group.WORLD,)
        parts[groups].append(_added(found, device))
    for groups, sums in parts.items():
        part = torch.stack(sums).sum(0)
        for group in groups:
            torch.distributed.all_reduce(part, group=group)
        result = result + part
    if sum_over_ranks:
        torch.distributed.all_reduce(result)
    return result


def world_size() -> int:
    """The number of processes of the default process group; 1 without one."""
    return torch.distributed.get_world_size() if _has_processes() else 1


def _has_processes() -> bool:
    """Return whether there is a default process group."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def empty_sums(groups: Iterable[Iterable[Tensor]], number: int) -> dict[Any, list[list[Tensor]]]:
    """Return (mesh, or None) -> ``number`` sums without terms.

    A mesh is in the result if one of its parameters has no gradient on this rank, too: another rank may have one, and
    waits for the sum of this one.

    Args:
        groups: all parameters of each group.
        number: of sums.
    """
    meshes: dict[Any, None] = {None: None}
    if _has_processes():
        for param in itertools.chain.from_iterable(groups):
            if is_dtensor(param):
                sharded: Any = param
                meshes[sharded.device_mesh] = None
    return {mesh: [[] for _ in range(number)] for mesh in meshes}


def _added(found: list[list[Tensor]], device: torch.device) -> Tensor:
    zero = torch.zeros((), dtype=torch.float64, device=device)
    return torch.stack([torch.stack([zero, *(each.to(device) for each in terms)]).sum() for terms in found])


def by_mesh(tensors: Sequence[Tensor]) -> Iterator[tuple[Any, int, list[int]]]:
    """Yield (mesh, copies, indices) of the tensors of each mesh.

    ``copies`` is the number of ranks with the same entries. Plain tensors have no mesh.
    """
    found: dict[tuple[Any, int], list[int]] = {}
    for i, tensor in enumerate(tensors):
        key: tuple[Any, int] = (None, 1)
        if is_dtensor(tensor):
            sharded: Any = tensor
            mesh, placements = sharded.device_mesh, sharded.placements
            # Shards of two dimensions, as of FSDP2 on tensor parallelism, are not `is_shard()`.
            key = mesh, math.prod(mesh.size(i) for i, placement in enumerate(placements) if placement.is_replicate())
        found.setdefault(key, []).append(i)
    for (mesh, copies), indices in found.items():
        yield mesh, copies, indices


def pieces(rows: Iterable[list[Any]]) -> Iterator[list[Any]]:
    """Yield tensors in pieces that fit the cache.

    Those of small parameters come together.

    Args:
        rows: the tensors of one parameter, flat, with one number of entries, or None.
    """
    together: list[list[Any]] = []
    size = 0
    for tensors in rows:
        number = tensors[0].numel()
        if not number:
            continue
        if not _has_cache(tensors[0]):
            yield tensors
            continue
        if number > BLOCK:
            parts = [itertools.repeat(None) if each is None else each.split(BLOCK) for each in tensors]
            yield from map(list, zip(*parts, strict=False))
            continue
        if number >= ALONE:
            yield tensors
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


def real(tensor: Tensor) -> Tensor:
    """A complex tensor as real numbers, without a pending sign or conjugation."""
    tensor = tensor.resolve_neg()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def one_order(tensors: list[Any]) -> list[Any]:
    """Tensors of one shape with one dimension each, their entries in one order.

    Copies only where they must be.
    """
    first = tensors[0]
    present = [each for each in tensors if each is not None]
    if first.is_contiguous() or not all(is_dense(each) and same_layout(each, first) for each in present):
        return [None if each is None else each.reshape(-1) for each in tensors]
    return [None if each is None else each.as_strided((each.numel(),), (1,)) for each in tensors]


def can_reuse(tensor: Tensor) -> bool:
    """Return whether products of pieces may be written into memory of their own."""
    return _has_cache(tensor) and not torch.is_grad_enabled()


def _has_cache(tensor: Tensor) -> bool:
    """Return whether pieces that fit the cache are faster than the whole."""
    return tensor.device.type == "cpu" and not torch.compiler.is_compiling()


class PieceSums:
    """Sums of products of pieces, by two calls for a product.

    Rows are added up in their own precision, and these sums in float64, always in the same order.

    Args:
        number: of products of a piece.
        dtype: of the pieces.

    >>> sums = PieceSums(1, torch.float32)
    >>> for piece in (torch.ones(700), torch.full((3,), 2.0)):
    ...     sums.add((piece, piece))
    >>> sums.totals().tolist()
    [712.0]
    """

    def __init__(self, number: int, dtype: torch.dtype) -> None:
        self._room = torch.empty(BLOCK, dtype=dtype)
        self._parts = torch.zeros(number, SLOTS, BLOCK // ROW, dtype=dtype)
        self._slots = [part.unbind() for part in self._parts]
        self._used = 0
        self._totals = torch.zeros(number, dtype=torch.float64)
        self._views: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def add(self, *pairs: tuple[Tensor, Tensor]) -> None:
        """Add the sum of a * b for each pair (a, b).

        These are flat tensors of at most `BLOCK` numbers.
        """
        number = pairs[0][0].numel()
        if self._used == SLOTS:
            self._gather()
        if number not in self._views:
            rows = -(-number // ROW)
            padded = self._room[: rows * ROW]
            self._views[number] = self._room[:number], padded[number:], padded.view(rows, ROW)
        product, padding, rows_of_product = self._views[number]
        for slots, (a, b) in zip(self._slots, pairs, strict=True):
            torch.mul(a, b, out=product)
            if padding.numel():
                padding.zero_()
            out = slots[self._used]
            if number != BLOCK:
                out = out[: len(rows_of_product)]
            torch.sum(rows_of_product, 1, out=out)
        self._used += 1

    def totals(self) -> Tensor:
        """The sums so far, (number,)."""
        self._gather()
        return self._totals

    def _gather(self) -> None:
        # Each has fewer numbers than torch would divide among threads.
        self._totals += torch.stack([part.sum(dtype=torch.float64) for part in self._parts])
        self._parts.zero_()
        self._used = 0


def norm(values: Tensor) -> Tensor:
    """The 1-norm in float64, ()."""
    values = real(values).reshape(-1)
    if not _has_cache(values):
        return values.abs().sum(dtype=torch.float64)
    return sum((total(piece.abs()) for piece in values.split(BLOCK)), start=torch.zeros((), dtype=torch.float64))


def total(
    values: Tensor,  # (n,)
) -> Tensor:
    """The sum in float64, () ; the same whatever the number of threads."""
    rows = values.numel() // ROW
    rest = values[rows * ROW :].sum(dtype=torch.float64)
    if not rows:
        return rest
    # Each row in its own precision, which takes a quarter of the time.
    return values[: rows * ROW].reshape(rows, ROW).sum(1).sum(dtype=torch.float64) + rest
