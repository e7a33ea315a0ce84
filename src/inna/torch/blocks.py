"""Blocks of tensors that fit the cache, for foreach steps on the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import itemgetter

import torch
from torch import Tensor

from inna.torch.tensor_lists import TensorLists, is_dense, same_layout

__all__ = ["BLOCK", "blocks", "one_by_one"]

BLOCK = 2**17
"""Numbers in a block, for each thread. For three tensors in float32 that is 1.5 MB."""
SCALED = 256
"""Numbers with one scale in `inna.torch.steps.companding`; `BLOCK` is a multiple."""


def blocks(lists: TensorLists) -> Iterable[TensorLists]:
    """Divide tensors into blocks: small tensors together, large ones in pieces.

    A foreach step makes a few passes over its tensors. For a group larger than the cache, each pass would read them
    from memory, and the temporary of the rescaled gradients would be as large as the group.

    Each piece of a tensor but the last has a copy of its step count, which is thus counted once.

    >>> most = BLOCK * torch.get_num_threads()
    >>> group = [torch.zeros(size) for size in (10, 20, most + 5)]
    >>> sizes = [[param.numel() for param in block.params] for block in blocks(TensorLists(group))]
    >>> sizes == [[10, 20], [most], [5]]
    True
    """
    if torch.compiler.is_compiling():
        return [lists]
    if any(param.device.type != "cpu" for param in lists.params):
        # Stochastic rounding has temporaries of the size of what is rounded.
        return one_by_one(lists) if lists.streams else [lists]
    most = BLOCK * torch.get_num_threads()
    if sum(map(Tensor.numel, lists.params)) <= most:
        return [lists]
    return _divided(lists, most)


def _divided(lists: TensorLists, most: int) -> Iterator[TensorLists]:
    together: list[int] = []
    size = 0
    for i, param in enumerate(lists.params):
        if together and size + param.numel() > most:
            yield lists.subset(together)
            together, size = [], 0
        if param.numel() > most and _divides(lists, i):
            whole = lists.subset([i])
            flat = replace(whole, steps=[]).map(_flat)
            for begin in range(0, param.numel(), most):
                last = begin + most >= param.numel()
                steps = whole.steps if last else list(map(torch.clone, whole.steps))
                piece = flat.map(itemgetter(slice(begin, begin + most)))
                scales = [
                    [None if each is None else each[begin // SCALED : -(-(begin + most) // SCALED)] for each in given]
                    for given in (flat.momentum_scales, flat.exp_avg_sq_scales)
                ]
                yield replace(
                    piece, steps=steps, offsets=[begin], momentum_scales=scales[0], exp_avg_sq_scales=scales[1]
                )
            continue
        together.append(i)
        size += param.numel()
    if together:
        yield lists.subset(together)


def one_by_one(lists: TensorLists) -> Iterable[TensorLists]:
    """Divide tensors into blocks of one tensor."""
    return (lists.subset([i]) for i in range(len(lists.params)))


def _divides(lists: TensorLists, i: int) -> bool:
    """Return whether the tensors of parameter i are dense and plain.

    Their entries must be in the same order.
    """
    param = lists.params[i]
    return is_dense(param) and all(
        type(tensor) in (Tensor, torch.nn.Parameter)
        and same_layout(tensor, param)
        and not (tensor.is_conj() or tensor.is_neg())
        for tensor in (param, *(tensor for _, tensor in lists.companions(i)))
    )


def _flat(tensor: Tensor) -> Tensor:
    return tensor.as_strided((tensor.numel(),), (1,))
