"""The guarded step by Triton's kernels, under the interpreter and on a GPU.

It is the step of the single path, and waits for nothing.

`tests/torch/measures/test_guarded.py` runs its tests of the rule with these kernels, too.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from inna.torch import INNA
from inna.torch.kernels import step as fused
from inna.torch.measures.guard import GuardShare, Products, measure
from inna.torch.measures.guarded_step import DECISION
from inna.torch.tensor_lists import Settings, SumLists, TensorLists
from no_synchronisation import NoSynchronisation
from triton_kernels import (
    INTERPRETING,
    compile_only,
    in_the_interpreter,
    interpret,
    needs_gpu,
    needs_triton,
    run_interpreted,
)

SHAPES = [(3, 5), (0,), (), (17,), (2047,), (2049,), (3, 2, 4)]
# Relative, and absolute below 1. The single path rounds each operation to the dtype; the kernels round once.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.complex128: 1e-11,
    torch.float32: 3e-5,
    torch.complex64: 3e-5,
    torch.bfloat16: 0.05,
    torch.float16: 0.007,
}
CASES: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1, "initial_speed": 1.0, "time_step": 0.3},
    {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True, "kahan": True},
    {"momentum_dtype": torch.float32, "beta": 0.0, "alpha": 0.9},
]


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="this is the process of the interpreter")
def test_the_interpreted_tests_pass():
    run_interpreted("interpreter", __file__)


@pytest.fixture
def in_interpreter(monkeypatch):
    """The Triton kernels on the CPU."""
    interpret(monkeypatch)
    with np.errstate(invalid="ignore", over="ignore"):  # a GPU does not warn either
        yield


def tensors(dtype: torch.dtype, device: str) -> list[Tensor]:
    """Sizes around a block's, permuted and unaligned views among them."""
    torch.manual_seed(0)
    made = [
        torch.randn(shape, dtype=dtype.to_complex() if dtype.is_complex else torch.float64).to(dtype)
        for shape in SHAPES
    ]
    made.append(made[-1].clone().permute(2, 0, 1))
    made.append(torch.randn(101).to(dtype)[1:])
    return [each.to(device).requires_grad_() for each in made]


def optimizers(kwargs: dict[str, Any], dtype: torch.dtype, device: str, **flags: Any) -> tuple[list[Tensor], INNA]:
    params = tensors(dtype, device)
    groups = [{"params": params[:2]}, {"params": params[2:5], "lr": 0.3}, {"params": params[5:], "beta": 0.05}]
    return params, INNA(groups, **{"lr": 0.8, "loss_bound": 0.0, **kwargs}, **flags)


def set_gradients(params: list[Tensor], k: int, scale: float = 1.0) -> float:
    """Gradients of step k; return a loss at which the guard binds in some of the steps."""
    torch.manual_seed(k)
    for param in params:
        param.grad = torch.empty_like(param).copy_(torch.randn(param.shape) * scale)
    return [6000.0, 40.0, 10.0, 5000.0][k % 4]


def assert_alike(ours: INNA, theirs: INNA, tolerance: float) -> None:
    for mine, other in zip(ours.param_groups, theirs.param_groups, strict=True):
        for name in DECISION:
            expected = other[name].item()
            assert abs(mine[name].item() - expected) <= tolerance * max(1.0, abs(expected)), name
        for x, y in zip(mine["params"], other["params"], strict=True):
            if x.numel():
                assert (x - y).abs().max().item() <= tolerance * max(1.0, y.detach().abs().max().item())
            assert set(ours.state[x]) == set(theirs.state[y])


def compare(kwargs: dict[str, Any], dtype: torch.dtype, device: str) -> None:
    """Four steps with three groups, fused and tensor by tensor; some are cut, one to nothing."""
    sides = []
    for flags in ({"fused": True}, {"fused": False, "foreach": False}):
        params, optimizer = optimizers(kwargs, dtype, device, **flags)
        for k in range(4):
            value = set_gradients(params, k)
            optimizer.step(loss=torch.tensor(-value if kwargs.get("maximize") else value, device=device))
        sides.append(optimizer)
    assert 0 < sides[1].guarded_share < 1
    assert_alike(*sides, max(TOLERANCE[dtype], TOLERANCE[kwargs.get("momentum_dtype", dtype)]))


@in_the_interpreter
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kwargs", CASES, ids=str)
def test_in_the_interpreter_it_is_the_step_of_the_single_path(in_interpreter, kwargs, dtype):
    compare(kwargs, dtype, "cpu")


@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("kwargs", CASES, ids=str)
def test_on_a_gpu_it_is_the_step_of_the_single_path(kwargs, dtype):
    compare(kwargs, dtype, "cuda")


def check_settings_in_tensors(device: str) -> None:
    """Settings and losses in tensors of several dtypes, and as numbers, give the same step; nothing is read."""
    kinds: list[Any] = [float, torch.float64, torch.float32, torch.bfloat16]
    found = []
    for kind in kinds:
        params, optimizer = optimizers({}, torch.float64, device, fused=True, capturable=True)
        for group in optimizer.param_groups:
            for name, value in (("lr", 0.5), ("alpha", 0.5), ("beta", 0.25)):
                group[name] = value if kind is float else torch.tensor(value, dtype=kind, device=device)
        for k in range(4):
            value = set_gradients(params, k)
            loss: Any = value if kind is float else torch.tensor(value, device=device, dtype=torch.float32)
            with NoSynchronisation():
                optimizer.step(loss=loss)
        found.append(optimizer)
    for other in found[1:]:
        assert_alike(found[0], other, 0.0)


@in_the_interpreter
def test_in_the_interpreter_tensors_are_read_on_the_device(in_interpreter):
    check_settings_in_tensors("cpu")


@needs_gpu
def test_on_a_gpu_tensors_are_read_on_the_device():
    check_settings_in_tensors("cuda")


def check_scaling(device: str) -> None:
    """The gradients are divided once, also in a step that is refused; a verdict leaves everything as it is."""
    kwargs = {"weight_decay": 0.1, "initial_speed": 1.0}
    scale, fine, overflow = (torch.tensor(value, device=device) for value in (8.0, 0.0, 1.0))
    (plain, unscaled), (params, scaled) = (optimizers(kwargs, torch.float32, device, fused=True) for _ in range(2))
    for k in range(4):
        value = set_gradients(plain, k)
        unscaled.step(loss=value)
        set_gradients(params, k, scale=8.0)
        before = copy.deepcopy(scaled)
        kept = [param.grad.clone() for param in params if param.grad is not None]
        scaled.grad_scale, scaled.found_inf = scale, overflow
        scaled.step(loss=value)
        if k:
            assert_alike(scaled, before, 0.0)
        for param, grad in zip(params, kept, strict=True):
            assert torch.equal(param.grad, grad)
        scaled.found_inf = fine
        scaled.step(loss=value)
        assert_alike(scaled, unscaled, 0.0)
        for param, other in zip(params, plain, strict=True):
            assert torch.equal(param.grad, other.grad)
    set_gradients(params, 4, scale=8.0)
    set_gradients(plain, 4)
    scaled.step(loss=math.nan)
    assert_alike(scaled, unscaled, 0.0)
    for param, other in zip(params, plain, strict=True):
        assert torch.equal(param.grad, other.grad)


@in_the_interpreter
def test_in_the_interpreter_the_scale_and_verdict_of_grad_scaler(in_interpreter):
    check_scaling("cpu")


@needs_gpu
def test_on_a_gpu_the_scale_and_verdict_of_grad_scaler():
    check_scaling("cuda")


def check_products(device: str) -> None:
    """The kernel's inner products beside those of torch's operations, the first velocity included."""
    torch.manual_seed(0)
    params, grads, momentums, held, starts = (
        [torch.randn(size, device=device) for size in (5000, 3, 0, 2048)] for _ in range(5)
    )
    steps = [torch.tensor(float(i % 2), device=device) for i in range(4)]
    for decoupled in (False, True):
        # A penalty of the first velocity does not see what rounding has kept back.
        compensations = [each * 1e-3 for each in held] if decoupled else []
        lists = TensorLists(params, grads, momentums, compensations=compensations, steps=steps)
        settings = Settings(0.1, 0.5, 0.3, 0.1, 1.0, decoupled, maximize=True)
        (products,) = fused.measure(lists, settings)
        table = fused.make_table(torch.device(device), lists, SumLists(starts, []))
        with_distance = table.measure([grad.data_ptr() for grad in grads], settings)
        share = GuardShare(lists, [step == 0 for step in steps], settings, starts=starts)
        expected = measure([share], torch.zeros((), device=device), torch.device(device), sum_over_ranks=False)
        torch.testing.assert_close(with_distance, expected[: len(products)], rtol=1e-6, atol=1e-3)
        first = Products._fields.index("grad_squared")
        assert torch.equal(products[:first], with_distance[:first])
        assert not products[first:].any()


@in_the_interpreter
def test_in_the_interpreter_inner_products_are_those_of_torch(in_interpreter):
    check_products("cpu")


@needs_gpu
def test_on_a_gpu_inner_products_are_those_of_torch():
    check_products("cuda")


@in_the_interpreter
def test_in_the_interpreter_a_capture_keeps_all_that_its_replays_read_and_write(in_interpreter, monkeypatch):
    from inna.torch.kernels import cuda, cuda_guard

    captured: list[Tensor] = []
    monkeypatch.setattr(cuda, "_captured", captured)
    params, optimizer = optimizers({"initial_speed": 1.0}, torch.float32, "cpu", fused=True, capturable=True)
    loss = torch.tensor(set_gradients(params, 0))
    optimizer.step(loss=loss)
    passed: list[Any] = []
    kernel = cuda_guard.decide
    monkeypatch.setattr(cuda, "_capturing", lambda device: True)

    class Watched:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *args, **options: (passed.extend(args), kernel[grid](*args, **options))

    monkeypatch.setattr(cuda_guard, "decide", Watched())
    optimizer.step(loss=loss)
    kept = {tensor.untyped_storage().data_ptr() for tensor in captured}
    read = {tensor.untyped_storage().data_ptr() for tensor in passed if isinstance(tensor, Tensor)}
    assert read - {loss.untyped_storage().data_ptr()} <= kept
    assert {group[name].data_ptr() for group in optimizer.param_groups for name in DECISION} <= kept


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="nothing is compiled there")
@pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything"])
def test_the_kernels_compile_for_a_gpu_that_is_not_here(everything, tmp_path, monkeypatch):
    from inna.torch.kernels import cuda, cuda_guard, cuda_rule

    params = [torch.ones(5), torch.ones(3000)]
    lists = TensorLists(params, [torch.ones_like(each) for each in params], [torch.zeros_like(each) for each in params])
    settings, loss, scaling = Settings(0.1, 0.5, 0.1), 1.0, (None, None)
    if everything:
        lists.compensations = [torch.zeros_like(each) for each in params]
        lists.steps = [torch.zeros(()) for _ in params]
        numbers = [torch.tensor(value, dtype=dtype) for value, dtype in ((0.1, torch.float32), (0.5, torch.float64))]
        settings = Settings(*numbers, 0.1, 0.1, 1.0, maximize=True, time_step=0.2)
        loss, scaling = torch.tensor(1.0), (torch.ones(()), torch.zeros(()))
    memory = [torch.zeros(1, dtype=torch.float64) for _ in DECISION]
    kernels = [(cuda_rule, "measure"), (cuda_guard, "decide"), (cuda_rule, "step")]
    with compile_only(kernels, tmp_path, monkeypatch) as compiled:
        groups = 2 if everything else 1
        starts = [torch.zeros_like(each) for each in params]
        tables = [cuda.Table(lists, SumLists(starts, []) if everything else None)] * groups
        part = cuda_guard.GuardPart([grad.data_ptr() for grad in lists.grads], settings, memory)
        guard = cuda_guard.Guard(tables, torch.device("cpu"))
        guard.step([part] * groups, loss, 0.0, maximize=True, scaling=scaling)
    assert [len(kernel.asm["cubin"]) > 0 for kernel in compiled] == [True] * (2 * groups + 1)


@needs_gpu
def test_a_step_on_a_gpu_is_three_launches_and_waits_for_nothing():
    for kwargs in ({}, {"initial_speed": 1.0, "weight_decay": 0.1}):
        params = [torch.randn(3000, device="cuda", requires_grad=True) for _ in range(5)]
        for param in params:
            param.grad = torch.randn_like(param)
        optimizer = INNA(params, 0.8, loss_bound=0.0, fused=True, **kwargs)
        loss = torch.tensor(3.0, device="cuda")
        for _ in range(3):
            optimizer.step(loss=loss)
        torch.cuda.synchronize()
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CUDA],
            acc_events=True,  # torch warns without it
        ) as profile:
            torch.cuda.set_sync_debug_mode("error")
            try:
                optimizer.step(loss=loss)
            finally:
                torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()
        on_device = [event.name for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
        launched = [name for name in on_device if not name.startswith("Optimizer.step")]  # a label of torch's
        assert sorted(launched) == ["decide", "measure", "step"]


@needs_gpu
@pytest.mark.parametrize("kwargs", CASES, ids=str)
def test_a_captured_graph_replays_the_guarded_step(kwargs):
    sides = []
    for captured in (False, True):
        params, optimizer = optimizers(kwargs, torch.float32, "cuda", fused=True, capturable=True)
        lr, loss = (torch.zeros((), device="cuda") for _ in range(2))
        for group in optimizer.param_groups:
            group["lr"] = lr
        set_gradients(params, 0)
        lr.fill_(0.5)
        loss.fill_(400.0)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            optimizer.step(loss=loss)
        torch.cuda.current_stream().wait_stream(stream)
        step: Any = lambda optimizer=optimizer, loss=loss: optimizer.step(loss=loss)  # noqa: E731
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step(loss=loss)
            step = graph.replay
        for k, length in enumerate((0.5, 0.0, 0.8, 0.8)):
            lr.fill_(length)
            loss.fill_([400.0, 10.0, math.nan, 2000.0][k] * (-1.0 if kwargs.get("maximize") else 1.0))
            torch.manual_seed(k)
            for param in params:
                param.grad.copy_(torch.randn(param.shape))
            step()
        sides.append(optimizer)
    assert sides[0].param_groups[0]["guard_steps"].item() == 3
    assert_alike(*sides, 0.0)


@needs_gpu
def test_a_guarded_step_on_a_gpu_allocates_nothing_of_the_groups_size():
    params = [torch.ones(1 << 20, device="cuda", requires_grad=True) for _ in range(8)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = INNA(params, fused=True, loss_bound=0.0)
    loss = torch.ones((), device="cuda")
    for _ in range(2):
        optimizer.step(loss=loss)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    optimizer.step(loss=loss)
    assert torch.cuda.max_memory_allocated() - before < 1 << 16


@needs_gpu
def test_two_steps_on_a_gpu_are_equal_bit_for_bit():
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        params = [
            torch.randn(300_000, device="cuda", requires_grad=True),
            torch.randn(7, device="cuda", requires_grad=True),
        ]
        optimizer = INNA(params, 0.8, loss_bound=0.0, fused=True, weight_decay=0.1)
        for k in range(5):
            value = set_gradients(params, k)
            optimizer.step(loss=value)
        found.append(optimizer)
    assert_alike(*found, 0.0)


@needs_gpu
def test_a_default_guarded_optimizer_on_a_gpu_is_fused_and_goes_on_after_loading():
    sides = []
    for flags in ({}, {"foreach": True}):
        params, optimizer = optimizers({"initial_speed": 1.0}, torch.float64, "cuda", **flags)
        for k in range(6):
            if k == 3:
                saved = copy.deepcopy(optimizer.state_dict())
                optimizer = optimizers({"initial_speed": 1.0}, torch.float64, "cuda", **flags)[1]
                for mine, other in zip(
                    params, (p for group in optimizer.param_groups for p in group["params"]), strict=True
                ):
                    other.data.copy_(mine.data)
                params = [param for group in optimizer.param_groups for param in group["params"]]
                optimizer.load_state_dict(saved)
            optimizer.step(loss=set_gradients(params, k))
        sides.append(optimizer)
    assert sides[0]._guard is not None
    assert sides[1]._guard is None
    assert_alike(*sides, 1e-11)
