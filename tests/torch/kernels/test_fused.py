"""The fused CPU kernels make the step that the single path makes, on whatever tensors and settings."""

from __future__ import annotations

import copy
import pickle
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inna import dynamics
from inna.torch import INNA, INNAprop
from inna.torch.kernels import cpu, support
from inna.torch.kernels.plan import _watch
from inna.torch.tensor_lists import Settings, TensorLists
from recorded import INNA_CASES, INNAPROP_CASES, Case, gradient, step_size, theta0

pytestmark = pytest.mark.skipif(bool(cpu.missing()), reason=f"{cpu.missing()}: python setup.py build_ext --inplace")

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
    momentum_dtype = data.draw(st.sampled_from([None, torch.float32, torch.float64]))
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


# Which path is taken.


def stepper(**kwargs: Any) -> INNA:
    param = torch.nn.Parameter(torch.ones(4, 6))
    param.grad = torch.full((4, 6), 0.5)
    return INNA([param], **kwargs)


def used(optimizer: INNA | INNAprop, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the next step goes through the kernels."""
    launches = []
    launch = cpu.Table.launch

    def watched(self: Any, *args: Any) -> None:
        launches.append(1)
        launch(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(cpu.Table, "launch", watched)
        optimizer.step()
    return bool(launches)


def test_none_means_fused_unless_another_path_is_asked_for(monkeypatch):
    assert used(stepper(), monkeypatch)
    assert used(stepper(fused=True), monkeypatch)
    for flags in ({"fused": False}, {"foreach": True}, {"foreach": False}):
        assert not used(stepper(**flags), monkeypatch)
        assert not stepper(**flags)._step_supports_amp_scaling
    assert not stepper(differentiable=True)._step_supports_amp_scaling


def test_what_has_no_kernel_goes_to_foreach_or_is_named(monkeypatch):
    for prepare, words in (
        (lambda p: setattr(p, "grad", torch.ones(6, 4).t()), "gradient is laid out with strides"),
        (lambda p: setattr(p, "grad", torch.ones(1, 1).expand(4, 6)), "gradient is laid out with strides"),
        (lambda p: setattr(p, "data", torch.ones(4, 12)[:, ::2]), "leave gaps or overlap"),
        (lambda p: setattr(p, "grad", torch._efficientzerotensor(4, 6)), "gradient is a zero without memory"),
    ):
        optimizer = stepper()
        (param,) = optimizer.param_groups[0]["params"]
        prepare(param)
        assert not used(optimizer, monkeypatch)
        assert not optimizer._step_supports_amp_scaling
        optimizer.param_groups[0]["fused"] = True
        with pytest.raises(RuntimeError, match=rf"fused=True: parameter 0, of shape \(4, 6\).*{words}"):
            optimizer.step()


def test_parameters_that_share_memory_are_not_stepped_side_by_side(monkeypatch):
    # As `decoder.weight.data = encoder.weight.data` ties them. Two threads would each add to what the other has read.
    numbers = torch.ones(300)
    params = [torch.nn.Parameter(view) for view in (torch.ones(3), numbers[:200], numbers[199:])]
    for param in params:
        param.grad = torch.ones_like(param)
    assert not used(INNA(params), monkeypatch)
    with pytest.raises(RuntimeError, match="fused=True: parameter 2 shares memory with parameter 1"):
        INNA(params, fused=True)
    apart = [numbers[:100], numbers[100:]]
    assert support.refusal(TensorLists(apart, momentums=[torch.zeros(100), torch.zeros(200)])) == ""
    zeros = torch.zeros(200)
    assert "or their state does" in support.refusal(TensorLists(apart, momentums=[zeros[:100], zeros]))


def test_the_message_counts_all_parameters_of_the_group():
    params = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(4, 6))]
    params[1].grad = torch.ones(6, 4).t()
    with pytest.raises(RuntimeError, match=r"fused=True: parameter 1, of shape \(4, 6\)"):
        INNA(params, fused=True).step()


def test_the_constructor_names_a_parameter_without_a_kernel():
    gaps = torch.ones(4, 12)[:, ::2].requires_grad_()
    with pytest.raises(RuntimeError, match="parameter 1, of shape"):
        INNA([torch.ones(2, requires_grad=True), gaps], fused=True)
    optimizer = stepper(fused=True)
    with pytest.raises(RuntimeError, match="parameter 0, of shape"):
        optimizer.add_param_group({"params": [gaps]})
    assert len(optimizer.param_groups) == 1
    meta = torch.nn.Parameter(torch.ones(2, device="meta"))
    with pytest.raises(RuntimeError, match="no kernels for meta"):
        INNA([meta], fused=True)


def test_a_missing_library_is_said(monkeypatch):
    monkeypatch.setattr(support, "available", lambda device: "the CPU kernels were not compiled")
    assert not used(stepper(), monkeypatch)
    with pytest.raises(RuntimeError, match=r"fused=True: parameter 0.* the CPU kernels were not compiled"):
        stepper(fused=True)


class Tagged(Tensor):
    pass


def test_subclasses_of_tensor_have_no_kernel(monkeypatch):
    param = torch.ones(3).as_subclass(Tagged).requires_grad_()
    param.grad = torch.ones(3).as_subclass(Tagged)
    assert "Tagged" in support.refusal(TensorLists([param], [param.grad]))
    assert not used(INNA([param]), monkeypatch)


@pytest.fixture
def mesh():
    """A mesh of one process, this one; training on several is test_distributed.py's."""
    distributed = torch.distributed
    if not distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield distributed.device_mesh.init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()


@pytest.mark.parametrize("cls", [INNA, INNAprop])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_shards_and_plain_tensors_of_one_group_go_through_the_kernels_together(cls, dtype, mesh, monkeypatch):
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    plans = (None, [Shard(0)], [Replicate()], [Shard(1)])
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(4, 6, generator=generator).to(dtype) for _ in plans]
    # The C code is the same for both; their ways to it are not.
    expected = [torch.nn.Parameter(tensor.clone()) for tensor in tensors]
    params = [
        torch.nn.Parameter(tensor.clone() if plan is None else distribute_tensor(tensor.clone(), mesh, plan))
        for tensor, plan in zip(tensors, plans, strict=True)
    ]
    sides = [cls(group, initial_speed=1.0, fused=True) for group in (params, expected)]
    for _ in range(3):
        for param, plain, plan in zip(params, expected, plans, strict=True):
            plain.grad = torch.randn(4, 6, generator=generator).to(dtype)
            param.grad = plain.grad.clone() if plan is None else distribute_tensor(plain.grad, mesh, plan)
        assert all(used(side, monkeypatch) for side in sides)
    for param, plain, plan in zip(params, expected, plans, strict=True):
        whole = param if plan is None else param.full_tensor()
        assert torch.equal(whole, plain)
    loss = (params[1] ** 3).sum()
    sides[0].step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


# What a step remembers of the one before.


@pytest.fixture(params=["torch's guards", "own facts"])
def watching(request, monkeypatch):
    if request.param == "own facts":
        monkeypatch.setitem(sys.modules, "torch._C._dynamo.guards", None)  # as in a torch that has none


def test_what_is_watched_for(watching):
    plain = torch.arange(6.0)
    alike = _watch([plain, torch.ones(2, 3)])
    assert alike(torch.zeros(6), torch.zeros(2, 3))
    assert not alike(None, torch.zeros(2, 3))
    others = (
        torch.zeros(2, 3).t(),
        torch.zeros(6),
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(2, 3, device="meta"),
        torch._neg_view(torch.zeros(2, 3)),
        torch._efficientzerotensor(2, 3),
        torch.zeros(2, 3).to_sparse(),
        torch.zeros(2, 3).as_subclass(Tagged),
        None,
    )
    for other in others:
        assert not alike(plain, other), other
    gone = weakref.ref(plain)
    del plain
    assert gone() is None


def test_a_plan_is_kept_while_gradients_are_new_at_every_step(watching):
    optimizer = stepper()
    optimizer.step()
    (plan,) = optimizer._plans.values()
    (param,) = optimizer.param_groups[0]["params"]
    for closure in (None, lambda: torch.ones(())):
        optimizer.zero_grad()
        param.grad = torch.ones(4, 6)
        optimizer.step(closure)
        assert list(optimizer._plans.values()) == [plan]
    gone = weakref.ref(param.grad)
    param.grad = None
    assert gone() is None


def test_a_plan_keeps_no_state_in_memory():
    optimizer = stepper()
    (param,) = optimizer.param_groups[0]["params"]
    for drop in (optimizer.state.clear, lambda: optimizer.state[param].update(momentum=torch.zeros(4, 6))):
        optimizer.step()
        optimizer.step()
        gone = weakref.ref(optimizer.state[param]["momentum"])
        drop()
        assert gone() is None


def test_a_plan_sees_everything_that_moves(watching):
    """Whatever is changed between steps, the next one does what a fresh single path would do."""

    def new_state(optimizer: INNA) -> None:
        for state in optimizer.state.values():
            state["momentum"] = state["momentum"] + 1

    def new_states(optimizer: INNA) -> None:
        for param in list(optimizer.state):
            optimizer.state[param] = {"momentum": optimizer.state[param]["momentum"] * 2}

    def new_data(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"]:
            param.data = param.data.clone() * 3

    def transposed(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"][:1]:
            param.data = param.data.t()
            param.grad = param.grad.t()

    def doubles(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"]:
            grad, param.grad = param.grad, None
            param.data = param.data.double()
            param.grad = grad.double()

    def no_gradient(optimizer: INNA) -> None:
        optimizer.param_groups[0]["params"][1].grad = None

    def kahan(optimizer: INNA) -> None:
        optimizer.param_groups[0]["kahan"] = True

    def speed(optimizer: INNA) -> None:
        optimizer.param_groups[0]["initial_speed"] = 1.0

    def settings(optimizer: INNA) -> None:
        optimizer.param_groups[0].update(lr=0.3, alpha=0.2, beta=0.0, weight_decay=0.1, maximize=True)

    def pending_sign(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"]:
            param.grad = torch._neg_view(param.grad)

    def swapped_gradient(optimizer: INNA) -> None:
        optimizer.param_groups[0]["params"][0].grad.data = torch.ones(4, 4).t() * torch.arange(4)

    def one_gradient(optimizer: INNA) -> None:
        first, *_ = optimizer.param_groups[0]["params"]
        first.data = torch.ones(5)
        optimizer.state[first]["momentum"] = torch.zeros(5)
        first.grad = optimizer.param_groups[0]["params"][1].grad

    def shorter(optimizer: INNA) -> None:
        for param in optimizer.param_groups[0]["params"][1:2]:
            param.grad = None
            param.data = param.data[:3]
            param.grad = torch.ones(3)
            optimizer.state[param]["momentum"] = optimizer.state[param]["momentum"][:3]

    def fewer(optimizer: INNA) -> None:
        del optimizer.param_groups[0]["params"][0]

    def reloaded(optimizer: INNA) -> None:
        optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))

    def another_group(optimizer: INNA) -> None:
        param = torch.nn.Parameter(torch.ones(3))
        param.grad = torch.ones(3)
        optimizer.add_param_group({"params": [param], "lr": 0.2})

    changes = (new_state, new_states, new_data, transposed, doubles, no_gradient, kahan, speed, settings, fewer)
    for change in (*changes, pending_sign, swapped_gradient, one_gradient, shorter, reloaded, another_group):
        sides = []
        for flags in ({}, {"fused": False, "foreach": False}):
            torch.manual_seed(3)
            params = [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 4), (5,), ())]
            optimizer = INNA(params, **flags)
            for k in range(6):
                for param in params:
                    param.grad = None
                    param.grad = torch.randn(param.shape).to(param.dtype)
                if k == 3:
                    change(optimizer)
                optimizer.step()
            sides.append([param for group in optimizer.param_groups for param in group["params"]])
        for ours, theirs in zip(*sides, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6, msg=change.__name__)


def test_copies_and_pickles_step_by_themselves():
    optimizer = stepper()
    optimizer.step()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (theirs,) = other.param_groups[0]["params"]
        (ours,) = optimizer.param_groups[0]["params"]
        before = ours.detach().clone()
        theirs.grad = torch.full((4, 6), 0.5)
        other.step()
        assert torch.equal(ours, before)
        assert not torch.equal(theirs, before)


def test_autograd_notices_that_a_parameter_has_changed():
    x = torch.nn.Parameter(torch.ones(3))
    loss = (x**3).sum()
    loss.backward(retain_graph=True)
    INNA([x], fused=True).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_step_size_of_zero_changes_nothing():
    for lr in (0.0, torch.tensor(0.0)):
        optimizer = stepper(lr=lr, fused=True, initial_speed=1.0, capturable=isinstance(lr, Tensor))
        optimizer.step()
        (param,) = optimizer.param_groups[0]["params"]
        assert torch.equal(param, torch.ones(4, 6))
        assert optimizer.state[param]["step"].item() == 0


def test_tensor_hyperparameters_are_read_at_each_step():
    lr = torch.tensor(0.1)
    ours, theirs = stepper(lr=lr, capturable=True, fused=True), stepper(lr=0.1, fused=False)
    for value in (0.1, 0.2, 0.05):
        lr.fill_(value)
        theirs.param_groups[0]["lr"] = lr.item()
        ours.step()
        theirs.step()
    torch.testing.assert_close(*(side.param_groups[0]["params"][0] for side in (ours, theirs)))


# Mixed precision.


@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_grad_scaler_scales_and_skips_through_the_kernels(cls, monkeypatch):
    def model() -> tuple[torch.nn.Parameter, Any]:
        param = torch.nn.Parameter(torch.linspace(-1, 1, 300))
        return param, cls([param], lr=0.05, initial_speed=1.0)

    param, optimizer = model()
    expected, plain = model()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert optimizer._step_supports_amp_scaling
    for k in range(4):
        for theta, scale in ((param, scaler.scale), (expected, lambda loss: loss)):
            theta.grad = None
            scale((theta**2).sum() * (torch.inf if k == 2 and theta is param else 1)).backward()
        before = [param.detach().clone(), *(t.clone() for t in optimizer.state[param].values())]
        with monkeypatch.context() as patch:
            patch.setattr(optimizer, "_update", None)
            scaler.step(optimizer)
        scaler.update()
        if k == 2:
            after = [param.detach(), *optimizer.state[param].values()]
            assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
        else:
            plain.step()
            torch.testing.assert_close(param.grad, expected.grad)  # as torch's own leave them: divided by the scale
            torch.testing.assert_close(param, expected)
    assert scaler.get_scale() == 512.0
    assert not hasattr(optimizer, "grad_scale")


# Under torch.compile.


def operator_arguments(prop: bool, kahan: bool) -> tuple[Any, ...]:
    torch.manual_seed(1)
    sizes = [(3, 4), (5,)]
    params, grads, momentums = ([torch.randn(size) for size in sizes] for _ in range(3))
    squares = [torch.rand(size) for size in sizes] if prop else []
    held = [torch.zeros(size) for size in sizes] if kahan else []
    steps = [torch.zeros(()) for _ in sizes] if prop else []
    lr, alpha, beta = torch.tensor(0.1), torch.tensor(0.5), torch.tensor(0.1)
    rest = (0.01, 1.0 if prop else None, False, False, 0.9 if prop else None, 1e-8)
    return params, grads, momentums, squares, held, steps, lr, alpha, beta, torch.zeros(()), *rest


@pytest.mark.parametrize("kahan", [False, True])
@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
def test_the_operator_is_registered_as_torch_wants_it(prop, kahan):
    result = torch.library.opcheck(torch.ops.inna.fused_step.default, operator_arguments(prop, kahan))
    assert set(result.values()) == {"SUCCESS"}


@pytest.mark.parametrize("cls", [INNA, INNAprop])
@pytest.mark.filterwarnings("ignore")  # torch.compile's own
def test_compiled_steps_are_the_eager_ones_by_the_operator(cls):
    # The graph is run as it was captured; what a backend makes of it is torch's to test.
    operators = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        operators.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    sides = []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        params = [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 3), (5,))]
        optimizer = cls(params, lr=torch.tensor(0.05), initial_speed=1.0)
        step = torch.compile(optimizer.step, backend=backend) if compiled else optimizer.step
        for k in range(3):
            for param in params:
                param.grad = torch.cos(param.detach() + k)
            step()
        sides.append(params)
    assert any("fused_step" in name for name in operators)
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs)
