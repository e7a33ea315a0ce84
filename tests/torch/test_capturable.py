"""capturable: no synchronisation with the host, and CUDA graphs that replay to the eager trajectory."""

from __future__ import annotations

import copy
import functools
import sys

import pytest
import torch

from inna.torch import INNA, INNAprop
from no_synchronisation import NoCopies, NoSynchronisation

SETTINGS = [
    pytest.param(INNA, {}, id="INNA"),
    pytest.param(INNA, {"initial_speed": 1.0, "weight_decay": 0.1, "maximize": True}, id="INNA-speed-decay-maximize"),
    pytest.param(INNA, {"decoupled_weight_decay": True, "weight_decay": 0.1, "kahan": True}, id="INNA-decoupled-kahan"),
    pytest.param(INNA, {"time_step": 0.3, "initial_speed": 1.0}, id="INNA-time-step-speed"),
    pytest.param(INNAprop, {}, id="INNAprop"),
    pytest.param(INNAprop, {"initial_speed": 1.0, "kahan": True}, id="INNAprop-speed-kahan"),
]
PATHS = [pytest.param({"foreach": False}, id="single"), pytest.param({"foreach": True}, id="foreach")]
NUMBERS = {"lr": 0.05, "alpha": 0.7, "beta": 0.3}


def tensors(dtype=torch.float64, device="cpu"):
    return {name: torch.tensor(value, dtype=dtype, device=device) for name, value in NUMBERS.items()}


def parameters(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype, requires_grad=True) for shape in ((3, 4), (5,), ())]


def give_gradients(params, k):
    generator = torch.Generator().manual_seed(k + 1)
    for param in params:
        param.grad = torch.randn(param.shape, generator=generator, dtype=param.dtype)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.complex128])
def test_the_step_reads_nothing_on_the_host(kind, settings, path, dtype):
    params = parameters(dtype)
    optimizer = kind(params, **tensors(), **settings, **path, capturable=True)
    for k in range(3):
        give_gradients(params, k)
        with NoSynchronisation():
            optimizer.step()


def test_the_mode_catches_a_step_that_reads():
    params = parameters()
    give_gradients(params, 0)
    with pytest.raises(AssertionError, match="reads a value on the host"), NoSynchronisation():
        INNA(params, **tensors()).step()


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
@pytest.mark.parametrize("as_tensors", [True, False])
def test_the_arithmetic_on_the_device_is_that_of_the_host(kind, settings, path, as_tensors):
    ours, theirs = parameters(), parameters()
    captured = kind(ours, **tensors() if as_tensors else NUMBERS, **settings, **path, capturable=True)
    eager = kind(theirs, **NUMBERS, **settings, **path)
    for k in range(6):
        for params, optimizer in ((ours, captured), (theirs, eager)):
            give_gradients(params, k)
            lr = optimizer.param_groups[0]["lr"]
            if isinstance(lr, torch.Tensor):
                lr.fill_(0.05 / (k + 1))
            else:
                optimizer.param_groups[0]["lr"] = 0.05 / (k + 1)
            optimizer.step()
        for param, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(param, other, rtol=1e-13, atol=1e-13)
            state, other_state = captured.state[param], eager.state[other]
            assert state.keys() == other_state.keys()
            for name, value in other_state.items():
                torch.testing.assert_close(state[name], value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_a_captured_step_with_lr_zero_changes_nothing_at_all(kind, settings, path):
    # Frameworks take such a step to make the state; the first real step must still be the first.
    ours, theirs = parameters(), parameters()
    optimizer, straight = (kind(params, **tensors(), **settings, **path, capturable=True) for params in (ours, theirs))
    before = copy.deepcopy(ours)
    lr = optimizer.param_groups[0]["lr"].clone()
    optimizer.param_groups[0]["lr"].zero_()
    give_gradients(ours, 0)
    optimizer.step()
    assert all(torch.equal(param, old) for param, old in zip(ours, before, strict=True))
    assert not any(value.any() for values in optimizer.state.values() for value in values.values())
    optimizer.param_groups[0]["lr"].copy_(lr)
    for k in range(3):
        for params, each in ((ours, optimizer), (theirs, straight)):
            give_gradients(params, k)
            each.step()
    assert all(torch.equal(param, other) for param, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        functools.partial(INNA, weight_decay=0.1, initial_speed=1.0),
        functools.partial(INNAprop, initial_speed=1.0),
        functools.partial(INNA, loss_bound=0.0, weight_decay=0.1, initial_speed=1.0),
        functools.partial(INNA, loss_bound=0.0, time_step=0.2, weight_decay=0.1, decoupled_weight_decay=True),
        INNA.lr_free,
        functools.partial(INNAprop.lr_free, weight_decay=0.1),
        functools.partial(INNAprop.lr_free, slice_every=2),
    ],
)
@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_captured_step_copies_nothing_from_the_host(make, foreach, as_tensor, scaled, monkeypatch):
    """The meta device stands in for another one. Values that it has not must not be read either."""
    monkeypatch.setattr(sys.modules["inna.torch.inna"], "read_loss", lambda loss, differentiable: loss)
    params = [torch.nn.Parameter(torch.ones(3, device="meta")) for _ in range(2)]
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer = make(params, foreach=foreach, capturable=True)
    guard = {"loss": torch.ones((), device="meta")} if isinstance(optimizer, INNA) else {}
    lr = optimizer.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step(**guard)  # makes the state
    for param in params:
        if hasattr(optimizer, "_begun"):
            optimizer._begun[param] = True
    optimizer.param_groups[0]["lr"] = torch.ones((), device="meta") if as_tensor else lr
    if scaled:
        optimizer.grad_scale, optimizer.found_inf = (torch.ones((), device="meta") for _ in range(2))
    with NoSynchronisation(), NoCopies():
        optimizer.step(**guard)


def test_states_from_before_capturable_was_set_continue():
    params = parameters()
    optimizer = INNA(params, **tensors(), initial_speed=1.0, foreach=True)
    give_gradients(params, 0)
    optimizer.step()
    optimizer.param_groups[0]["capturable"] = True
    give_gradients(params, 1)
    with NoSynchronisation():
        optimizer.step()
    assert all(values["step"].item() == 2 for values in optimizer.state.values())


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_counts_from_before_capturable_was_set_move_to_the_device(kind):
    # Counted on the host they would stand still while a graph is replayed. The meta device stands in for another one.
    param = torch.nn.Parameter(torch.ones(3, device="meta"))
    param.grad = torch.ones_like(param)
    optimizer = kind([param], initial_speed=1.0)
    optimizer.step()
    assert optimizer.state[param]["step"].device.type == "cpu"
    optimizer.param_groups[0]["capturable"] = True
    optimizer.step()
    assert optimizer.state[param]["step"].device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("kind", "settings"), SETTINGS)
def test_a_captured_training_step_replays_to_the_eager_trajectory(kind, settings, path):
    """Forward, backward and step in one CUDA graph; lr changes between the replays."""
    device = "cuda"

    def network():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double().to(device)

    def loss(model, batch):
        return model(batch).square().mean()

    generator = torch.Generator().manual_seed(0)
    batches = torch.randn(8, 16, 6, generator=generator, dtype=torch.float64).to(device)
    steps = [0.05, 0.05, 0.05, 0.02, 0.0, 0.1, 0.03, 0.01]  # three warm-up steps, then replays

    eager_model = network()
    eager = kind(eager_model.parameters(), **NUMBERS, **settings, **path)
    trajectory = []
    for batch, lr in zip(batches, steps, strict=True):
        eager.param_groups[0]["lr"] = lr
        eager.zero_grad()
        loss(eager_model, batch).backward()
        eager.step()
        trajectory.append([param.detach().clone() for param in eager_model.parameters()])

    model = network()
    optimizer = kind(model.parameters(), **tensors(device=device), **settings, **path, capturable=True)
    lr_tensor = optimizer.param_groups[0]["lr"]
    static_batch = batches[0].clone()

    def training_step():
        optimizer.zero_grad(set_to_none=False)
        loss(model, static_batch).backward()
        optimizer.step()

    # Warm-up on a side stream, as torch.cuda.graph asks for; these are steps of the trajectory, too.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for k in range(3):
            static_batch.copy_(batches[k])
            lr_tensor.fill_(steps[k])
            training_step()
    torch.cuda.current_stream().wait_stream(stream)

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        training_step()
    for k in range(3, 8):
        static_batch.copy_(batches[k])
        lr_tensor.fill_(steps[k])
        graph.replay()
        for param, expected in zip(model.parameters(), trajectory[k], strict=True):
            torch.testing.assert_close(param.detach(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_capture_without_the_flag_is_refused(kind):
    param = torch.ones(3, device="cuda", requires_grad=True)
    param.grad = torch.ones_like(param)
    optimizer = kind([param])
    optimizer.step()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        torch.zeros(3, device="cuda")  # torch warns of an empty graph
        with pytest.raises(RuntimeError, match="capturable=True"):
            optimizer.step()
