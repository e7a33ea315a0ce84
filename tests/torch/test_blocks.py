"""A foreach step by blocks is the foreach step on the whole group, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inna.torch import INNA, INNAprop
from inna.torch import blocks as module
from inna.torch.blocks import blocks
from inna.torch.tensor_lists import TensorLists

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.complex64]
SETTINGS: dict[type, list[dict[str, Any]]] = {
    INNA: [
        {},
        {"weight_decay": 0.1, "initial_speed": 1.0},
        {"kahan": True, "maximize": True},
        {"lr": torch.tensor(0.1), "capturable": True, "initial_speed": 0.5},
    ],
    INNAprop: [
        {},
        {"weight_decay": 0.1, "initial_speed": 1.0, "maximize": True},
        {"kahan": True},
        {"lr": torch.tensor(0.1), "capturable": True, "weight_decay": 0.1},
    ],
}


@st.composite
def groups(draw: st.DrawFn) -> list[Tensor]:
    """Tensors smaller and larger than a block, of several dtypes, some laid out in another order."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    tensors = []
    for _ in range(draw(st.integers(1, 6))):
        shape = draw(st.lists(st.integers(0, 9), max_size=3))
        tensor = torch.randn(shape, dtype=draw(st.sampled_from(DTYPES)))
        tensors.append(tensor.permute(draw(st.permutations(range(len(shape))))))
    return tensors


@contextmanager
def on_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def stepped(cls: type, tensors: list[Tensor], settings: dict[str, Any], block: int) -> tuple[list[Tensor], list[Any]]:
    params = [torch.nn.Parameter(tensor.clone()) for tensor in tensors]
    optimizer = cls(params, foreach=True, **{"lr": 0.1, **settings})
    torch.manual_seed(1)
    with patch.object(module, "BLOCK", block):
        for _ in range(3):
            for param in params:
                param.grad = torch.randn_like(param)
            optimizer.step()
    return [param.detach() for param in params], [optimizer.state[param] for param in params]


# In half precisions torch's sums round once in whole vectors, and twice in the numbers that are left over at the end of
# a thread's share. Like BLOCK, these sizes are multiples of all vectors, so that every number is on the same side.
@pytest.mark.parametrize("cls", SETTINGS)
@given(tensors=groups(), which=st.integers(0, 3), block=st.sampled_from([64, 128]), threads=st.sampled_from([1, 2]))
def test_blocks_change_no_bit(cls: type, tensors: list[Tensor], which: int, block: int, threads: int) -> None:
    settings = SETTINGS[cls][which]
    with on_threads(threads):
        whole, whole_states = stepped(cls, tensors, settings, 2**40)
        parts, part_states = stepped(cls, tensors, settings, block)
    for theirs, ours in zip(whole, parts, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6 if ours.dtype is torch.float32 else 1e-14, atol=0)
    for theirs, ours in zip(whole_states, part_states, strict=True):
        assert theirs.keys() == ours.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("flags", [{"foreach": True}, {"fused": False, "foreach": False}], ids=["foreach", "single"])
@pytest.mark.parametrize("cls", SETTINGS)
def test_the_number_of_threads_does_not_show(cls: type, flags: dict[str, bool], dtype: torch.dtype) -> None:
    """In half precisions one rounding may: see above."""
    found = []
    for threads in (1, 2, 3):
        generator = torch.Generator().manual_seed(0)
        params = [torch.randn(size, dtype=dtype, generator=generator).requires_grad_() for size in (300_001, 7, 40_003)]
        optimizer = cls(params, weight_decay=0.1, **flags)
        for _ in range(2):
            for param in params:
                param.grad = torch.randn(param.shape, dtype=dtype, generator=generator)
            with on_threads(threads):
                optimizer.step()
        found.append([*params, *(each for state in optimizer.state.values() for each in state.values())])
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@given(sizes=st.lists(st.integers(0, 300), min_size=1, max_size=12), block=st.integers(1, 100))
def test_each_number_is_in_one_block_and_none_is_too_large(sizes: list[int], block: int) -> None:
    group = [torch.zeros(size) for size in sizes]
    steps = [torch.tensor(float(i)) for i in range(len(sizes))]
    with patch.object(module, "BLOCK", block):
        for part in blocks(TensorLists(group, steps=steps)):
            assert sum(tensor.numel() for tensor in part.params) <= block * torch.get_num_threads()
            for tensor, step in zip(part.params, part.steps, strict=True):
                tensor += 1
                step += 1
    assert [step.item() for step in steps] == list(range(1, len(sizes) + 1))
    np.testing.assert_array_equal(torch.cat(group), np.ones(sum(sizes)))


def test_what_cannot_be_divided_stays_whole() -> None:
    """Entries in another order than the parameter's, gaps, pending conjugations, subclasses."""

    class Tagged(torch.nn.Parameter):
        pass

    grad = torch.randn(8, 40)
    odd = [
        ([torch.zeros(40, 8)], [grad.t()]),
        ([torch.zeros(40, 16)[:, ::2]], [torch.zeros(40, 16)[:, ::2]]),
        ([torch.zeros(320, dtype=torch.complex64)], [torch.zeros(320, dtype=torch.complex64).conj()]),
        ([Tagged(torch.zeros(320))], [torch.zeros(320)]),
    ]
    with patch.object(module, "BLOCK", 1):
        for params, grads in odd:
            (part,) = blocks(TensorLists(params, grads))
            assert part.params[0] is params[0]
            assert part.grads[0] is grads[0]


def test_a_compiled_step_is_not_divided() -> None:
    params = [torch.zeros(10), torch.zeros(10)]
    with patch.object(module, "BLOCK", 1), patch.object(torch.compiler, "is_compiling", lambda: True):
        assert [len(part.params) for part in blocks(TensorLists(params))] == [2]
