"""The CPU kernels make the step that the single path makes, on any tensors and settings."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fused_steps import needs_kernels
from inna import dynamics
from inna.torch import INNA, INNAprop
from inna.torch.kernels import cpu
from inna.torch.tensor_lists import Settings, TensorLists
from recorded import INNA_CASES, INNAPROP_CASES, Case, gradient, step_size, theta0

pytestmark = needs_kernels

REAL = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


COMPLEX = [torch.complex64, torch.complex128]


# Relative to max|theta|. The single path rounds each operation to the dtype; the kernels round once, to float32 inside.
TOLERANCE = {
    torch.float64: 1e-14,
    torch.complex128: 1e-14,
    torch.float32: 3e-6,
    torch.complex64: 3e-6,
    torch.bfloat16: 0.05,
    torch.float16: 0.007,
}


@st.composite
def laid_out(draw: st.DrawFn, dtype: torch.dtype) -> Tensor:
    """A tensor of any dense layout: permuted, of any size (0 and 1 among them), at any offset in its storage."""
    shape = draw(st.lists(st.integers(0, 7), max_size=4)) or [draw(st.sampled_from([1, 63, 64, 65, 511, 513, 1025]))]
    order = draw(st.permutations(range(len(shape))))
    offset = draw(st.integers(0, 5))
    torch.manual_seed(draw(st.integers(0, 2**31)))
    numbers = torch.randn(int(np.prod(shape)) + offset, dtype=torch.complex128 if dtype.is_complex else torch.float64)
    return numbers.to(dtype)[offset:].view([shape[i] for i in order]).permute(np.argsort(order).tolist())


def numbers(maximum: float) -> st.SearchStrategy[float]:
    return st.sampled_from([0.0]) | st.floats(1e-3, maximum)


inna_settings = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-3, 0.5),
        "alpha": numbers(2.0),
        "beta": numbers(2.0),
        "weight_decay": numbers(1.0),
        "initial_speed": st.none() | st.floats(-2, 2),
        "decoupled_weight_decay": st.booleans(),
        "maximize": st.booleans(),
    }
)


innaprop_settings = st.fixed_dictionaries(
    {
        "lr": st.floats(1e-3, 0.5),
        "alpha": numbers(2.0),
        "beta": st.floats(0.1, 2.0),
        "weight_decay": numbers(1.0),
        "sigma": numbers(0.999),
        "eps": st.floats(1e-3, 1e-1),
        "initial_speed": st.none() | st.floats(-2, 2),
        "maximize": st.booleans(),
    }
)


def both_paths(
    cls: type[INNA] | type[INNAprop], tensors: list[Tensor], steps: int = 4, **kwargs: Any
) -> tuple[list[Tensor], list[Tensor], INNA | INNAprop, INNA | INNAprop]:
    """``steps`` steps with the same gradients, fused and tensor by tensor; (params, params, optimizer, optimizer)."""
    sides = []
    for flags in ({"fused": True}, {"fused": False, "foreach": False}):
        generator = torch.Generator().manual_seed(7)
        params = [torch.nn.Parameter(tensor.clone(memory_format=torch.preserve_format)) for tensor in tensors]
        optimizer = cls(params, **flags, **kwargs)
        for _ in range(steps):
            for param in params:
                noise = torch.randn(param.shape, dtype=torch.float64, generator=generator)
                param.grad = torch.empty_like(param).copy_(noise if not param.is_complex() else noise * (1 - 2j))
            optimizer.step()
        sides.append((params, optimizer))
    (ours, optimizer), (theirs, reference) = sides
    return ours, theirs, optimizer, reference


def assert_close(ours: Tensor, theirs: Tensor, tolerance: float, scale: float) -> None:
    assert ours.dtype == theirs.dtype
    if ours.numel():
        wide = torch.complex128 if ours.is_complex() else torch.float64
        difference = (ours.detach().to(wide) - theirs.detach().to(wide)).abs().max().item()
        assert difference <= tolerance * scale


def compare(cls: type[INNA] | type[INNAprop], tensors: list[Tensor], **kwargs: Any) -> None:
    ours, theirs, optimizer, reference = both_paths(cls, tensors, **kwargs)
    for x, y in zip(ours, theirs, strict=True):
        if not y.numel():
            continue
        precision = max((t.dtype for t in reference.state[y].values() if t.ndim == y.ndim), key=TOLERANCE.__getitem__)
        tolerance = max(TOLERANCE[x.dtype], TOLERANCE[precision])
        scale = max(1.0, y.detach().abs().max().item())
        assert_close(x, y, tolerance, scale)
        for name, value in reference.state[y].items():
            assert_close(optimizer.state[x][name], value, tolerance, max(scale, value.abs().max().item()))


@pytest.mark.parametrize("dtype", REAL + COMPLEX, ids=str)
@settings(max_examples=40)
@given(data=st.data())
def test_inna_is_that_of_the_single_path(dtype, data):
    tensors = data.draw(st.lists(laid_out(dtype), min_size=1, max_size=4))
    kahan = data.draw(st.sampled_from([None, False, True]))
    # torch itself lacks operations on complex numbers of half precision.
    momentum_dtype = data.draw(st.sampled_from([None, *(REAL[:2] if dtype.is_complex else REAL)]))
    compare(INNA, tensors, kahan=kahan, momentum_dtype=momentum_dtype, **data.draw(inna_settings))


@pytest.mark.parametrize("dtype", REAL + COMPLEX, ids=str)
@settings(max_examples=40)
@given(data=st.data())
def test_innaprop_is_that_of_the_single_path(dtype, data):
    tensors = data.draw(st.lists(laid_out(dtype), min_size=1, max_size=4))
    kahan = data.draw(st.sampled_from([None, False, True]))
    momentum_dtype = data.draw(st.sampled_from([None, torch.float32, torch.float64, torch.bfloat16]))
    if momentum_dtype is None and dtype in (torch.bfloat16, torch.float16):
        momentum_dtype = torch.float32  # v' = sigma v + (1 - sigma) g² is not resolved by half a precision.
    compare(INNAprop, tensors, kahan=kahan, momentum_dtype=momentum_dtype, **data.draw(innaprop_settings))


@given(data=st.data())
def test_a_group_of_several_dtypes_is_that_of_the_single_path(data):
    tensors = [data.draw(laid_out(dtype)) for dtype in REAL + COMPLEX]
    compare(INNA, tensors, momentum_dtype=torch.float32, **data.draw(inna_settings))


def test_a_group_of_several_dtypes_is_one_call(monkeypatch):
    calls = []

    class Library:
        def __getattr__(self, name: str) -> Any:
            if name == "inna_step":
                calls.append(name)
            return getattr(library, name)

    library = cpu.library()
    monkeypatch.setattr(cpu, "library", Library)
    params = [torch.nn.Parameter(torch.ones(5, dtype=dtype)) for dtype in (*REAL, *COMPLEX) for _ in range(3)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = INNA(params, fused=True)
    for k in range(3):
        optimizer.step()
        assert len(calls) == k + 1


@pytest.mark.parametrize("case", [*INNA_CASES, *INNAPROP_CASES], ids=str)
def test_the_recorded_iterates(case: Case):
    theta = torch.nn.Parameter(torch.from_numpy(theta0()))
    settings = {"lr": case.gamma0, "alpha": case.alpha, "beta": case.beta, "fused": True}
    if case.optimizer == "INNAprop":
        settings |= {"sigma": case.sigma, "eps": case.eps, "weight_decay": case.weight_decay}
    else:
        settings |= {"weight_decay": case.weight_decay / case.beta}
    optimizer = {"INNA": INNA, "INNAprop": INNAprop}[case.optimizer]([theta], **settings)
    for k in range(max(case.iterates)):
        optimizer.param_groups[0]["lr"] = step_size(case, k)
        theta.grad = torch.from_numpy(gradient(theta.detach()))
        optimizer.step()
        if k + 1 in case.iterates:
            momentum = optimizer.state[theta]["momentum"].numpy()
            made = theta.detach().numpy()
            psi = dynamics.phase_from_momentum(made, momentum, case.alpha, case.beta)
            for ours, theirs in zip((made, psi), case.iterates[k + 1], strict=True):
                scale = max(np.abs(case.iterates[k + 1][0]).max(), np.abs(theirs).max())
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * scale)


SIZES = [0, 1, 2, *(2**k + d for k in (4, 6, 9, 16) for d in (-1, 0, 1)), 70_001]


def stepped(size: int, dtype: torch.dtype, prop: bool, kahan: bool, level: int | None = None) -> list[Tensor]:
    """The tensors after two steps on ``size`` numbers, by the instructions of ``level``."""
    torch.manual_seed(size)
    theta, g, m, v, c = (torch.randn(size).to(dtype) for _ in range(5))
    lists = TensorLists([theta], [g], [m], [v.abs_()] if prop else [], [c.mul_(1e-3) if kahan else None], [])
    if prop:
        lists.steps.append(torch.zeros(()))
    table = cpu.Table(lists)
    if level is not None:
        table._level = level
    for _ in range(2):
        table.launch(
            [g.data_ptr()], Settings(0.1, 0.5, 0.3, 0.01, sigma=0.9 if prop else None, eps=1e-3, maximize=True)
        )
    return [theta, m, v, c]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
@pytest.mark.parametrize("kahan", [False, True], ids=["plain", "Kahan"])
@pytest.mark.parametrize("dtype", REAL, ids=str)
def test_threads_and_instruction_sets_do_not_show_in_a_single_bit(dtype, prop, kahan, threads):
    for size in SIZES:
        threads(1)
        expected = stepped(size, dtype, prop, kahan, level=0)
        for level in range(len(cpu.instruction_sets())):
            for count in (1, 2, 3, 5):
                threads(count)
                for ours, theirs in zip(stepped(size, dtype, prop, kahan, level), expected, strict=True):
                    assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))


def test_each_instruction_set_is_compiled_for():
    assert "attribute ignored" not in cpu.compiler_log()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list threads")
def test_a_step_that_needs_few_threads_ends_none_of_torchs(threads):
    if not cpu.library().inna_uses_openmp():
        pytest.skip("the kernels were compiled without OpenMP")
    threads(5)
    torch.zeros(1_000_000).add_(1)
    before = {path.name for path in Path("/proc/self/task").iterdir()}
    stepped(40_000, torch.float32, prop=False, kahan=False)
    for _ in range(50):  # A thread takes a moment to end.
        time.sleep(0.002)
        assert before <= {path.name for path in Path("/proc/self/task").iterdir()}


def test_the_division_among_threads_leaves_nothing_out_and_is_even():
    seam = cpu.library().inna_seam
    for total in (0, 1, 63, 64, 1000, 2**31 - 1, 2**31 + 1, 2**40 + 77):
        for count in (1, 2, 3, 64):
            at = [seam(total, count, i) for i in range(count + 1)]
            assert at[0] == 0 or count == 1
            assert at[-1] == total
            shares = np.diff(at)
            assert shares.min() >= 0
            assert shares.max() - shares.min() < 128 + 64


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_the_conversions_are_those_of_torch(half):
    every = torch.arange(2**16, dtype=torch.int32).to(torch.uint16).view(half)
    assert torch.equal(cpu.convert(every, torch.float32).nan_to_num(7), every.float().nan_to_num(7))
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (300_000,), dtype=torch.int64).to(torch.int32)
    # Halfway between neighbours, and next to halfway, is where rounding shows.
    middle = every.float()[:-1].lerp(every.float()[1:], 0.5).nan_to_num(1.0)
    for floats in (bits.view(torch.float32), middle, middle.nextafter(torch.tensor(9e9)), torch.zeros(1), -middle):
        ours = cpu.convert(floats, half)
        assert torch.equal(ours.isnan(), floats.to(half).isnan())
        assert torch.equal(ours.nan_to_num(7), floats.to(half).nan_to_num(7))
    assert cpu.convert(torch.tensor([1.5, 2.0]), torch.float64).tolist() == [1.5, 2.0]


def test_flushing_subnormals_of_float32_leaves_those_of_float16_alone():
    subnormals = torch.arange(1, 1024, dtype=torch.int32).to(torch.uint16).view(torch.float16)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        wide = cpu.convert(subnormals, torch.float32)
        back = cpu.convert(wide, torch.float16)
    finally:
        torch.set_flush_denormal(False)
    assert torch.equal(wide, torch.arange(1, 1024) * 2.0**-24)
    assert torch.equal(back, subnormals)


def test_infinities_stay_infinities():
    # A term that is switched off must not make a NaN of an infinity: 0 * inf.
    theta, g, m = torch.tensor([torch.inf, 1.0]), torch.zeros(2), torch.zeros(2)
    cpu.Table(TensorLists([theta], [g], [m])).launch([g.data_ptr()], Settings(0.1, 0.5, 0.1))
    assert theta.tolist() == [torch.inf, 1.0]
    grads = torch.tensor([torch.inf])
    theta, m, step = torch.zeros(1), torch.zeros(1), torch.ones(())
    table = cpu.Table(TensorLists([theta], [grads], [m], steps=[step]))
    table.launch([grads.data_ptr()], Settings(0.1, 0.5, 0.1, initial_speed=1.0))
    assert (theta.item(), m.item(), step.item()) == (-torch.inf, torch.inf, 2.0)


@pytest.mark.parametrize("changed", ["nothing", "source", "library"])
def test_a_library_of_other_sources_is_refused(changed, tmp_path, monkeypatch):
    # Its structs may be laid out otherwise: it would not fail, but compute wrong numbers.
    for path in [cpu.LIBRARY, *cpu.LIBRARY.parent.glob("*.[ch]")]:
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(cpu, "LIBRARY", tmp_path / cpu.LIBRARY.name)
    if changed == "source":
        with (tmp_path / "cpu_rule.h").open("a", encoding="utf-8") as file:
            file.write("\n")
    elif changed == "library":  # One of a version that did not say what it was compiled from.
        built = cpu.LIBRARY.read_bytes()
        assert b"inna_sources" in built
        cpu.LIBRARY.write_bytes(built.replace(b"inna_sources", b"inna_nothing"))
    loaded, reason = cpu._load.__wrapped__()
    assert (loaded is not None) == (changed == "nothing")
    assert ("compiled from other sources" in reason) == (changed != "nothing")
