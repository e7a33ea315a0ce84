"""The fused step without a learning rate has the sums and makes the step of the single path."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fused_steps import needs_kernels
from inna.torch import INNAprop, INNApropLRFree
from inna.torch.kernels import cpu
from inna.torch.measures.distance import Share, measure, sliced
from inna.torch.tensor_lists import SumLists, TensorLists, coefficient_dtype
from triton_kernels import INTERPRETING, in_the_interpreter, interpret, needs_gpu, needs_triton, run_interpreted

TOLERANCE = {
    torch.float64: 1e-12,
    torch.complex128: 1e-12,
    torch.float32: 1e-5,
    torch.complex64: 1e-5,
    torch.bfloat16: 0.05,
    torch.float16: 0.007,
}
REAL = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
SIZES = [1, 15, 17, 511, 513, 16383, 16385, 70_001]
SHAPES = [(3, 5), (), (17,), (2047,), (2049,), (3, 2, 4)]
CASES: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1, "maximize": True, "lr": 0.5},
    {"momentum_dtype": torch.float32, "time_step": 0.3, "beta": 0.0},
    {"momentum_dtype": torch.float64, "kahan": True, "sigma": 0.9, "weight_decay": 0.1},
]


def tensors_of(size: int, dtype: torch.dtype, every: int, kahan: bool, seed: int = 0) -> tuple[TensorLists, SumLists]:
    generator = torch.Generator().manual_seed(seed)
    theta, grad, momentum, square, held, start, total = (torch.randn(size, generator=generator) for _ in range(7))
    lists = TensorLists(
        *([each.to(dtype)] for each in (theta, grad, momentum, square.abs())),
        [held.mul(1e-3).to(dtype) if kahan else None],
        [torch.zeros(())],
    )
    parts = start.to(dtype), total.to(coefficient_dtype(lists.params[0]))
    sums = SumLists(*([sliced(part, every).contiguous()] for part in parts), every)
    return lists, sums


@needs_kernels
@settings(max_examples=60)
@given(
    size=st.sampled_from(SIZES),
    dtype=st.sampled_from(REAL),
    every=st.sampled_from([1, 2, 11, 700]),
    kahan=st.booleans(),
    weight=st.floats(0.0, 2.0),
    sigma=st.floats(0.0, 0.999),
    seed=st.integers(0, 2**31),
)
def test_the_sums_are_those_of_torch(size, dtype, every, kahan, weight, sigma, seed):
    lists, sums = tensors_of(size, dtype, every, kahan, seed)
    # The sums in float64 have no rounding to speak of; terms that cancel are measured against their sizes.
    wide = lists.map(Tensor.double)
    exact = SumLists([sums.starts[0].double()], [sums.grad_sums[0].double()], every)
    share = Share(wide, exact.starts, exact.grad_sums, [], every, sigma, weight, False)
    moved, norm = measure([share], torch.device("cpu"), sum_over_ranks=False).tolist()
    scale = float((sliced(wide.grads[0], every).abs() * (exact.starts[0].abs() + 10)).sum())
    table = cpu.Table(lists, sums)
    found = table.measure_distance([lists.grads[0].data_ptr()], weight, sigma)
    tolerance = 1e-12 if dtype is torch.float64 else 1e-5
    assert found[0] == pytest.approx(moved, abs=tolerance * scale)
    assert found[1] == pytest.approx(norm, rel=tolerance, abs=1e-12)


@needs_kernels
@pytest.mark.parametrize("every", [1, 11])
@pytest.mark.parametrize("kahan", [False, True], ids=["plain", "Kahan"])
@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_threads_and_instruction_sets_do_not_show_in_a_single_bit(dtype, kahan, every):
    def found(level: int) -> tuple[list[float], list[Tensor]]:
        lists, sums = tensors_of(70_001, dtype, every, kahan)
        table = cpu.Table(lists, sums)
        table._level = level
        optimizer = INNApropLRFree([torch.nn.Parameter(torch.zeros(1))])
        values = table.measure_distance([lists.grads[0].data_ptr()], 0.7, 0.9)
        group_settings = optimizer._settings(optimizer.param_groups[0])._replace(time_step=0.3, decay_lr=0.1)
        table.launch([lists.grads[0].data_ptr()], group_settings)
        return values, [*lists.params, *lists.momentums, *lists.exp_avg_sqs, *sums.grad_sums]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        values, expected = found(0)
        for level in range(len(cpu.instruction_sets())):
            for threads in (1, 2, 3, 5):
                torch.set_num_threads(threads)
                others, tensors = found(level)
                assert others == values
                assert all(torch.equal(ours, theirs) for ours, theirs in zip(tensors, expected, strict=True))
    finally:
        torch.set_num_threads(before)


def compare(kwargs: dict[str, Any], dtype: torch.dtype, device: str, every: int) -> None:
    """Steps, fused and tensor by tensor, on sizes around a block's, a permuted and an unaligned view among them."""
    # The distance grows as a power of its own past, and so do rounding errors.
    steps = 4 if TOLERANCE[dtype] > 1e-3 else 12
    sides = []
    for flags in ({"fused": True}, {"fused": False, "foreach": False}):
        torch.manual_seed(0)
        wide = dtype.to_complex() if dtype.is_complex else torch.float64
        tensors = [torch.randn(shape, dtype=wide).to(dtype=dtype, device=device) for shape in SHAPES]
        tensors.append(tensors[-1].clone().permute(2, 0, 1))
        tensors.append(torch.randn(101).to(dtype=dtype, device=device)[1:])
        params = [tensor.requires_grad_() for tensor in tensors]
        optimizer = INNAprop.lr_free(params, initial_distance=1e-2, slice_every=every, **flags, **kwargs)
        distances = []
        sign = -1 if kwargs.get("maximize") else 1
        for _ in range(steps):
            for param in params:
                param.grad = torch.empty_like(param).copy_(
                    sign * (param.detach() + 0.1 * torch.randn(param.shape).to(param))
                )
            optimizer.step()
            distances.append(optimizer.distance)
        sides.append((params, optimizer, distances))
    (ours, optimizer, found), (theirs, reference, expected) = sides
    tolerance = max(TOLERANCE[dtype], 1e-5 if kwargs.get("momentum_dtype") is torch.float32 else 0)
    assert found == pytest.approx(expected, rel=2 * tolerance)
    assert steps == 4 or len(set(found)) > 1
    for x, y in zip(ours, theirs, strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance)
        mine, other = optimizer.state[x], reference.state[y]
        assert set(mine) == set(other)
        torch.testing.assert_close(mine["grad_sum"], other["grad_sum"], rtol=10 * tolerance, atol=10 * tolerance)


@needs_kernels
@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kwargs", CASES, ids=str)
def test_the_step_is_that_of_the_single_path(kwargs, dtype, every):
    compare(kwargs, dtype, "cpu", every)


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="this is the process of the interpreter")
def test_the_interpreted_tests_pass():
    run_interpreted("interpreted_kernels", __file__)


@in_the_interpreter
@pytest.mark.parametrize("dtype", REAL, ids=str)
@pytest.mark.parametrize("kwargs", CASES, ids=str)
@pytest.mark.parametrize("flags", [{}, {"capturable": True}], ids=str)
def test_interpreted_kernels_make_the_step_of_the_single_path(monkeypatch, kwargs, dtype, flags):
    interpret(monkeypatch)
    compare({**kwargs, **flags}, dtype, "cpu", 1)


@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kwargs", CASES, ids=str)
def test_the_kernels_on_a_gpu_make_the_step_of_the_single_path(kwargs, dtype):
    for every in (1, 7):
        compare(kwargs, dtype, "cuda", every)
        compare({**kwargs, "capturable": True}, dtype, "cuda", every)


@needs_gpu
def test_a_captured_graph_finds_the_distance():
    def run(captured: bool) -> tuple[Tensor, float]:
        param = torch.linspace(-2, 2, 5000, device="cuda").requires_grad_()
        optimizer = INNAprop.lr_free([param], fused=True, capturable=True)
        param.grad = torch.zeros_like(param)

        def step() -> None:
            param.grad.copy_(param.detach().sign())
            optimizer.step()

        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        if captured:
            with torch.cuda.graph(graph):
                step()
        for _ in range(50):
            graph.replay() if captured else step()
        torch.cuda.synchronize()
        return param.detach().clone(), optimizer.distance

    (ours, found), (theirs, expected) = run(True), run(False)
    torch.testing.assert_close(ours, theirs)
    assert found == pytest.approx(expected) != 1e-6
