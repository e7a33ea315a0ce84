"""The guarded INNA for PyTorch: the rule of dynamics.py on every path, one gap for all groups, state, refusals."""

from __future__ import annotations

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guarded_problem import (
    FLAGS,
    FUSED,
    PATHS,
    STEPS,
    TRITON,
    assert_equal,
    parameters,
    problem,
    set_gradients,
    train,
    whole,
)
from guarded_reference import GuardedGroup, guarded_steps
from inna import dynamics
from inna.torch import INNA
from inna.torch.blocks import BLOCK
from inna.torch.kernels import cpu
from inna.torch.measures.guard import GuardShare, Products, measure
from inna.torch.measures.guarded_step import SCALARS
from inna.torch.tensor_lists import Settings, SumLists, TensorLists
from saving import MEANS, made_again
from triton_kernels import INTERPRETING, needs_triton, run_interpreted


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="this is the process of the interpreter")
def test_the_interpreted_tests_pass():
    run_interpreted("Triton", __file__)


@pytest.mark.parametrize("path", PATHS)
@settings(max_examples=3 if INTERPRETING else 12)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0.05, 1.0),
    beta=st.floats(0.05, 1.0),
    lr=st.sampled_from([0.05, 0.5, 1.0]),
    time_step=st.sampled_from([None, 0.3]),
    speed=st.sampled_from([None, 1.0, 2.0]),
    bound=st.sampled_from([0.0, -0.5, 0.1]),
    scheduled=st.booleans(),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_it_is_the_rule(path, seed, alpha, beta, lr, time_step, speed, bound, scheduled, sign):
    start, evaluate = problem(seed)
    flags = FLAGS[path]
    params = parameters(start, flags=flags)
    optimizer = INNA(
        [{"params": params[:1]}, {"params": params[1:], "lr": lr / 2}],
        lr,
        alpha,
        beta,
        loss_bound=sign * bound,
        time_step=time_step,
        initial_speed=speed,
        maximize=sign < 0,
        **flags,
    )
    factors = [1 - k / STEPS if scheduled else 1.0 for k in range(STEPS + 1)]
    lengths = train(optimizer, params, evaluate, range(STEPS), factors.__getitem__, sign)
    groups = [
        GuardedGroup(part.copy(), size, alpha, beta, time_step, speed)
        for part, size in zip(start, (lr, lr / 2), strict=True)
    ]

    def scheduled_groups(k, thetas):
        groups[0].lr, groups[1].lr = lr * factors[k], lr / 2 * factors[k]
        return evaluate(k, thetas)

    cuts = guarded_steps(groups, scheduled_groups, STEPS, bound)
    caps = lr * np.array(factors[:STEPS])
    np.testing.assert_allclose(lengths, caps * cuts, rtol=0, atol=1e-8)
    for param, group in zip(params, groups, strict=True):
        np.testing.assert_allclose(param.detach().reshape(-1), group.theta, rtol=0, atol=1e-8)
    assert optimizer.guarded_share == pytest.approx(np.mean(np.array(cuts) < 1), abs=0.05)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("speed", [None, 1.0])
def test_a_penalty_counts_in_the_first_velocity_too(path, sign, speed):
    start, evaluate = problem()
    flags, decay = FLAGS[path], 0.3
    params = parameters(start, flags=flags)
    optimizer = INNA(
        params, 0.8, 0.5, 0.3, loss_bound=0.0, weight_decay=decay, initial_speed=speed, maximize=sign < 0, **flags
    )
    lengths = train(optimizer, params, evaluate, range(10), sign=sign)

    def with_penalty(k, thetas):
        f, grads = evaluate(k, np.split(thetas[0], [3]))
        return f + decay / 2 * thetas[0] @ thetas[0], [np.concatenate(grads) + decay * thetas[0]]

    group = GuardedGroup(np.concatenate(start), 0.8, 0.5, 0.3, None, speed)
    np.testing.assert_allclose(lengths, 0.8 * np.array(guarded_steps([group], with_penalty, 10)), rtol=0, atol=1e-9)
    np.testing.assert_allclose(torch.cat([p.detach().reshape(-1) for p in params]), group.theta, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("loss_bound", math.nan, "loss_bound must be a finite number"),
        ("loss_bound", math.inf, "loss_bound must be a finite number"),
        ("loss_bound", "x", "loss_bound must be"),
        ("time_step", math.nan, "time_step must be a finite number > 0"),
        ("time_step", -1.0, "time_step must be a finite number > 0"),
        ("time_step", 100.0, r"alpha \* time_step must be <= 1"),
        ("time_step", "x", "time_step must be"),
        ("beta", 100.0, r"alpha \* beta must be <= 1"),
        ("alpha", 20.0, r"alpha \* beta must be <= 1"),
        ("lr", 3.0, r"alpha \* lr must be <= 1"),
        ("initial_speed", 0.0, "initial_speed must be >= beta"),
        ("initial_speed", math.nan, "initial_speed must be a finite number"),
    ],
    ids=str,
)
def test_settings_that_are_changed_are_checked_before_anything_changes(name, value, message):
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA([{"params": params[:1]}, {"params": params[1:]}], 0.5, loss_bound=0.0, initial_speed=1.0)
    train(optimizer, params, evaluate, range(3))
    before = [each.clone() for each in whole(optimizer)]
    for group in optimizer.param_groups[0 if name == "loss_bound" else 1 :]:
        group[name] = value
    loss = set_gradients(params, evaluate, 3)
    grads = [param.grad.clone() for param in params]
    with pytest.raises(ValueError, match=message):
        optimizer.step(loss=loss)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole(optimizer), before, strict=True))
    assert all(torch.equal(param.grad, grad) for param, grad in zip(params, grads, strict=True))


@pytest.mark.parametrize("value", [math.nan, -1.0, 0.0, "x"])
def test_a_time_step_that_is_changed_is_checked_without_a_guard_too(value):
    (param,) = params = [torch.ones(3, requires_grad=True)]
    optimizer = INNA(params, time_step=0.1)
    param.grad = torch.ones(3)
    optimizer.step()
    optimizer.param_groups[0]["time_step"] = value
    with pytest.raises(ValueError, match="time_step must be a finite number > 0"):
        optimizer.step()


def test_an_error_in_a_later_group_leaves_the_gradients_scaled_once():
    if cpu.unavailable():
        pytest.skip("no kernels")
    p, q = (torch.ones(3, requires_grad=True) for _ in range(2))
    optimizer = INNA([{"params": [p]}, {"params": [q]}], 0.1, loss_bound=0.0, fused=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((p + q).sum()).backward()
    optimizer.param_groups[1]["alpha"] = -1.0
    with pytest.raises(ValueError, match="alpha must be"):
        scaler.step(optimizer, loss=6.0)
    optimizer.param_groups[1]["alpha"] = 0.5
    scaler.step(optimizer, loss=6.0)
    assert (p.grad == 1).all()
    assert (q.grad == 1).all()


def test_a_memory_that_missed_steps_is_forgotten():
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA(params, 0.1, loss_bound=0.0)
    train(optimizer, params, evaluate, range(3))
    optimizer.param_groups[0]["loss_bound"] = None
    train(optimizer, params, evaluate, range(3, 6))
    assert not SCALARS.keys() & optimizer.param_groups[0].keys()
    optimizer.param_groups[0]["loss_bound"] = 0.0
    train(optimizer, params, evaluate, [6])
    assert optimizer.param_groups[0]["guard_weight"].item() == pytest.approx(1 / 0.5 - 0.1)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("decoupled", [False, True])
def test_weight_decay_is_a_part_of_the_loss_or_of_the_way(path, decoupled):
    """The penalty is that of a loss with it; decoupled decay moves theta, which the models of past batches see."""
    start, evaluate = problem()
    flags, decay = FLAGS[path], 0.1
    params = parameters(start, flags=flags)
    keys = {"weight_decay": decay, "decoupled_weight_decay": decoupled}
    optimizer = INNA(params, 0.8, 0.5, 0.3, loss_bound=0.0, **keys, **flags)
    lengths = train(optimizer, params, evaluate, range(STEPS))
    group = GuardedGroup(np.concatenate(start), 0.8, 0.5, 0.3)
    expected = []
    for k in range(STEPS):
        f, grads = evaluate(k, np.split(group.theta, [3]))
        g = np.concatenate(grads)
        if decoupled:
            factor = dynamics.guard_factor([group.terms(f, g)], 0.0)
            group.memory = dynamics.update_memory(group.memory, f, g @ group.theta, 0.8, 0.5, 0.3)
            shrunk = (1 - 0.8 * decay) * group.theta
            group.theta, group.momentum = dynamics.step(shrunk, group.momentum, g, 0.8 * factor, 0.5, 0.3, 0.8)
        else:
            f, g = f + decay / 2 * group.theta @ group.theta, g + decay * group.theta
            factor = dynamics.guard_factor([group.terms(f, g)], 0.0)
            group.step(f, g, factor)
        expected.append(0.8 * factor)
    assert min(expected) < 0.8
    np.testing.assert_allclose(lengths, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(torch.cat([p.detach().reshape(-1) for p in params]), group.theta, rtol=0, atol=1e-9)


@pytest.mark.parametrize("path", PATHS)
def test_where_the_guard_does_not_bind_it_is_inna(path):
    start, evaluate = problem()
    flags = FLAGS[path]
    pair = []
    for keys in ({"loss_bound": -1e9}, {}):
        params = parameters(start, flags=flags)
        optimizer = INNA(params, 0.1, 0.5, 0.1, weight_decay=0.1, **keys, **flags)
        train(optimizer, params, evaluate, range(STEPS))
        pair.append((params, optimizer))
    assert pair[0][1].guarded_share == 0
    assert pair[0][1].last_lr == pair[1][1].last_lr == 0.1
    for mine, other in zip(pair[0][0], pair[1][0], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("path", PATHS)
def test_a_time_step_without_a_guard_is_the_momentum_s(path):
    start, evaluate = problem()
    flags = FLAGS[path]
    params = parameters(start, flags=flags)
    optimizer = INNA(params, 0.05, 0.5, 0.1, time_step=0.3, **flags)
    theta, momentum = np.concatenate(start), np.zeros(11)
    for k in range(STEPS):
        set_gradients(params, evaluate, k)
        optimizer.step()
        g = np.concatenate(evaluate(k, np.split(theta, [3]))[1])
        theta, momentum = dynamics.step(theta, momentum, g, 0.05, 0.5, 0.1, 0.3)
    np.testing.assert_allclose(torch.cat([p.detach().reshape(-1) for p in params]), theta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing(path, bad, where):
    start, evaluate = problem()
    flags = FLAGS[path]
    params = parameters(start, flags=flags)
    optimizer = INNA(params, 0.5, weight_decay=0.1, loss_bound=0.0, initial_speed=1.0, **flags)
    train(optimizer, params, evaluate, range(5))
    before = [value.clone() for value in whole(optimizer)]
    value = set_gradients(params, evaluate, 5)
    if where == "gradient":
        params[1].grad[1, 2] = bad
    optimizer.step(loss=bad if where == "loss" else value)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(whole(optimizer), before, strict=True))
    assert all(np.isfinite(train(optimizer, params, evaluate, range(5, 30))))


@pytest.mark.parametrize("path", PATHS)
def test_a_group_with_lr_zero_or_without_gradients_keeps_everything(path):
    start, evaluate = problem()
    flags = FLAGS[path]
    params = parameters(start, flags=flags)
    groups = [{"params": params[:1]}, {"params": params[1:]}]
    optimizer = INNA(groups, 0.5, loss_bound=0.0, initial_speed=1.0, **flags)
    train(optimizer, params, evaluate, range(10))
    for rest in ("lr", "gradients"):
        optimizer.param_groups[1]["lr"] = 0.0 if rest == "lr" else 0.5
        before = [optimizer.param_groups[1][name].clone() for name in SCALARS]
        kept = {name: value.clone() for name, value in optimizer.state[params[1]].items()}
        theta = params[1].detach().clone()
        for k in range(10, 20):
            value = set_gradients(params, evaluate, k)
            if rest == "gradients":
                params[1].grad = None
            optimizer.step(loss=value)
        now = [optimizer.param_groups[1][name] for name in SCALARS]
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(now, before, strict=True))
        assert all(torch.equal(optimizer.state[params[1]][name], value) for name, value in kept.items())
        assert torch.equal(params[1], theta)
    assert optimizer.param_groups[0]["guard_steps"] == 30


@pytest.mark.parametrize("path", PATHS)
def test_the_loss_may_come_from_a_closure(path):
    start, evaluate = problem()
    flags = FLAGS[path]
    sides = []
    for closed in (False, True):
        params = parameters(start, flags=flags)
        optimizer = INNA(params, 0.5, 0.5, 0.5, loss_bound=0.0, time_step=0.2, **flags)
        for k in range(10):
            if closed:
                value = optimizer.step(lambda k=k, params=params: torch.tensor(set_gradients(params, evaluate, k)))
                assert isinstance(value, torch.Tensor)
            else:
                optimizer.step(loss=torch.tensor([set_gradients(params, evaluate, k)]))
        sides.append(optimizer)
    for mine, other in zip(*map(whole, sides), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-6)  # the loss in single precision or not


@pytest.mark.parametrize("path", ["single", "foreach", FUSED, TRITON, "on device"])
@pytest.mark.parametrize("means", MEANS)
def test_training_goes_on_bit_for_bit(path, means):
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA(params, 0.5, loss_bound=0.0, time_step=0.2, initial_speed=1.0, **FLAGS[path])
    train(optimizer, params, evaluate, range(20))
    other = made_again(optimizer, means, lambda copies: INNA(copies, loss_bound=0.0))
    theirs = [param for group in other.param_groups for param in group["params"]]
    assert train(optimizer, params, evaluate, range(20, 40)) == train(other, theirs, evaluate, range(20, 40))
    assert_equal(optimizer, other)


@pytest.mark.parametrize("path", PATHS)
def test_a_guard_on_an_older_momentum_takes_it_for_that_of_many_steps(path):
    start, evaluate = problem()
    flags = FLAGS[path]
    params = parameters(start, flags=flags)
    optimizer = INNA(params, 0.1, 0.5, 0.1, **flags)
    train(optimizer, params, evaluate, range(20))
    optimizer.param_groups[0]["loss_bound"] = 0.0
    value = set_gradients(params, evaluate, 20)
    optimizer.step(loss=value)
    group = optimizer.param_groups[0]
    assert group["guard_weight"].item() == pytest.approx(1 / 0.5 - 0.1)  # its fixed point
    assert group["guard_loss"].item() == pytest.approx((1 / 0.5 - 0.1) * value)


@pytest.mark.parametrize("path", PATHS)
def test_paths_may_change_between_steps(path):
    start, evaluate = problem()
    one, other = parameters(start), parameters(start)
    pair = [INNA(params, 0.5, loss_bound=0.0, initial_speed=1.0) for params in (one, other)]
    changes = [flags for flags in FLAGS.values() if "differentiable" not in flags]
    lengths = [[], []]
    for k in range(STEPS):
        flags = {"foreach": None, "fused": None, "capturable": False} | changes[k % len(changes)]
        pair[1].param_groups[0].update(flags)
        for found, optimizer, params in zip(lengths, pair, (one, other), strict=True):
            found += train(optimizer, params, evaluate, [k])
    np.testing.assert_allclose(*lengths, rtol=0, atol=1e-9)


def test_a_complex_parameter_is_its_two_parts():
    start, evaluate = problem()
    for flags in (FLAGS["single"], FLAGS["foreach"], FLAGS["on device"], {}):
        real, others = parameters(start), parameters(start)
        twin = torch.complex(*others[1].detach().unbind()).requires_grad_()
        ours = INNA([others[0], twin], 0.5, loss_bound=0.0, weight_decay=0.01, **flags)
        theirs = INNA(real, 0.5, loss_bound=0.0, weight_decay=0.01, **flags)
        for k in range(STEPS):
            value = set_gradients(real, evaluate, k)
            others[0].grad, twin.grad = real[0].grad.clone(), torch.complex(*real[1].grad.unbind())
            ours.step(loss=value)
            theirs.step(loss=value)
            assert ours.last_lr == pytest.approx(theirs.last_lr, rel=1e-9)
        torch.testing.assert_close(torch.view_as_real(twin.detach()).permute(1, 0), real[1].detach())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", ["single", "foreach", FUSED, TRITON, "on device"])
def test_low_precision_follows_single_precision(dtype, path):
    start, evaluate = problem(noise=0.0)
    sides = []
    for kind in (dtype, torch.float32):
        params = parameters(start, kind)
        sides.append(train(INNA(params, 1.0, loss_bound=0.0, **FLAGS[path]), params, evaluate, range(STEPS)))
    assert min(sides[1]) < 0.5
    np.testing.assert_allclose(*sides, rtol=0, atol=0.1)


@pytest.mark.parametrize("path", ["foreach", FUSED])
@pytest.mark.parametrize(("shift", "tolerance"), [(0.0, 1e-5), (30.0, 1e-4)])
def test_the_length_of_a_step_in_single_precision_over_2000_steps(path, shift, tolerance):
    """Beside the textbook's memory in float64, of the gradients and weights that single precision has.

    With a shift, weights are large beside their steps, and single precision rounds the weights themselves.
    """
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    targets = 3 * torch.sin(inputs @ torch.randn(8, 1))
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
    offset = [shift * torch.randn_like(param) for param in net.parameters()]
    params = [(param.detach() + away).requires_grad_() for param, away in zip(net.parameters(), offset, strict=True)]
    names = [name for name, _ in net.named_parameters()]
    optimizer = INNA(params, 0.5, 0.5, 0.5, loss_bound=0.0, time_step=0.2, **FLAGS[path])
    cap, h, alpha, beta = (optimizer.param_groups[0][name] for name in ("lr", "time_step", "alpha", "beta"))
    momentum, phi, weight = 0.0, 0.0, 0.0
    found, expected = [], []
    for k in range(2000):
        rows = slice(32 * (k % 8), 32 * (k % 8) + 32)
        weights = {name: param - away for name, param, away in zip(names, params, offset, strict=True)}
        value = (torch.func.functional_call(net, weights, inputs[rows]) - targets[rows]).square().mean()
        grads = torch.autograd.grad(value, params)
        for param, grad in zip(params, grads, strict=True):
            param.grad = grad
        theta, g = (torch.cat([each.detach().double().reshape(-1) for each in kind]) for kind in (params, grads))
        f, u = value.item(), momentum + beta * g
        gap = phi + torch.sum(momentum * theta).item() + beta * f
        expected.append(min(cap, max(gap, 0.0) / (u @ u).item()))
        c, keep = h * (1 - alpha * beta), 1 - alpha * h
        momentum, weight = keep * momentum + c * g, keep * weight + c
        phi = keep * phi + c * (f - (g @ theta).item())
        optimizer.step(loss=value)
        found.append(optimizer.last_lr)
    assert np.mean(np.array(expected) < cap) > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * cap)


@pytest.mark.skipif(bool(cpu.unavailable()), reason="no kernels")
@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 70_000), min_size=1, max_size=4),
    dtypes=st.sampled_from(
        [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.bfloat16, torch.float32)]
    ),
    decay=st.sampled_from([0.0, 0.1]),
    decoupled=st.booleans(),
    maximize=st.booleans(),
    kahan=st.booleans(),
    far=st.booleans(),
)
def test_the_kernel_takes_the_inner_products_of_the_definition(sizes, dtypes, decay, decoupled, maximize, kahan, far):
    generator = torch.Generator().manual_seed(0)

    def made(dtype):
        return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]

    lists = TensorLists(made(dtypes[0]), made(dtypes[0]), made(dtypes[1]))
    lists.compensations = [0.01 * each for each in made(dtypes[0])] if kahan else []
    starts = made(dtypes[0]) if far else None
    given_settings = Settings(0.1, 0.5, 0.3, decay, None, decoupled, maximize)
    found, threads = [], torch.get_num_threads()
    for level, number in itertools.product(range(len(cpu.instruction_sets())), (1, 3)):
        table = cpu.Table(lists, SumLists(starts, []) if starts is not None else None)
        table._level = level
        try:
            torch.set_num_threads(number)
            found.append(table.measure([grad.data_ptr() for grad in lists.grads], given_settings))
        finally:
            torch.set_num_threads(threads)
    assert all(each == found[0] for each in found)
    share = GuardShare(lists, [], given_settings, starts=starts)
    pieces = measure([share], torch.zeros(()), torch.device("cpu"), sum_over_ranks=False)
    expected = dict.fromkeys(Products._fields[: cpu.PRODUCTS], 0.0)
    for i in range(len(sizes)):
        theta, grad, momentum = (tensors[i].double() for tensors in (lists.params, lists.grads, lists.momentums))
        theta = theta + lists.compensations[i].double() if kahan else theta
        grad = (-grad if maximize else grad) + (0.0 if decoupled else decay) * theta
        u = momentum + 0.3 * grad
        pairs = {"norm_squared": (u, u), "grad": (grad, u)}
        if decay:
            pairs |= {"theta": (u, theta), "grad_theta": (grad, theta), "theta_squared": (theta, theta)}
        if starts is not None:
            apart = theta - starts[i].double()
            pairs |= {"grad_squared": (grad, grad), "distance_squared": (apart, apart)}
        for name, (a, b) in pairs.items():
            expected[name] += float(a @ b)
    scale = 1e-5 if dtypes[0] is not torch.float64 else 1e-12
    for values in (found[0], pieces.tolist()):
        np.testing.assert_allclose(
            values[: len(expected)], list(expected.values()), rtol=scale, atol=scale * (1 + sum(sizes))
        )


def test_inner_products_do_not_depend_on_the_number_of_threads():
    generator = torch.Generator().manual_seed(0)
    params = [torch.randn(size, generator=generator, requires_grad=True) for size in (5 * BLOCK + 3, 10, 40_000)]
    for flags in ({"fused": True}, {"foreach": True}):
        if cpu.unavailable() and "fused" in flags:
            continue
        threads = torch.get_num_threads()
        found = []
        try:
            for number in (1, 2, 3):
                torch.set_num_threads(number)
                copies = [param.detach().clone().requires_grad_() for param in params]
                optimizer = INNA(copies, 0.5, loss_bound=0.0, **flags)
                for _ in range(3):
                    for each in copies:
                        each.grad = each.detach().clone()
                    optimizer.step(loss=sum(float(each.detach().square().sum()) for each in copies[1:2]))
                found.append((optimizer.last_lr, optimizer.param_groups[0]["guard_slope"].item()))
        finally:
            torch.set_num_threads(threads)
        assert found[0] == found[1] == found[2]


def test_autograd_sees_the_guarded_step():
    start, _ = problem()
    theta = torch.tensor(np.concatenate(start))
    inputs = torch.tensor(np.random.default_rng(0).normal(size=(6, 11)))

    def last(lr):
        param = theta.clone()
        optimizer = INNA([param], lr, 0.5, 0.3, loss_bound=0.0, weight_decay=0.05, differentiable=True)
        for k in range(4):
            value = ((inputs[k : k + 3] @ param) ** 2).mean()
            (param.grad,) = torch.autograd.grad(value, param, create_graph=True) if param.requires_grad else (None,)
            if param.grad is None:
                param.grad = 2 * inputs[k : k + 3].T @ (inputs[k : k + 3] @ param) / 3
            optimizer.step(loss=value)
        return param.square().sum()

    lr = torch.tensor(0.02, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(last, (lr,))


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compiled_it_takes_the_same_steps():
    torch._dynamo.reset()
    start, evaluate = problem()
    pair = []
    for compiled in (False, True):
        params = parameters(start)
        optimizer = INNA(params, 0.5, loss_bound=0.0, weight_decay=0.1, initial_speed=1.0)
        step = torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step
        lengths = []
        for k in range(20):
            step(loss=torch.tensor(set_gradients(params, evaluate, k), dtype=torch.float64))
            lengths.append(optimizer.last_lr)
        pair.append((lengths, params))
    torch._dynamo.reset()
    assert min(pair[0][0]) < 0.5
    np.testing.assert_allclose(pair[1][0], pair[0][0], rtol=0, atol=1e-9)


def test_a_scaled_loss_is_given_unscaled_and_an_overflow_changes_nothing():
    start, evaluate = problem()
    for flags in ({}, {"fused": True}) if not cpu.unavailable() else ({},):
        sides = []
        for scaled in (False, True):
            params = parameters(start, torch.float32)
            optimizer = INNA(params, 0.5, loss_bound=0.0, **flags)
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
            scaler.scale(torch.ones(()))  # creates the scale
            for k in range(20):
                value = set_gradients(params, evaluate, k)
                if not scaled:
                    optimizer.step(loss=value)
                    continue
                for param in params:
                    param.grad *= scaler.get_scale()
                if k == 10:
                    before = copy.deepcopy(optimizer)
                    kept = [param.grad.clone() / scaler.get_scale() for param in params]
                    params[0].grad[0] = torch.inf
                    scaler.step(optimizer, loss=value)
                    assert_equal(optimizer, before)
                    scaler.update()
                    for param, grad in zip(params, kept, strict=True):
                        param.grad = grad * scaler.get_scale()
                scaler.step(optimizer, loss=value)
                scaler.update()
            sides.append(optimizer)
        assert_equal(*sides)


BAD = [
    ({"alpha": 0.5, "beta": 3.0}, r"alpha \* beta must be <= 1"),
    ({"lr": 3.0}, r"alpha \* lr must be <= 1"),
    ({"time_step": 3.0}, r"alpha \* time_step must be <= 1"),
    ({"time_step": 0.0}, "time_step must be a finite number > 0"),
    ({"loss_bound": torch.nan}, "loss_bound must be a finite number"),
    ({"loss_bound": "0"}, "loss_bound must be"),
    ({"initial_speed": 0.05}, "initial_speed must be >= beta with a loss_bound, got 0.05"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=str)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    params = parameters(problem()[0])
    with pytest.raises(ValueError, match=message):
        INNA(params, **{"loss_bound": 0.0, **arguments})
    optimizer = INNA(params[:1], loss_bound=0.0)
    with pytest.raises(ValueError, match=message if "loss_bound" not in arguments else "loss_bound"):
        optimizer.add_param_group({"params": params[1:], **arguments})


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (None, r"needs the loss of the batch: call step\(loss=loss\)"),
        (torch.ones(2), "one floating-point number, got torch.float32 of shape .2,"),
        (torch.ones((), dtype=torch.int64), "one floating-point number, got torch.int64"),
        (torch.ones(()).to_sparse(), "layout torch.sparse_coo"),
        (torch.ones((), device="meta"), "on meta"),
        (10**400, "one floating-point number"),
        ("much", "got 'much'"),
        (True, "got True"),
    ],
    ids=str,
)
def test_without_a_loss_nothing_changes(loss, message):
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA(params, loss_bound=0.0)
    train(optimizer, params, evaluate, range(3))
    before = copy.deepcopy(optimizer)
    with pytest.raises(ValueError, match=message):
        optimizer.step(loss=loss)
    assert_equal(optimizer, before)


def test_a_step_that_changes_nothing_needs_no_loss():
    params = parameters(problem()[0])
    optimizer = INNA(params, 0.0, loss_bound=0.0)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    assert all("momentum" in optimizer.state[param] for param in params)


def test_groups_must_agree_on_the_bound_and_the_sign():
    params = parameters(problem()[0])
    for name, value in (("loss_bound", 1.0), ("loss_bound", None), ("maximize", True)):
        with pytest.raises(ValueError, match=f"{name} must be the same in all groups"):
            INNA([{"params": params[:1]}, {"params": params[1:], name: value}], loss_bound=0.0)
    optimizer = INNA([{"params": params[:1]}, {"params": params[1:]}], loss_bound=0.0)
    saved = optimizer.state_dict()
    saved["param_groups"][1] = {**saved["param_groups"][1], "loss_bound": 2.0}
    with pytest.raises(ValueError, match="loss_bound must be the same"):
        optimizer.load_state_dict(saved)
    optimizer.param_groups[1]["loss_bound"] = None
    with pytest.raises(ValueError, match="loss_bound must be the same"):
        optimizer.step(loss=1.0)


@pytest.mark.parametrize("name", [name for name, bounds in SCALARS.items() if bounds])
def test_damaged_numbers_are_refused(name):
    params = parameters(problem()[0])
    optimizer = INNA(params, loss_bound=0.0)
    for value in (torch.tensor([-1.0]), torch.tensor([torch.nan]), "many"):
        saved = optimizer.state_dict()
        saved["param_groups"][0] = {**saved["param_groups"][0], name: value}
        with pytest.raises(ValueError, match=f"{name} must be"):
            optimizer.load_state_dict(saved)


@pytest.mark.parametrize("left", ["nothing", "a step", "one of two"])
def test_a_memory_without_its_momentum_is_refused(left):
    params = parameters(problem()[0])
    groups = [{"params": params[:1]}, {"params": params[1:]}] if left != "one of two" else params
    optimizer = INNA(groups, loss_bound=0.0, initial_speed=1.0)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step(loss=1.0)
    before = copy.deepcopy(optimizer)
    saved = optimizer.state_dict()
    saved["state"] = {key: dict(values) for key, values in saved["state"].items()}
    if left == "nothing":
        del saved["state"][1]
    else:
        del saved["state"][1]["momentum"]
    group, position = (0, 1) if left == "one of two" else (1, 0)
    message = f"group {group} has guard_weight=0.95, .* parameter {position} has no momentum"
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(saved)
    assert_equal(optimizer, before)
    for name in SCALARS:
        del saved["param_groups"][group][name]
    optimizer.load_state_dict(saved)


def test_a_parameter_that_never_had_a_gradient_needs_no_momentum():
    params = parameters(problem()[0])
    optimizer = INNA(params, loss_bound=0.0)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step(loss=1.0)
    optimizer.load_state_dict(optimizer.state_dict())
    assert len(optimizer.state) == 1


def test_rounding_away_the_steps_is_refused():
    param = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    optimizer = INNA([param], loss_bound=0.0, kahan=False)
    param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match="kahan must not be False with a loss_bound"):
        optimizer.step(loss=1.0)
    assert not optimizer.state[param]


def test_lr_free_takes_its_time_step_from_alpha():
    params = parameters(problem()[0])
    optimizer = INNA.lr_free([{"params": params[:1]}, {"params": params[1:], "alpha": 0.25}])
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 1.0]
    assert [group["initial_distance"] for group in optimizer.param_groups] == [1e-6, 1e-6]
    assert [group["time_step"] for group in optimizer.param_groups] == [0.2, 0.4]
    assert [group["beta"] for group in optimizer.param_groups] == [0.5, 0.5]
    assert INNA.lr_free(params, lr=0.1).param_groups[0]["lr"] == 0.1
    with pytest.raises(ValueError, match="alpha must be a finite number > 0"):
        INNA.lr_free(params, 0.0)


def test_a_step_of_a_full_batch_never_moves_away_from_a_solution_of_loss_at_the_bound():
    start, _ = problem()
    rng = np.random.default_rng(1)
    inputs, solution = torch.tensor(rng.normal(size=(16, 11))), torch.tensor(rng.normal(size=11))
    param = torch.tensor(np.concatenate(start), requires_grad=True)
    optimizer = INNA([param], 1.9, 0.5, 0.3, loss_bound=0.0)
    distances = []
    for _ in range(200):
        optimizer.zero_grad()
        value = (inputs @ (param - solution)).square().mean() / 2
        value.backward()
        optimizer.step(loss=value)
        distances.append(float((param.detach() - solution).norm()))
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in itertools.pairwise(distances))
    assert optimizer.guarded_share > 0


def test_numbers_of_numpy_and_torch_become_plain():
    param = torch.ones(2, requires_grad=True)
    optimizer = INNA([param], loss_bound=torch.tensor(0.0), time_step=np.float32(0.5))
    assert [type(optimizer.param_groups[0][name]) for name in ("loss_bound", "time_step")] == [float, float]
