"""INNA for PyTorch: the recorded iterates, torch's own SGD, every setting against the rule, bad arguments, memory."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inna import dynamics
from inna.schedules import power_decay
from inna.torch import INNA
from recorded import INNA_CASES, gradient, step_size, theta0

PATHS = [pytest.param({"foreach": False}, id="single"), pytest.param({"foreach": True}, id="foreach")]


def quadratic(theta):
    """A smooth loss whose gradient is that of the recorded problem."""
    weight = torch.arange(1, 7, dtype=theta.dtype)
    return (weight * theta**2 / 2 - torch.cos(3 * theta) / 3 - theta / 2).sum()


def parameter(dtype=torch.float64):
    return torch.tensor(theta0(), dtype=dtype, requires_grad=True)


def run(optimizer, theta, steps):
    iterates = []
    for _ in range(steps):
        optimizer.zero_grad()
        quadratic(theta).backward()
        optimizer.step()
        iterates.append(theta.detach().clone())
    return torch.stack(iterates)


def assert_close(ours, theirs, tolerance=1e-12):
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("case", INNA_CASES, ids=str)
@pytest.mark.parametrize("path", PATHS)
def test_the_recorded_iterates(case, path):
    theta = parameter()
    # The authors subtract lr * weight_decay * theta; that is (weight_decay/beta) theta in the gradient.
    optimizer = INNA([theta], case.gamma0, case.alpha, case.beta, case.weight_decay / case.beta, **path)
    for k in range(max(case.iterates)):
        optimizer.param_groups[0]["lr"] = step_size(case, k)
        theta.grad = torch.tensor(gradient(theta.detach().numpy()))
        optimizer.step()
        if k + 1 in case.iterates:
            recorded_theta, recorded_psi = case.iterates[k + 1]
            momentum = optimizer.state[theta]["momentum"]
            psi = dynamics.phase_from_momentum(theta.detach(), momentum, case.alpha, case.beta)
            assert_close(theta.detach(), recorded_theta)
            assert_close(psi, recorded_psi)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.95, False), (0.9, True), (0.5, True)]
)
@pytest.mark.parametrize("path", PATHS)
def test_from_sgd_is_torch_sgd(momentum, nesterov, maximize, weight_decay, path):
    def loss_runs(make):
        theta = parameter()
        optimizer = make(theta)
        iterates = []
        for _ in range(300):
            optimizer.zero_grad()
            (-quadratic(theta) if maximize else quadratic(theta)).backward()
            optimizer.step()
            iterates.append(theta.detach().clone())
        return torch.stack(iterates)

    shared = {
        "lr": 0.01,
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "maximize": maximize,
    }
    sgd = loss_runs(lambda theta: torch.optim.SGD([theta], **shared))
    ours = loss_runs(lambda theta: INNA.from_sgd([theta], **shared, **path))
    assert sgd.isfinite().all()
    assert_close(ours, sgd)


@given(data=st.data())
def test_from_sgd_has_sgds_iterates_in_every_group(data):
    momenta = st.sampled_from([0.0, 0.5, 0.9])
    top = {"lr": data.draw(st.floats(1e-3, 0.1)), "momentum": data.draw(momenta), "nesterov": False}
    top["nesterov"] = data.draw(st.booleans()) and top["momentum"] > 0
    sides = {}
    groups = []
    for _ in range(data.draw(st.integers(1, 3), label="groups")):
        group = data.draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "lr": st.floats(1e-3, 0.1),
                    "momentum": momenta,
                    "nesterov": st.booleans(),
                    "dampening": st.just(0),
                    "weight_decay": st.sampled_from([0.0, 0.1]),
                    "maximize": st.booleans(),
                },
            )
        )
        if {**top, **group}["nesterov"] and {**top, **group}["momentum"] == 0:
            group["nesterov"] = False
        groups.append(group)
    for make in (torch.optim.SGD, INNA.from_sgd):
        params = [torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64)) for _ in groups]
        entries = [{"params": [param], **group} for param, group in zip(params, groups, strict=True)]
        optimizer = make(iter(entries), **top)
        for k in range(8):
            for param in params:
                param.grad = torch.cos(param.detach() + k)
            optimizer.step()
        sides[make] = params
        assert entries[0]["params"] == [params[0]]
    for ours, theirs in zip(sides[INNA.from_sgd], sides[torch.optim.SGD], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("key", ["dampening", "alpha", "beta"])
def test_from_sgd_refuses_keys_without_a_counterpart_by_name(key):
    with pytest.raises(ValueError, match=f"a parameter group sets {key}"):
        INNA.from_sgd([{"params": [parameter()], key: 0.5}], lr=0.1)


def test_a_schedule_on_lr_leaves_the_heavy_ball():
    # The docstring of from_sgd says so: with decaying steps the two must differ by far more than rounding.
    def decayed(optimizer, theta):
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, power_decay(0.5))
        for _ in range(30):
            optimizer.zero_grad()
            quadratic(theta).backward()
            optimizer.step()
            scheduler.step()
        return theta.detach()

    a, b = parameter(), parameter()
    ours, sgd = decayed(INNA.from_sgd([a], 0.01, 0.9), a), decayed(torch.optim.SGD([b], 0.01, 0.9), b)
    assert (ours - sgd).abs().max() > 1e-3


@given(
    lr=st.floats(1e-4, 0.3),
    alpha=st.floats(0, 3),
    beta=st.floats(0, 2),
    weight_decay=st.sampled_from([0.0, 0.03]),
    decoupled=st.booleans(),
    initial_speed=st.sampled_from([None, 0.0, 1.0]),
    maximize=st.booleans(),
    shapes=st.lists(st.sampled_from([(), (0,), (1,), (5,), (3, 4), (2, 3, 2)]), min_size=1, max_size=4),
    is_complex=st.booleans(),
    tensors=st.booleans(),
    foreach=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_every_setting_is_the_rule(
    lr, alpha, beta, weight_decay, decoupled, initial_speed, maximize, shapes, is_complex, tensors, foreach, seed
):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if is_complex else torch.float64
    thetas = [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]
    params = [theta.clone().requires_grad_() for theta in thetas]
    scalar = (lambda x: torch.tensor([x], dtype=torch.float64)) if tensors else float
    optimizer = INNA(
        params,
        scalar(lr),
        scalar(alpha),
        scalar(beta),
        weight_decay,
        initial_speed=initial_speed,
        decoupled_weight_decay=decoupled,
        maximize=maximize,
        foreach=foreach,
        capturable=tensors,
    )
    momentums = [torch.zeros_like(theta) for theta in thetas]
    for k in range(4):
        for i, param in enumerate(params):
            param.grad = torch.randn(param.shape, generator=generator, dtype=dtype)
            g = -param.grad if maximize else param.grad
            if not decoupled:
                g = g + weight_decay * thetas[i]
            if k == 0:
                momentums[i] = dynamics.initial_momentum(g, beta, initial_speed)
            shrunk = (1 - lr * weight_decay) * thetas[i] if decoupled else thetas[i]
            thetas[i], momentums[i] = dynamics.step(shrunk, momentums[i], g, lr, alpha, beta)
        before = [param.grad.clone() for param in params]
        optimizer.step()
        for param, grad, theta, momentum in zip(params, before, thetas, momentums, strict=True):
            assert torch.equal(param.grad, grad)
            torch.testing.assert_close(param.detach(), theta, rtol=1e-13, atol=1e-13)
            torch.testing.assert_close(optimizer.state[param]["momentum"], momentum, rtol=1e-13, atol=1e-13)


def test_decoupled_decay_rests_where_the_penalty_alpha_lambda_does():
    # docstring: its fixed point is that of an L2 penalty alpha * lambda
    alpha, decay = 0.7, 0.4
    theta = parameter()
    optimizer = INNA([theta], 0.05, alpha, 0.3, decay, decoupled_weight_decay=True)
    run(optimizer, theta, 3000)
    penalised = gradient(theta.detach().numpy()) + alpha * decay * theta.detach().numpy()
    np.testing.assert_allclose(penalised, 0, atol=1e-12)


def test_groups_have_settings_of_their_own():
    a, b = parameter(), parameter()
    together = INNA([{"params": [a], "alpha": 2.0, "lr": 0.02}, {"params": [b], "beta": 0.7}], lr=0.05)
    for _ in range(20):
        together.zero_grad()
        (quadratic(a) + quadratic(b)).backward()
        together.step()
    alone_a, alone_b = parameter(), parameter()
    assert torch.equal(a.detach(), run(INNA([alone_a], 0.02, 2.0), alone_a, 20)[-1])
    assert torch.equal(b.detach(), run(INNA([alone_b], 0.05, beta=0.7), alone_b, 20)[-1])


@pytest.mark.parametrize("path", PATHS)
def test_parameters_come_freeze_and_go_without_gradients(path):
    a, b, late = parameter(), parameter(), parameter()
    optimizer = INNA([a, b], 0.05, initial_speed=1.0, **path)
    reference = parameter()
    alone = INNA([reference], 0.05, initial_speed=1.0, **path)

    def take(params):
        for param in (a, b, late):
            param.grad = None
        sum(quadratic(param) for param in params).backward()
        optimizer.step()

    take([a])
    assert b not in optimizer.state
    a.requires_grad_(False)
    frozen = a.detach().clone()
    take([b])
    assert torch.equal(a.detach(), frozen)
    a.requires_grad_(True)
    take([a, b])
    optimizer.add_param_group({"params": [late]})
    take([a, b, late])
    # Each parameter has taken as many steps as it had gradients, its first one with the initial velocity.
    expected = run(alone, reference, 3)
    assert torch.equal(a.detach(), expected[2])
    assert torch.equal(b.detach(), expected[2])
    assert torch.equal(late.detach(), expected[0])


def test_lr_zero_changes_nothing_at_all():
    for lr in (0.0, torch.tensor(0.0)):
        for capturable in (False, True):
            theta = parameter()
            optimizer = INNA([theta], lr, initial_speed=1.0, capturable=capturable, weight_decay=0.1)
            run(optimizer, theta, 2)
            assert torch.equal(theta.detach(), parameter().detach())
            assert optimizer.state[theta]["step"].item() == 0
            assert not optimizer.state[theta]["momentum"].any()
            optimizer.param_groups[0]["lr"] = 0.05
            fresh = parameter()
            first = run(INNA([fresh], 0.05, initial_speed=1.0, weight_decay=0.1), fresh, 1)
            assert_close(run(optimizer, theta, 1), first)


SCHEDULERS = {
    "lambda": lambda o: torch.optim.lr_scheduler.LambdaLR(o, power_decay(0.5)),
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 3),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 10),
    "one cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=30, cycle_momentum=False),
    "cyclic": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 4, cycle_momentum=False),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o),
    "sequential": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [torch.optim.lr_scheduler.LinearLR(o, total_iters=4), torch.optim.lr_scheduler.ExponentialLR(o, 0.9)],
        milestones=[4],
    ),
}


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_schedulers_set_the_step_size_of_the_rule(name, as_tensor):
    theta = parameter()
    optimizer = INNA([theta], torch.tensor(0.1, dtype=torch.float64) if as_tensor else 0.1)
    scheduler = SCHEDULERS[name](optimizer)
    expected, momentum = theta.detach().clone(), torch.zeros(6, dtype=torch.float64)
    visited = set()
    for _ in range(12):
        lr = float(optimizer.param_groups[0]["lr"])
        visited.add(lr)
        grad = torch.tensor(gradient(expected.numpy()))
        expected, momentum = dynamics.step(expected, momentum, grad, lr, 0.5, 0.1)
        run(optimizer, theta, 1)
        assert_close(theta.detach(), expected)
        scheduler.step(1.0) if name == "plateau" else scheduler.step()
    assert len(visited) > 3


def test_the_closure_runs_once_with_gradients_and_its_loss_comes_back():
    theta, reference = parameter(), parameter()
    optimizer = INNA([theta], 0.05)
    calls = []

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = quadratic(theta)
        loss.backward()
        calls.append(loss.item())
        return loss

    with torch.no_grad():
        losses = [optimizer.step(closure).item() for _ in range(5)]
    assert losses == calls
    assert torch.equal(theta.detach(), run(INNA([reference], 0.05), reference, 5)[-1])
    assert optimizer.step() is None


def test_beta_zero_and_settings_that_change_while_training():
    theta = parameter()
    optimizer = INNA([theta], 0.05, beta=0.0)
    expected, momentum = theta.detach().clone(), torch.zeros(6, dtype=torch.float64)
    for k, (alpha, beta) in enumerate([(0.5, 0.0), (0.5, 0.3), (0.0, 0.3), (2.0, 1.0), (1.0, 0.0)]):
        optimizer.param_groups[0].update(alpha=alpha, beta=beta, lr=0.05 / (k + 1))
        grad = torch.tensor(gradient(expected.numpy()))
        expected, momentum = dynamics.step(expected, momentum, grad, 0.05 / (k + 1), alpha, beta)
        run(optimizer, theta, 1)
    assert_close(theta.detach(), expected)


def test_numbers_do_not_depend_on_the_thread_count():
    generator = torch.Generator().manual_seed(0)
    start, grads = torch.randn(300_000, generator=generator), torch.randn(5, 300_000, generator=generator)
    ends = []
    threads = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            theta = start.clone().requires_grad_()
            optimizer = INNA([theta])
            for grad in grads:
                theta.grad = grad
                optimizer.step()
            ends.append(theta.detach())
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*ends)


class Memory(torch.utils._python_dispatch.TorchDispatchMode):
    """The most bytes held at one time by tensors that were made under it."""

    def __init__(self):
        super().__init__()
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        import weakref

        result = function(*args, **(kwargs or {}))
        known = {
            t.untyped_storage().data_ptr() for t in torch.utils._pytree.tree_leaves(args) if isinstance(t, torch.Tensor)
        }
        for tensor in torch.utils._pytree.tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in known:
                self.alive[id(tensor)] = tensor.untyped_storage().nbytes()
                weakref.finalize(tensor, self.alive.pop, id(tensor), None)
        self.peak = max(self.peak, sum(self.alive.values()))
        return result


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("settings", "temporaries"),
    [
        ({}, 0),
        ({"maximize": True}, 0),
        ({"initial_speed": 1.0}, 0),
        ({"weight_decay": 0.1, "decoupled_weight_decay": True}, 0),
        ({"weight_decay": 0.1, "maximize": True}, 1),
        ({"kahan": True, "weight_decay": 0.1}, 1),
        ({"capturable": True, "lr": torch.tensor(0.1), "weight_decay": 0.1}, 1),
    ],
)
def test_at_most_one_temporary_of_the_size_of_the_group(path, settings, temporaries):
    size, count = 10_000, 4
    params = [torch.ones(size, requires_grad=True) for _ in range(count)]
    for param in params:
        param.grad = torch.ones(size)
    optimizer = INNA(params, **{"lr": 0.1, **settings}, **path)
    optimizer.step()
    with Memory() as memory:
        optimizer.step()
    group, slack = 4 * size * count, 200
    assert memory.peak <= temporaries * group + slack
    assert memory.peak >= temporaries * 4 * size  # the meter does see temporaries


BAD = {
    "lr": [-0.1, math.nan, math.inf, torch.tensor([0.1, 0.2]), "fast", None],
    "alpha": [-1.0, math.nan, torch.tensor([0.1, 0.2])],
    "beta": [-1.0, math.nan, torch.tensor([0.1, 0.2])],
    "weight_decay": [-1.0, math.nan],
    "initial_speed": [math.nan, "1"],
    "momentum_dtype": [torch.int32, torch.complex64, "float32"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_bad_arguments_are_named_with_their_value_and_range(name, value):
    for make in (
        lambda: INNA([parameter()], **{name: value}),
        lambda: INNA([{"params": [parameter()], name: value}]),
        lambda: INNA([parameter()]).add_param_group({"params": [parameter()], name: value}),
    ):
        with pytest.raises(ValueError, match=f"^{name} must be") as error:
            make()
        assert repr(value) in str(error.value)


def test_flags_that_exclude_each_other_and_empty_lists():
    with pytest.raises(ValueError, match="empty parameter list"):
        INNA([])
    for flag in ("foreach", "fused", "kahan"):
        with pytest.raises(ValueError, match=f"{flag}=True cannot be differentiated"):
            INNA([parameter()], differentiable=True, **{flag: True})
    with pytest.raises(ValueError, match="exclude each other"):
        INNA([parameter()], foreach=True, fused=True)
    with pytest.raises(ValueError, match=r"momentum must be a finite number >= 0 and <= 1, got 1\.5"):
        INNA.from_sgd([parameter()], 0.1, 1.5)


def test_a_scheduler_that_leaves_the_range_is_refused_before_anything_moves():
    theta = parameter()
    optimizer = INNA([theta])
    for name, value in itertools.product(("lr", "alpha", "beta"), (-1.0, math.nan, math.inf)):
        good = optimizer.param_groups[0][name]
        optimizer.param_groups[0][name] = value
        with pytest.raises(ValueError, match=f"^{name} must be a finite number >= 0, got"):
            run(optimizer, theta, 1)
        optimizer.param_groups[0][name] = good
    assert torch.equal(theta.detach(), parameter().detach())


def test_sparse_gradients_are_refused_with_the_reason():
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    before = copy.deepcopy(embedding.weight.data)
    with pytest.raises(RuntimeError, match="INNA needs dense gradients"):
        INNA(embedding.parameters()).step()
    assert torch.equal(embedding.weight.data, before)
