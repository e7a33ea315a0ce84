"""The Triton kernels, under Triton's interpreter on the CPU and on a GPU if there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from inna.torch import INNA, INNAprop
from inna.torch.kernels import support
from inna.torch.tensor_lists import Settings, TensorLists
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

SETTINGS: list[tuple[type[INNA] | type[INNAprop], dict[str, Any]]] = [
    (INNA, {}),
    (INNA, {"weight_decay": 0.1, "initial_speed": 1.0}),
    (INNA, {"weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True, "kahan": True}),
    (INNA, {"momentum_dtype": torch.float32, "beta": 0.0, "time_step": 0.3}),
    (INNA, {"momentum_dtype": torch.bfloat16, "rounding_seed": 3}),
    (INNAprop, {"momentum_dtype": torch.bfloat16, "weight_decay": 0.0, "eps": 1e-3}),
    (INNAprop, {"momentum_dtype": torch.float32}),
    (INNAprop, {"momentum_dtype": torch.float32, "initial_speed": 2.0, "maximize": True, "sigma": 0.0, "eps": 1e-3}),
]
TOLERANCE = {
    torch.float64: 1e-13,
    torch.complex128: 1e-13,
    torch.float32: 3e-6,
    torch.complex64: 3e-6,
    torch.bfloat16: 0.05,
    torch.float16: 0.007,
}
SHAPES = [(3, 5), (0,), (), (17,), (2047,), (2048,), (2049,), (3, 2, 4)]


NAMES = (
    "interpreted_kernels or interpreted_codes or settings_on_the_device or grad_scaler or addresses_are_sent or "
    "capture_keeps"
)


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="this is the process of the interpreter")
def test_the_interpreted_tests_pass():
    run_interpreted(NAMES, __file__)


@pytest.fixture
def interpreted(monkeypatch):
    """The kernels, run by Triton's interpreter on tensors of the CPU."""
    return interpret(monkeypatch)


def compare(cls: type[INNA] | type[INNAprop], kwargs: dict[str, Any], dtype: torch.dtype, device: str) -> None:
    """Three steps, fused and tensor by tensor, on sizes around a block's, permuted and unaligned views among them."""
    sides = []
    for flags in ({"fused": True}, {"fused": False, "foreach": False}):
        torch.manual_seed(0)
        tensors = [
            torch.randn(shape, dtype=dtype.to_complex() if dtype.is_complex else torch.float64) for shape in SHAPES
        ]
        tensors = [tensor.to(dtype=dtype, device=device) for tensor in tensors]
        tensors.append(tensors[-1].clone().permute(2, 0, 1))
        storage = torch.randn(101).to(dtype=dtype, device=device)
        tensors.append(storage[1:])
        params = [tensor.requires_grad_() for tensor in tensors]
        optimizer = cls(params, **flags, **kwargs)
        for _ in range(3):
            for param in params:
                param.grad = torch.empty_like(param).copy_(torch.randn(param.shape))
            optimizer.step()
        sides.append((params, optimizer))
    (ours, optimizer), (theirs, reference) = sides
    for x, y in zip(ours, theirs, strict=True):
        if x.numel():
            tolerance = max(TOLERANCE[x.dtype], TOLERANCE[reference.state[y]["momentum"].dtype])
            assert (x - y).abs().max().item() <= tolerance * max(1.0, y.detach().abs().max().item())
            assert set(optimizer.state[x]) == set(reference.state[y])


@in_the_interpreter
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("cls", "kwargs"), SETTINGS)
def test_interpreted_kernels_make_the_step_of_the_single_path(interpreted, cls, kwargs, dtype):
    compare(cls, kwargs, dtype, "cpu")


def compare_codes(cls: type[INNA] | type[INNAprop], dtype: torch.dtype, device: str, *, infinite: bool) -> None:
    """Gradients in multiples of 1/8, so that float32 holds the first sums exactly."""
    states = []
    for flags in ({"fused": True}, {"fused": False, "foreach": False}):
        generator = torch.Generator().manual_seed(0)
        params = [
            torch.zeros(shape, dtype=dtype, device=device).requires_grad_()
            for shape in ((64, 65), (3,), (4096,), (2, 2080))
        ]
        settings = {"sigma": 0.5, "weight_decay": 0.0} if cls is INNAprop else {}
        optimizer = cls(params, lr=0.125, alpha=0.5, beta=0.5, momentum_bits=8, **settings, **flags)
        for step in range(3):
            for param in params:
                param.grad = torch.randint(-20, 20, param.shape, generator=generator).to(device, dtype) / 8
            if step == 2 and infinite:
                params[0].grad[5, 6] = float("inf")
            optimizer.step()
        states.append([optimizer.state[param] for param in params])
    for ours, theirs in zip(*states, strict=True):
        for name in ("momentum", "exp_avg_sq"):
            if f"{name}_scale" in theirs:
                assert (ours[name] != theirs[name]).double().mean() < 0.01
                scales = [state[f"{name}_scale"] for state in (ours, theirs)]
                torch.testing.assert_close(*scales, rtol=1e-5, atol=0, equal_nan=True)


@in_the_interpreter
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_interpreted_codes_are_those_of_the_single_path(interpreted, cls, dtype):
    # NumPy warns of inf / inf.
    compare_codes(cls, dtype, "cpu", infinite=cls is INNA and dtype is not torch.bfloat16)


@in_the_interpreter
def test_interpreted_codes_are_measured_as_on_the_cpu(interpreted):
    from inna.torch.kernels import cpu

    if cpu.unavailable():
        pytest.skip(cpu.unavailable())
    torch.manual_seed(0)
    theta, grad = torch.randn(5000), torch.randn(5000)
    codes, scales = torch.randint(-127, 128, (5000,), dtype=torch.int8), torch.rand(20) / 2**13
    lists = TensorLists([theta], [grad], [codes], steps=[torch.ones(())], streams=[3], momentum_scales=[scales])
    settings = Settings(0.1, 0.5, 0.1, weight_decay=0.1)
    ours, theirs = (kind.Table(lists).measure([grad.data_ptr()], settings) for kind in (interpreted, cpu))
    torch.testing.assert_close(ours, torch.tensor(theirs[: len(ours)], dtype=torch.float64))


def group(prop: bool, size: int = 5) -> tuple[TensorLists, Any]:
    lists = TensorLists([torch.ones(size)], [torch.ones(size)], [torch.zeros(size)])
    if prop:
        lists.exp_avg_sqs.append(torch.zeros(size))
        lists.steps.append(torch.zeros(()))
    return lists, (0.9 if prop else None)


@in_the_interpreter
@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
def test_settings_on_the_device_are_read_there(interpreted, prop):
    on_device, sigma = group(prop)
    on_host, _ = group(prop)
    values = [torch.tensor(0.1), torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.2)]
    tables = [interpreted.Table(lists) for lists in (on_device, on_host)]
    for lr in (0.1, 0.0, 0.3):
        values[0].fill_(lr)
        tables[0].launch([on_device.grads[0].data_ptr()], Settings(*values, sigma=sigma, eps=1e-8))
        tables[1].launch([on_host.grads[0].data_ptr()], Settings(*(v.item() for v in values), sigma=sigma, eps=1e-8))
    for ours, theirs in zip(on_device._all(), on_host._all(), strict=True):
        torch.testing.assert_close(ours, theirs)
    if prop:
        assert on_device.steps[0].item() == 2.0


@in_the_interpreter
@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1), torch.tensor(0.0)], ids=["number", "tensor", "zero"])
@pytest.mark.parametrize("found_inf", [None, torch.zeros(1), torch.ones(1)], ids=["unscaled", "finite", "infinite"])
def test_settings_on_the_device_are_counted_without_the_host(interpreted, lr, found_inf):
    lists, _ = group(True)
    table = interpreted.Table(lists)
    before = lists.steps[0].item()
    with NoSynchronisation():
        counts = table._count_on_device(lr, found_inf)
    moved = bool(lr != 0) and (found_inf is None or found_inf.item() == 0)
    assert counts.tolist() == [before + moved] == [lists.steps[0].item()]


@in_the_interpreter
@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
def test_the_verdict_and_the_scale_of_grad_scaler(interpreted, prop):
    lists, sigma = group(prop)
    plain, _ = group(prop)
    table = interpreted.Table(lists)
    lists.grads[0].mul_(8)
    address = [lists.grads[0].data_ptr()]
    before = [[t.clone() for t in tensors] for tensors in lists._all()]
    scale = torch.tensor(8.0)
    table.launch(address, Settings(0.1, 0.5, 0.1, sigma=sigma, eps=1e-8), scale, torch.tensor(1.0))
    for now, then in zip(lists._all(), before, strict=True):
        torch.testing.assert_close(now, then, rtol=0, atol=0)
    table.launch(address, Settings(0.1, 0.5, 0.1, sigma=sigma, eps=1e-8), scale, torch.tensor(0.0))
    interpreted.Table(plain).launch([plain.grads[0].data_ptr()], Settings(0.1, 0.5, 0.1, sigma=sigma, eps=1e-8))
    for ours, theirs in zip(lists._all(), plain._all(), strict=True):
        torch.testing.assert_close(ours, theirs)
    lists.grads[0].mul_(8)
    table.launch(address, Settings(torch.tensor(0.0), 0.5, 0.1, sigma=sigma, eps=1e-8), scale, torch.tensor(0.0))
    for ours, theirs in zip(lists._all(), plain._all(), strict=True):
        torch.testing.assert_close(ours, theirs)


@in_the_interpreter
def test_addresses_are_sent_again_only_if_they_have_changed(interpreted):
    lists, _ = group(False)
    table = interpreted.Table(lists)
    settings = Settings(0.1, 0.5, 0.1)
    address = [lists.grads[0].data_ptr()]
    sent = []
    copy = Tensor.copy_
    table.launch(address, settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "copy_", lambda self, *args, **kw: sent.append(1) or copy(self, *args, **kw))
        table.launch(address, settings)
        assert not sent
        moved = torch.full((5,), 2.0)
        table.launch([moved.data_ptr()], settings)
        assert sent
    expected = torch.ones(5), torch.zeros(5)
    from inna.dynamics import step

    for grad in (1.0, 1.0, 2.0):
        expected = step(*expected, grad, 0.1, 0.5, 0.1)
    torch.testing.assert_close(lists.params[0], expected[0])


@in_the_interpreter
def test_what_a_capture_keeps_is_all_that_its_replays_read(interpreted, monkeypatch):
    lists, _ = group(False)
    even = lists.grads[0].data_ptr()
    odd = even + 4
    assert even % 16 == 0
    table = interpreted.Table(lists)
    launched: list[tuple[Any, ...]] = []
    monkeypatch.setattr(
        interpreted._Launch, "run", lambda self, sent, *args: launched.append((*self.tables, *sent, *args))
    )
    captured: list[Tensor] = []
    monkeypatch.setattr(interpreted, "_captured", captured)
    settings = Settings(0.1, 0.5, 0.1)
    table.launch([odd], settings)
    for address in (even, odd):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interpreted, "_capturing", lambda device: True)
            table.launch([address], settings)
        read = launched[-1]
        kept = {tensor.untyped_storage().data_ptr() for tensor in captured}
        assert {tensor.untyped_storage().data_ptr() for tensor in read if isinstance(tensor, Tensor)} <= kept
        # The eager step goes on with what it had sent, alignment included.
        table.launch([odd], settings)
        assert launched[-1][7] is False
        assert launched[-1][3].untyped_storage().data_ptr() not in kept
    # Each capture has memory of its own.
    assert launched[1][3].data_ptr() != launched[3][3].data_ptr()


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="nothing is compiled there")
@pytest.mark.parametrize(
    ("dtype", "kwargs"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {"weight_decay": 0.1, "sigma": 0.9, "initial_speed": 1.0, "maximize": True}),
    ],
    ids=["plain", "everything"],
)
def test_the_kernels_compile_for_a_gpu_that_is_not_here(dtype, kwargs, tmp_path, monkeypatch):
    from inna.torch.kernels import cuda, cuda_rule

    theta, grad = (torch.ones(5, dtype=dtype) for _ in range(2))
    lists = TensorLists([theta], [grad], [torch.zeros(5)])
    amp: list[Tensor] = []
    if kwargs:
        lists.exp_avg_sqs, lists.compensations, lists.steps = (
            [torch.zeros(5)],
            [torch.zeros_like(theta)],
            [torch.ones(())],
        )
        amp = [torch.ones(()), torch.zeros(())]
    with compile_only([(cuda_rule, "step")], tmp_path, monkeypatch) as compiled:
        cuda.Table(lists).launch([grad.data_ptr()], Settings(0.1, 0.5, 0.1, **kwargs), *amp)
    assert [len(kernel.asm["cubin"]) > 0 for kernel in compiled] == [True]


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="nothing is compiled there")
@pytest.mark.parametrize("prop", [False, True], ids=["INNA", "INNAprop"])
@pytest.mark.parametrize("codes", [False, True], ids=["bfloat16", "codes"])
def test_stochastic_rounding_compiles_for_a_gpu_that_is_not_here(codes, prop, tmp_path, monkeypatch):
    from inna.torch.kernels import cuda, cuda_rule

    theta, grad = torch.ones(5000), torch.ones(5000)
    states = [torch.zeros(5000, dtype=dtype if codes else torch.bfloat16) for dtype in (torch.int8, torch.uint8)]
    lists = TensorLists([theta], [grad], states[:1], states[1:] if prop else [], steps=[torch.ones(())], streams=[3])
    if codes:
        lists.momentum_scales, lists.exp_avg_sq_scales = [torch.zeros(20)], [torch.zeros(20)]
    settings = Settings(0.1, 0.5, 0.1, sigma=0.9 if prop else None)
    with compile_only([(cuda_rule, "step"), (cuda_rule, "measure")], tmp_path, monkeypatch) as compiled:
        table = cuda.Table(lists)
        table.launch([grad.data_ptr()], settings)
        table.measure([grad.data_ptr()], settings)
    assert [len(kernel.asm["cubin"]) > 0 for kernel in compiled] == [True, True]


@needs_triton
@pytest.mark.skipif(INTERPRETING or torch.cuda.is_available(), reason="Triton does run")
def test_where_triton_does_not_run_the_other_paths_are_taken(monkeypatch):
    from inna.torch.kernels import cuda

    why = cuda.unavailable(torch.device("cpu"))
    assert why.startswith("Triton does not run on cpu: ")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda, "unavailable", lambda device: f"Triton does not run on {device}: no C compiler")
    assert support.unavailable("cuda") == "Triton does not run on cuda:0: no C compiler"
    assert f"CUDA kernels: none ({support.unavailable('cuda')})" in support.describe()


@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_codes_on_a_gpu_are_those_of_the_single_path(cls, dtype):
    compare_codes(cls, dtype, "cuda", infinite=True)


@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("cls", "kwargs"), SETTINGS)
def test_the_kernels_on_a_gpu_make_the_step_of_the_single_path(cls, kwargs, dtype):
    compare(cls, kwargs, dtype, "cuda")


@needs_gpu
@pytest.mark.parametrize("cls", [INNA, INNAprop])
def test_a_captured_graph_follows_the_learning_rate_on_the_device(cls):
    sides = []
    for captured in (False, True):
        torch.manual_seed(0)
        lr = torch.tensor(0.1, device="cuda")
        params = [torch.randn(n, device="cuda", requires_grad=True) for n in (5, 3000)]
        for param in params:
            param.grad = torch.randn_like(param)
        optimizer = cls(params, lr=lr, capturable=True, fused=True, initial_speed=1.0)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            optimizer.step()
        torch.cuda.current_stream().wait_stream(stream)
        step: Any = optimizer.step
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                optimizer.step()
            step = graph.replay
        for value in (0.1, 0.0, 0.3):
            lr.fill_(value)
            for param in params:
                param.grad.mul_(-0.9)
            step()
        sides.append(params)
    for ours, theirs in zip(*sides, strict=True):
        torch.testing.assert_close(ours, theirs)


@needs_gpu
def test_grad_scaler_steps_and_skips_on_a_gpu():
    param = torch.ones(300, device="cuda", requires_grad=True)
    optimizer = INNA([param], lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    assert optimizer._step_supports_amp_scaling
    for factor in (1.0, torch.inf):
        before = param.detach().clone()
        param.grad = None
        scaler.scale((param**2).sum() * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert torch.equal(param, before) == (factor == torch.inf)


@needs_gpu
def test_a_fused_step_on_a_gpu_allocates_nothing_of_the_groups_size():
    params = [torch.ones(1 << 20, device="cuda", requires_grad=True) for _ in range(8)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = INNA(params, fused=True)
    optimizer.step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    optimizer.step()
    assert torch.cuda.max_memory_allocated() - before < 1 << 16


@needs_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one CUDA device only")
def test_a_group_on_several_devices():
    params = [torch.ones(10, device=f"cuda:{i}", requires_grad=True) for i in range(2)]
    for param in params:
        param.grad = torch.ones_like(param)
    INNA(params, fused=True).step()
    assert torch.equal(params[0].cpu(), params[1].cpu())
