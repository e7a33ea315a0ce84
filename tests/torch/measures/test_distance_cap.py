"""INNA.lr_free for PyTorch: the cap by the distance on every path, its state, what it refuses."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from guarded_problem import (
    FLAGS,
    FUSED,
    STEPS,
    TRITON_ON_DEVICE,
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
from saving import MEANS, made_again
from triton_kernels import INTERPRETING, needs_triton, run_interpreted

# It cannot be differentiated through.
PATHS = ["single", "foreach", FUSED, "on device", "single on device"]
# The interpreter is slow.
AND_TRITON = [*PATHS, TRITON_ON_DEVICE]


@needs_triton
@pytest.mark.skipif(INTERPRETING, reason="this is the process of the interpreter")
def test_the_interpreted_tests_pass():
    run_interpreted("Triton", __file__)


@pytest.mark.parametrize("path", AND_TRITON)
@settings(max_examples=3 if INTERPRETING else 12)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0.05, 1.0),
    beta=st.floats(0.05, 1.0),
    lr=st.sampled_from([0.1, 1.0, 3.0]),
    time_step=st.sampled_from([0.1, 0.9]),
    speed=st.sampled_from([None, 1.0]),
    bound=st.sampled_from([0.0, -0.5]),
    start_distance=st.sampled_from([1e-6, 0.1]),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_it_is_the_rule(path, seed, alpha, beta, lr, time_step, speed, bound, start_distance, sign):
    start, evaluate = problem(seed)
    params = parameters(start)
    optimizer = INNA(
        [{"params": params[:1]}, {"params": params[1:], "lr": lr / 2}],
        lr,
        alpha,
        beta,
        loss_bound=sign * bound,
        time_step=time_step,
        initial_speed=speed,
        initial_distance=start_distance,
        maximize=sign < 0,
        **FLAGS[path],
    )
    lengths = train(optimizer, params, evaluate, range(STEPS), sign=sign)
    groups = [
        GuardedGroup(part.copy(), factor, alpha, beta, time_step, speed)
        for part, factor in zip(start, (lr, lr / 2), strict=True)
    ]
    expected = guarded_steps(groups, evaluate, STEPS, bound, start_distance)
    np.testing.assert_allclose(lengths, expected, rtol=1e-6, atol=1e-9)
    for param, group in zip(params, groups, strict=True):
        np.testing.assert_allclose(param.detach().reshape(-1), group.theta, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("path", AND_TRITON)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("decoupled", [False, True])
def test_a_penalty_is_a_part_of_the_gradients(path, sign, decoupled):
    start, evaluate = problem()
    decay = 0.3
    params = parameters(start)
    optimizer = INNA.lr_free(
        params,
        weight_decay=decay,
        decoupled_weight_decay=decoupled,
        maximize=sign < 0,
        loss_bound=-sign * 1e9,  # it never binds
        **FLAGS[path],
    )
    lengths = train(optimizer, params, evaluate, range(STEPS), sign=sign)
    first = np.concatenate(start)
    theta, momentum = first.copy(), np.zeros(11)
    distance, squares = dynamics.LR_FREE_DISTANCE, 0.0
    for k in range(STEPS):
        g = np.concatenate(evaluate(k, np.split(theta, [3]))[1])
        g = g if decoupled else g + decay * theta
        distance = max(distance, np.linalg.norm(theta - first))
        squares += g @ g
        cap = dynamics.distance_cap(distance, squares, 1.0)
        assert lengths[k] == pytest.approx(cap, rel=1e-6)
        theta = (1 - cap * decay) * theta if decoupled else theta
        theta, momentum = dynamics.step(theta, momentum, g, cap, 0.5, 0.5, 0.2)
    np.testing.assert_allclose(torch.cat([p.detach().reshape(-1) for p in params]), theta, rtol=1e-6, atol=1e-9)


def test_where_all_gradients_are_zero_nothing_moves():
    param = torch.ones(3, requires_grad=True)
    optimizer = INNA.lr_free([param])
    param.grad = torch.zeros(3)
    optimizer.step(loss=1.0)
    assert torch.equal(param.detach(), torch.ones(3))
    assert optimizer.last_lr == 0


@pytest.mark.parametrize("path", PATHS)
def test_the_scale_of_the_loss_does_not_matter_while_the_guard_does_not_bind(path):
    """The cap is r over the root of G: with gradients c times as large, it is 1/c times as large."""
    start, evaluate = problem()
    found = []
    for scale in (1.0, 64.0):
        params = parameters(start)
        optimizer = INNA.lr_free(params, loss_bound=-1e12, **FLAGS[path])
        train(optimizer, params, lambda k, thetas, c=scale: _scaled(evaluate(k, thetas), c), range(STEPS))
        found.append(torch.cat([param.detach().reshape(-1) for param in params]))
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-12)


def _scaled(values, scale):
    loss, grads = values
    return scale * loss, [scale * grad for grad in grads]


@pytest.mark.parametrize("path", PATHS)
def test_a_group_that_rests_keeps_all_and_the_distance_is_of_all_groups(path):
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA.lr_free([{"params": params[:1]}, {"params": params[1:]}], **FLAGS[path])
    train(optimizer, params, evaluate, range(20))
    first = optimizer.param_groups[0]
    first["lr"] = 0.0
    before = first["guard_distance"].item(), first["guard_squares"].item(), params[0].detach().clone()
    train(optimizer, params, evaluate, range(20, 30))
    assert (first["guard_distance"].item(), first["guard_squares"].item()) == before[:2]
    assert torch.equal(params[0].detach(), before[2])
    other = optimizer.param_groups[1]
    assert other["guard_squares"] > before[1]
    first["lr"] = 1.0
    train(optimizer, params, evaluate, [30])
    assert first["guard_squares"] == other["guard_squares"]
    assert first["guard_distance"] == other["guard_distance"] >= before[0]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("means", MEANS)
def test_training_goes_on_bit_for_bit(path, means):
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA.lr_free(params, **FLAGS[path])
    train(optimizer, params, evaluate, range(20))
    other = made_again(optimizer, means, INNA.lr_free)
    theirs = [param for group in other.param_groups for param in group["params"]]
    assert train(optimizer, params, evaluate, range(20, 40)) == train(other, theirs, evaluate, range(20, 40))
    assert_equal(optimizer, other)


@pytest.mark.parametrize("path", PATHS)
def test_state_that_is_created_before_weights_are_loaded_starts_at_these(path):
    """As torch.distributed.checkpoint creates it."""
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA.lr_free(params, lr=0.0, **FLAGS[path])
    set_gradients(params, evaluate, 0)
    optimizer.step()
    with torch.no_grad():
        for param in params:
            param += 100.0
    optimizer.param_groups[0]["lr"] = 1.0
    train(optimizer, params, evaluate, [0])
    assert optimizer.param_groups[0]["guard_distance"].item() == dynamics.LR_FREE_DISTANCE


@pytest.mark.parametrize("pair", list(itertools.permutations(["single", "foreach", "fused", "on device"], 2)), ids=str)
def test_paths_may_change_between_steps(pair):
    start, evaluate = problem()
    params, others = parameters(start), parameters(start)
    optimizer, other = INNA.lr_free(params), INNA.lr_free(others)
    for k, path in enumerate(pair * 4):
        for name in ("foreach", "fused", "capturable"):
            default = False if name == "capturable" else None
            optimizer.param_groups[0][name] = FLAGS[path].get(name, default)
        train(optimizer, params, evaluate, range(5 * k, 5 * k + 5))
        train(other, others, evaluate, range(5 * k, 5 * k + 5))
    for mine, theirs in zip(whole(optimizer), whole(other), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("path", PATHS)
def test_the_distance_may_be_given_and_taken_away_between_steps(path):
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA.lr_free(params, initial_distance=None, lr=0.5, loss_bound=-1e9, **FLAGS[path])
    train(optimizer, params, evaluate, range(3))
    optimizer.param_groups[0]["initial_distance"] = 0.25
    (length,) = train(optimizer, params, evaluate, [3])
    squares = sum(float(param.grad.square().sum()) for param in params)
    assert length == pytest.approx(float(dynamics.distance_cap(0.25, squares, 0.5)), rel=1e-6)
    optimizer.param_groups[0]["initial_distance"] = None
    assert train(optimizer, params, evaluate, [4]) == [0.5]
    assert "start" not in optimizer.state[params[0]]


def test_a_complex_parameter_is_its_two_parts():
    real = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pair = [torch.view_as_complex(real.clone()).requires_grad_(), real.clone().requires_grad_()]
    optimizers = [INNA.lr_free([param]) for param in pair]
    for _ in range(30):
        for param, optimizer in zip(pair, optimizers, strict=True):
            optimizer.zero_grad()
            loss = (param - 1).abs().square().sum() if param.is_complex() else ((param - target(param)) ** 2).sum()
            loss.backward()
            optimizer.step(loss=loss)
    torch.testing.assert_close(torch.view_as_real(pair[0].detach()), pair[1].detach(), rtol=1e-9, atol=1e-12)


def target(param):
    return torch.tensor([1.0, 0.0], dtype=param.dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", PATHS)
def test_low_precision_follows_single_precision(dtype, path):
    start, evaluate = problem()
    found = []
    for kind in (dtype, torch.float32):
        params = parameters([part.astype(np.float16) for part in start], kind)
        optimizer = INNA.lr_free(params, initial_distance=0.01, **FLAGS[path])
        lengths = train(optimizer, params, evaluate, range(STEPS))
        found.append((torch.cat([param.detach().float().reshape(-1) for param in params]), lengths[-1]))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=0, atol=0.1)
    assert found[0][1] == pytest.approx(found[1][1], rel=0.2)


def test_gradients_of_grad_scaler_are_divided_first():
    start, evaluate = problem()
    sides = []
    for scaled in (False, True):
        params = parameters(start, torch.float32)
        optimizer = INNA.lr_free(params)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        scaler.scale(torch.ones(()))  # creates the scale
        for k in range(20):
            value = set_gradients(params, evaluate, k)
            if scaled:
                for param in params:
                    param.grad *= scaler.get_scale()
                scaler.step(optimizer, loss=value)
                scaler.update()
            else:
                optimizer.step(loss=value)
        sides.append(optimizer)
    assert_equal(*sides)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compiled_it_takes_the_same_steps():
    torch._dynamo.reset()
    start, evaluate = problem()
    pair = []
    for compiled in (False, True):
        params = parameters(start)
        optimizer = INNA.lr_free(params, weight_decay=0.1)
        step = torch.compile(optimizer.step, backend="aot_eager") if compiled else optimizer.step
        lengths = []
        for k in range(20):
            step(loss=torch.tensor(set_gradients(params, evaluate, k), dtype=torch.float64))
            lengths.append(optimizer.last_lr)
        pair.append(lengths)
    torch._dynamo.reset()
    np.testing.assert_allclose(pair[1], pair[0], rtol=1e-9)


BAD = [
    ({"initial_distance": 0.0}, "initial_distance must be a finite number > 0"),
    ({"initial_distance": torch.nan}, "initial_distance must be a finite number > 0"),
    ({"initial_distance": "x"}, "initial_distance must be"),
    ({"loss_bound": None}, "needs a loss_bound and a time_step"),
    ({"time_step": None}, "needs a loss_bound and a time_step"),
    ({"differentiable": True}, "differentiable=True needs a learning rate"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=str)
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        INNA.lr_free(parameters(problem()[0]), **arguments)


def test_groups_must_agree_on_the_distance():
    params = parameters(problem()[0])
    optimizer = INNA.lr_free(params[:1])
    with pytest.raises(ValueError, match="initial_distance must be the same in all groups"):
        optimizer.add_param_group({"params": params[1:], "initial_distance": 1.0})


def test_a_start_of_another_shape_is_refused():
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA.lr_free(params)
    train(optimizer, params, evaluate, range(3))
    saved = copy.deepcopy(optimizer.state_dict())
    saved["state"][1]["start"] = torch.zeros(3)
    with pytest.raises(ValueError, match=r"parameter 1.*start has shape \(3,\)"):
        INNA.lr_free(params).load_state_dict(saved)


def test_without_the_distance_there_is_no_start():
    start, evaluate = problem()
    params = parameters(start)
    optimizer = INNA.lr_free(params, initial_distance=None, lr=0.5)
    train(optimizer, params, evaluate, range(3))
    assert "start" not in optimizer.state[params[0]]
    assert optimizer.last_lr <= 0.5
