"""torch.compile: one graph for all learning rates, eager numbers, whole training steps without a graph break."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from inna.schedules import power_decay
from inna.torch import INNA, INNAprop

# PyTorch's own compiler imports modules that PyTorch itself has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="inductor generates C++ on the CPU, and there is no C++ compiler",
)
BACKENDS = [
    pytest.param("aot_eager"),
    pytest.param("inductor", marks=[needs_a_compiler, pytest.mark.slow]),
]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def network(dtype=torch.float64):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 3)).to(dtype)


def loss(model):
    weight = model[0].weight
    points = torch.linspace(-1, 1, 20, dtype=weight.dtype).reshape(4, 5)
    return model(points).square().sum()


def fresh(settings):
    return {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in settings.items()}


def train(kind, settings, backend, steps=8, dtype=torch.float64):
    """The parameters and state after ``steps`` steps under a scheduler, and the number of graphs after each step."""
    model = network(dtype)
    optimizer = kind(model.parameters(), **fresh(settings))
    counter = CompileCounterWithBackend(backend) if backend else None
    step = torch.compile(optimizer.step, backend=counter) if backend else optimizer.step
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.5))
    graphs = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model).backward()
        step()
        # torch sees that the step was called only where it is not compiled
        optimizer._opt_called = True
        scheduler.step()
        graphs.append(counter.frame_count if counter else 0)
    return list(model.parameters()), optimizer.state_dict()["state"], graphs


def assert_alike(ours, theirs, tolerance):
    torch.testing.assert_close(ours[0], theirs[0], rtol=tolerance, atol=tolerance)
    for index, values in theirs[1].items():
        torch.testing.assert_close(ours[1][index], values, rtol=tolerance, atol=tolerance)


SETTINGS = [
    pytest.param(INNA, {}, id="INNA"),
    pytest.param(INNA, {"initial_speed": 1.0, "weight_decay": 0.1, "foreach": False}, id="INNA-speed-decay-single"),
    pytest.param(INNA, {"kahan": True, "foreach": True}, id="INNA-kahan-foreach"),
    pytest.param(INNAprop, {"foreach": True}, id="INNAprop-foreach"),
    pytest.param(INNAprop, {"foreach": False, "maximize": True}, id="INNAprop-single-maximize"),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("as_tensor", [True, False], ids=["tensor", "number"])
@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_no_recompile_while_a_scheduler_runs_and_the_numbers_of_eager(kind, settings, as_tensor, backend):
    if as_tensor:
        settings = settings | {"lr": torch.tensor(0.01, dtype=torch.float64)}
    eager = train(kind, settings, None)
    compiled = train(kind, settings, backend)
    assert_alike(compiled, eager, 1e-12)
    graphs = compiled[2]
    # A number becomes an input of the graph when it is seen to change, once; a tensor is one from the start.
    assert len(set(graphs[0 if as_tensor else 1 :])) == 1, graphs


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_tensors_for_lr_alpha_and_beta_may_change_without_a_recompile(kind):
    def run(backend):
        model = network()
        numbers = {name: torch.tensor(0.3, dtype=torch.float64) for name in ("lr", "alpha", "beta")}
        numbers["lr"] = torch.tensor([0.02], dtype=torch.float64)
        optimizer = kind(model.parameters(), **numbers)
        counter = CompileCounterWithBackend(backend) if backend else None
        step = torch.compile(optimizer.step, backend=counter) if backend else optimizer.step
        graphs = []
        for _ in range(5):
            optimizer.zero_grad()
            loss(model).backward()
            step()
            for number in numbers.values():
                number.mul_(0.8)
            graphs.append(counter.frame_count if counter else 0)
        return list(model.parameters()), optimizer.state_dict()["state"], graphs

    compiled = run("aot_eager")
    assert_alike(compiled, run(None), 1e-12)
    assert len(set(compiled[2])) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_compiled_low_precision_follows_eager(kind, dtype):
    settings = {"lr": torch.tensor(0.01)}
    tolerance = 8 * torch.finfo(dtype).eps
    assert_alike(train(kind, settings, "aot_eager", dtype=dtype), train(kind, settings, None, dtype=dtype), tolerance)


@needs_a_compiler
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float16, marks=pytest.mark.slow)])
def test_generated_code_keeps_the_rounding_error_of_kahan_summation(dtype):
    # inductor computes in float32 and rounds when it stores; the error of the rounding would be 0 and theta stay at 1.
    theta = torch.ones(64, dtype=dtype, requires_grad=True)
    # alpha beta = 1 is gradient descent; the fused path is an operator to the compiler, this one is not.
    optimizer = INNA([theta], torch.tensor(1e-3), alpha=1.0, beta=1.0, foreach=True)
    step = torch.compile(optimizer.step)
    for _ in range(100):
        theta.grad = torch.ones_like(theta)
        step()
    moved = theta.detach().double() + optimizer.state[theta]["compensation"].double()
    # What is left is the rounding of each step to the dtype, 1e-3 eps/2, a hundred times.
    torch.testing.assert_close(moved, torch.full_like(moved, 0.9), rtol=0, atol=0.1 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_a_compiled_step_with_lr_zero_changes_nothing_at_all(kind):
    model = network()
    optimizer = kind(model.parameters(), lr=torch.tensor(0.0), initial_speed=1.0)
    before = copy.deepcopy(model.state_dict())
    step = torch.compile(optimizer.step, backend="aot_eager")
    for _ in range(2):
        optimizer.zero_grad()
        loss(model).backward()
        step()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    for values in optimizer.state.values():
        assert all(not value.any() for value in values.values())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_the_step_is_one_graph(kind, backend):
    """fullgraph=True refuses any break inside the step.

    torch's decorator of `step` breaks on purpose before and after it, and the profiling hook around that is no part of
    the step; both are unwrapped here, as torch's own tests of its compiled optimizers do.
    """
    torch._dynamo.eval_frame.TorchPatcher.patch()
    models, optimizers = [], []
    for _ in range(2):
        models.append(network())
        optimizers.append(kind(models[-1].parameters(), lr=torch.tensor(0.02, dtype=torch.float64)))
    inner = optimizers[0].step.__wrapped__.__wrapped__
    step = torch.compile(lambda: inner(optimizers[0]), backend=backend, fullgraph=True)
    for _ in range(3):
        for model, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            loss(model).backward()
        with torch.no_grad():
            step()
        optimizers[1].step()
    torch.testing.assert_close(list(models[0].parameters()), list(models[1].parameters()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_a_whole_training_step_under_compile(kind, backend):
    """Forward, backward and step in one compiled function; torch breaks the graph around backward and step itself."""

    def run(backend):
        model = network()
        optimizer = kind(model.parameters(), lr=torch.tensor(0.02, dtype=torch.float64))
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)

        def training_step():
            optimizer.zero_grad()
            value = loss(model)
            detached = value.detach()
            value.backward()
            optimizer.step()
            return detached

        counter = CompileCounterWithBackend(backend) if backend else None
        step = torch.compile(training_step, backend=counter) if backend else training_step
        losses, graphs = [], []
        for _ in range(6):
            losses.append(step())
            optimizer._opt_called = True
            scheduler.step()
            graphs.append(counter.frame_count if counter else 0)
        return [torch.stack(losses), *model.parameters()], optimizer.state_dict()["state"], graphs

    compiled = run(backend)
    assert_alike(compiled, run(None), 1e-12)
    # The first step has no .grad to begin with and the second has; from then on nothing is recompiled.
    assert len(set(compiled[2][1:])) == 1, compiled[2]


@pytest.mark.parametrize("cls", [INNA, INNAprop])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex")
def test_complex_parameters_compile_as_foreach(cls, backend):
    iterates = []
    for compiled in (False, True):
        torch._dynamo.reset()
        torch.manual_seed(0)
        param = torch.nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))
        optimizer = cls([param], **({} if compiled else {"foreach": True}))
        step = torch.compile(optimizer.step, backend=backend) if compiled else optimizer.step
        for k in range(3):
            param.grad = torch.ones_like(param) * (k + 1)
            step()
        iterates.append(param.detach())
    torch.testing.assert_close(*iterates)
