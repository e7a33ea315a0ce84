"""INNAprop.lr_free for PyTorch: the rule of dynamics.py on every path, one distance for all groups, state, refusals."""

from __future__ import annotations

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._dynamo.testing import CompileCounterWithBackend
from torch.optim.lr_scheduler import LambdaLR

from guarded_reference import FreeGroup, free_steps
from inna import dynamics
from inna.torch import INNAprop, INNApropLRFree
from inna.torch.blocks import BLOCK
from inna.torch.measures.distance import Share, measure
from inna.torch.tensor_lists import TensorLists
from saving import MEANS, made_again

SHAPES = [(3,), (2, 4)]
STEPS = 40
SCALARS = ("distance", "correlation", "average_weight")
PATHS = {
    "fused": {"fused": True},
    "fused on device": {"fused": True, "capturable": True},
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "on device": {"foreach": True, "capturable": True},
    "single on device": {"foreach": False, "capturable": True},
}


def problem(seed=0, steps=STEPS):
    """The start, and a function of step and point: the gradients of mean |A theta - b| on mini-batches."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(16, 11))
    targets = inputs @ rng.normal(size=11)
    rows = np.stack([rng.choice(16, size=4, replace=False) for _ in range(steps)])

    def gradients(k, thetas):
        batch = inputs[rows[k]]
        sign = np.sign(batch @ np.concatenate(thetas) - targets[rows[k]])
        return np.split(batch.T @ sign / len(sign), [3])

    return np.split(rng.normal(size=11), [3]), gradients


def parameters(start, dtype=torch.float64):
    return [
        torch.tensor(part.reshape(shape), dtype=dtype, requires_grad=True)
        for part, shape in zip(start, SHAPES, strict=True)
    ]


def set_gradients(params, gradients, k, sign=1.0):
    thetas = [param.detach().double().reshape(-1).numpy() for param in params]
    for param, grad in zip(params, gradients(k, thetas), strict=True):
        param.grad = torch.tensor(sign * grad, dtype=param.dtype).reshape(param.shape)


def train(optimizer, params, gradients, steps, schedule=None, sign=1.0):
    """The distance after each step."""
    scheduler = LambdaLR(optimizer, schedule) if schedule else None
    distances = []
    for k in steps:
        set_gradients(params, gradients, k, sign)
        optimizer.step()
        if scheduler:
            scheduler.step()
        distances.append(optimizer.distance)
    return distances


def whole(optimizer):
    """Everything that a later step depends on, as a list of tensors."""
    state = [value for values in optimizer.state.values() for _, value in sorted(values.items())]
    scalars = [
        group[name] for group in optimizer.param_groups for name in ("distance", "correlation", "average_weight")
    ]
    return [param for group in optimizer.param_groups for param in group["params"]] + state + scalars


def assert_equal(ours, theirs):
    for mine, other in zip(whole(ours), whole(theirs), strict=True):
        assert torch.equal(mine, other)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    path=st.sampled_from(sorted(PATHS)),
    alpha=st.floats(0.05, 1.0),
    beta=st.floats(0.1, 1.0),
    sigma=st.sampled_from([0.9, 0.999]),
    first=st.sampled_from([1e-6, 1e-3]),
    time_step=st.sampled_from([None, 0.5]),
    decay=st.sampled_from([0.0, 0.1]),
    scheduled=st.booleans(),
    slice_every=st.sampled_from([1, 3]),
    sign=st.sampled_from([1.0, -1.0]),
)
def test_it_is_the_rule(seed, path, alpha, beta, sigma, first, time_step, decay, scheduled, slice_every, sign):
    start, gradients = problem(seed)
    params = parameters(start)
    optimizer = INNAprop.lr_free(
        [{"params": params[:1]}, {"params": params[1:], "weight_decay": decay}],
        alpha,
        beta,
        sigma=sigma,
        initial_distance=first,
        time_step=time_step,
        slice_every=slice_every,
        maximize=sign < 0,
        **PATHS[path],
    )
    factors = [1 - k / STEPS if scheduled else 1.0 for k in range(STEPS + 1)]
    distances = train(optimizer, params, gradients, range(STEPS), factors.__getitem__, sign)
    h = time_step or dynamics.LR_FREE_TIME_STEP / alpha
    shared = {"alpha": alpha, "beta": beta, "sigma": sigma, "time_step": h, "slice_every": slice_every}
    groups = [FreeGroup(start[0], **shared), FreeGroup(start[1], weight_decay=decay, **shared)]

    def evaluate(k, thetas):
        for group in groups:
            group.lr = factors[k]
        return gradients(k, thetas)

    np.testing.assert_allclose(distances, free_steps(groups, evaluate, STEPS, first), rtol=1e-6)
    scale = max(np.abs(group.theta).max() for group in groups)
    for param, group, entries in zip(params, groups, optimizer.param_groups, strict=True):
        np.testing.assert_allclose(param.detach().reshape(-1), group.theta, rtol=0, atol=1e-7 * scale)
        momentum = optimizer.state[param]["momentum"].reshape(-1)
        np.testing.assert_allclose(momentum, group.momentum, rtol=0, atol=1e-7)
        np.testing.assert_allclose(entries["average_weight"], [group.weight], rtol=1e-12)


@pytest.mark.parametrize("path", PATHS)
def test_a_group_with_factor_zero_keeps_everything_but_the_distance(path):
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free([{"params": params[:1]}, {"params": params[1:]}], **PATHS[path])
    train(optimizer, params, gradients, range(10))
    optimizer.param_groups[1]["lr"] = 0.0
    before = copy.deepcopy(optimizer)
    train(optimizer, params, gradients, range(10, 30))
    assert optimizer.distance > before.distance
    assert optimizer.param_groups[1]["distance"] == optimizer.distance
    for name in SCALARS[1:]:
        assert torch.equal(optimizer.param_groups[1][name], before.param_groups[1][name])
    ours, theirs = optimizer.state[params[1]], before.state[before.param_groups[1]["params"][0]]
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert torch.equal(params[1], before.param_groups[1]["params"][0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(path, bad):
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free(params, weight_decay=0.1, **PATHS[path])
    train(optimizer, params, gradients, range(5))
    before = copy.deepcopy(optimizer)
    set_gradients(params, gradients, 5)
    params[1].grad[1, 2] = bad
    optimizer.step()
    assert_equal(optimizer, before)
    assert len(set(train(optimizer, params, gradients, range(5, 30)))) > 1


@pytest.mark.parametrize("path", PATHS)
def test_parameters_without_a_gradient_keep_their_part_of_the_sums(path):
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free(params, **PATHS[path])
    train(optimizer, params, gradients, range(10))
    resting = copy.deepcopy(optimizer.state[params[1]])
    set_gradients(params, gradients, 10)
    params[1].grad = None
    group = optimizer.param_groups[0]
    weight = dynamics.distance_weight(optimizer.distance, group["initial_distance"], 1.0)
    state = optimizer.state[params[0]]
    moved = float((params[0].grad * (state["start"] - params[0])).sum().detach())
    correlation = dynamics.accumulate(group["correlation"].item(), moved, weight, group["sigma"])
    new_sum = dynamics.accumulate(state["grad_sum"], params[0].grad, weight, group["sigma"])
    norm = float(new_sum.abs().sum() + resting["grad_sum"].abs().sum())
    expected = dynamics.grow_distance(optimizer.distance, correlation, norm)
    optimizer.step()
    assert optimizer.distance == pytest.approx(expected, rel=1e-12)
    assert all(torch.equal(optimizer.state[params[1]][name], resting[name]) for name in resting)


def test_the_paths_agree_and_many_small_tensors_are_one_large():
    generator = torch.Generator().manual_seed(0)
    whole_one = torch.randn(90, generator=generator, dtype=torch.float64)
    weights = torch.rand(90, generator=generator, dtype=torch.float64)
    found = []
    for parts in (1, 90, 7):
        for path in PATHS.values():
            params = [part.clone().requires_grad_() for part in whole_one.tensor_split(parts)]
            optimizer = INNAprop.lr_free(params, **path)
            for _ in range(STEPS):
                for param, weight in zip(params, weights.tensor_split(parts), strict=True):
                    param.grad = weight * param.detach().sign()
                optimizer.step()
            found.append((optimizer.distance, torch.cat(params).detach()))
    for distance, theta in found[1:]:
        assert distance == pytest.approx(found[0][0], rel=1e-7)
        torch.testing.assert_close(theta, found[0][1], rtol=0, atol=1e-8)


def test_a_complex_parameter_is_its_two_parts():
    start, gradients = problem()
    real = parameters(start)
    complex_one = [torch.complex(*real[1].detach().unbind()).requires_grad_()]
    ours, theirs = INNAprop.lr_free([real[0], *complex_one]), INNAprop.lr_free(real)
    for k in range(STEPS):
        set_gradients(real, gradients, k)
        complex_one[0].grad = torch.complex(*real[1].grad.unbind())
        saved = real[0].grad.clone()
        before = real[0].detach().clone()
        ours.step()
        with torch.no_grad():
            real[0].copy_(before)
        real[0].grad = saved
        theirs.step()
    assert ours.distance == pytest.approx(theirs.distance, rel=1e-7)
    torch.testing.assert_close(torch.view_as_real(complex_one[0].detach()).permute(1, 0), real[1].detach())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_layout_of_a_parameter_does_not_matter(layout):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    param = values.clone(memory_format=layout).requires_grad_()
    plain = values.clone().requires_grad_()
    for slice_every in (1, 7):
        pair = [INNAprop.lr_free([each], slice_every=slice_every) for each in (param, plain)]
        for _ in range(20):
            for optimizer, each in zip(pair, (param, plain), strict=True):
                each.grad = each.detach().sign()
                optimizer.step()
        assert pair[0].distance == pytest.approx(pair[1].distance, rel=1e-7)
        torch.testing.assert_close(param, plain, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("path", PATHS)
def test_low_precision_follows_single_precision(dtype, path):
    low, single = (torch.linspace(-2, 2, 50, dtype=dtype).to(kind).requires_grad_() for kind in (dtype, torch.float32))
    pair = [INNAprop.lr_free([param], **PATHS[path]) for param in (low, single)]
    for _ in range(200):
        for optimizer, param in zip(pair, (low, single), strict=True):
            param.grad = (param.detach() - 1).sign()
            optimizer.step()
    assert pair[0].distance == pytest.approx(pair[1].distance, rel=0.05)
    assert (low.detach().float() - 1).abs().max() < 0.3  # from a distance of 3


def test_sums_do_not_depend_on_the_number_of_threads():
    generator = torch.Generator().manual_seed(0)
    theta, start, grad = (torch.randn(5 * BLOCK + 3, generator=generator) for _ in range(3))
    share = Share(
        TensorLists([theta], [grad]), [start], [torch.randn(theta.shape, generator=generator)], [], 1, 0.9, 0.5, False
    )
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            found.append(measure([share], torch.device("cpu"), sum_over_ranks=False).tolist())
    finally:
        torch.set_num_threads(threads)
    assert found[0] == found[1] == found[2]
    moved = float((grad.double() * (start.double() - theta.double())).sum())
    assert found[0][0] == pytest.approx(moved, rel=1e-4)


@pytest.mark.parametrize("path", ["foreach", "on device", "fused"])
@pytest.mark.parametrize("means", MEANS)
def test_training_goes_on_bit_for_bit(path, means):
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free(params, slice_every=2, **PATHS[path])
    train(optimizer, params, gradients, range(20))
    other = made_again(optimizer, means, lambda copies: INNAprop.lr_free(copies, slice_every=2))
    theirs = [param for group in other.param_groups for param in group["params"]]
    train(optimizer, params, gradients, range(20, 40))
    train(other, theirs, gradients, range(20, 40))
    assert_equal(optimizer, other)


@pytest.mark.parametrize("path", PATHS)
def test_weights_that_are_loaded_before_the_first_step_are_where_it_starts(path):
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free(params, lr=0.0, **PATHS[path])
    train(optimizer, params, gradients, range(2))  # as torch.distributed.checkpoint creates the state
    with torch.no_grad():
        for param in params:
            param.mul_(-2)
    loaded = [param.detach().clone() for param in params]
    optimizer.param_groups[0]["lr"] = 1.0
    train(optimizer, params, gradients, range(2))
    assert all(torch.equal(optimizer.state[p]["start"], old) for p, old in zip(params, loaded, strict=True))


def test_a_parameter_that_leaves_the_optimizer_is_freed():
    params = parameters(problem()[0])
    optimizer = INNAprop.lr_free(params)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    gone = weakref.ref(params[1])
    del optimizer.state[params[1]], param
    optimizer.param_groups[0]["params"].pop()
    params.pop()
    gc.collect()
    assert gone() is None


def test_state_of_the_other_kind_is_refused():
    free, prop = (kind(parameters(problem()[0])) for kind in (INNAprop.lr_free, INNAprop))
    with pytest.raises(ValueError, match="an INNAprop with a learning rate"):
        free.load_state_dict(prop.state_dict())
    with pytest.raises(ValueError, match=r"INNAprop\.lr_free, whose lr is a factor"):
        prop.load_state_dict(free.state_dict())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("distance", torch.tensor([-1.0]), "distance must be a finite number > 0"),
        ("average_weight", torch.tensor([torch.nan]), "average_weight must be"),
        ("correlation", "many", "correlation must be"),
    ],
)
def test_damaged_numbers_are_refused(name, value, message):
    params = parameters(problem()[0])
    optimizer = INNAprop.lr_free(params)
    saved = optimizer.state_dict()
    saved["param_groups"][0] = {**saved["param_groups"][0], name: value}
    with pytest.raises(ValueError, match=message):
        INNAprop.lr_free(params).load_state_dict(saved)


@pytest.mark.parametrize("name", ["start", "grad_sum"])
def test_damaged_tensors_are_refused(name):
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free(params, slice_every=3)
    train(optimizer, params, gradients, range(2))
    for value in (torch.zeros(2, 2), None):
        saved = copy.deepcopy(optimizer.state_dict())
        saved["state"][1][name] = value
        with pytest.raises(ValueError, match=f"parameter 1, of shape .2, 4.: {name}"):
            optimizer.load_state_dict(saved)


def test_a_late_group_takes_the_distance_that_was_found():
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free(params[:1])
    for k in range(STEPS):
        set_gradients(params, gradients, k)
        optimizer.step()
    optimizer.add_param_group({"params": params[1:]})
    found = optimizer.distance
    assert optimizer.param_groups[1]["distance"] == found > optimizer.defaults["initial_distance"]
    with pytest.raises(ValueError, match="initial_distance must be the same in all groups, got"):
        optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], "initial_distance": 0.5})
    train(optimizer, params, gradients, range(STEPS))
    assert optimizer.param_groups[0]["distance"] == optimizer.param_groups[1]["distance"] >= found


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()  # which numbers change, it knows from tests before
    yield
    torch._dynamo.reset()


# PyTorch's own compiler imports modules that PyTorch itself has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compiled_it_takes_the_same_steps_whatever_the_factor(fresh_compiler):
    start, gradients = problem()
    pair = []
    counter = CompileCounterWithBackend("aot_eager")
    for compiled in (False, True):
        params = parameters(start)
        optimizer = INNAprop.lr_free(params, weight_decay=0.1)
        step = torch.compile(optimizer.step, backend=counter) if compiled else optimizer.step
        scheduler = LambdaLR(optimizer, lambda k: 1 - k / STEPS)
        for k in range(STEPS):
            set_gradients(params, gradients, k)
            step()
            optimizer._opt_called = True
            scheduler.step()
        pair.append((optimizer.distance, params))
    assert counter.frame_count == 2  # the factor becomes an input of the graph when it is seen to change
    assert pair[0][0] > 1e-4
    assert pair[1][0] == pytest.approx(pair[0][0], rel=1e-7)
    for mine, other in zip(pair[1][1], pair[0][1], strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-9)


def test_a_scaled_loss_is_unscaled_and_an_overflow_changes_nothing():
    start, gradients = problem()
    sides = []
    for scaled in (False, True):
        params = parameters(start, torch.float32)
        optimizer = INNAprop.lr_free(params)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8)
        scaler.scale(torch.ones(()))  # creates the scale
        for k in range(20):
            set_gradients(params, gradients, k)
            if not scaled:
                optimizer.step()
                continue
            if k == 10:
                before = copy.deepcopy(optimizer)
                kept = [param.grad.clone() for param in params]
                params[0].grad[0] = torch.inf
                scaler.step(optimizer)
                assert_equal(optimizer, before)
                scaler.update()
                for param, grad in zip(params, kept, strict=True):
                    param.grad = grad
            for param in params:
                param.grad *= scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
        sides.append(optimizer)
    assert_equal(*sides)


BAD = [
    ({"alpha": 0.0}, "alpha must be a finite number > 0"),
    ({"alpha": 0.5, "beta": 3.0}, r"alpha \* beta must be <= 1"),
    ({"time_step": 20.0}, r"alpha \* time_step must be <= 1"),
    ({"time_step": 0.0}, "time_step must be a finite number > 0"),
    ({"initial_distance": 0.0}, "initial_distance must be a finite number > 0"),
    ({"initial_distance": torch.nan}, "initial_distance must be"),
    ({"slice_every": 0}, "slice_every must be"),
    ({"slice_every": 1.5}, "slice_every must be"),
    ({"lr": -1.0}, "lr must be a finite number >= 0"),
    ({"fused": True, "foreach": True}, "fused"),
    ({"differentiable": True}, "differentiable=True needs a learning rate"),
    ({"momentum_dtype": torch.float16}, "momentum_dtype must not be torch.float16"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: str(value))
def test_bad_arguments_are_refused_in_one_sentence(arguments, message):
    params = parameters(problem()[0])
    with pytest.raises(ValueError, match=message):
        INNAprop.lr_free(params, **arguments)
    optimizer = INNAprop.lr_free(params[:1])
    if "initial_distance" not in arguments:
        with pytest.raises(ValueError, match=message):
            optimizer.add_param_group({"params": params[1:], **arguments})


LATER = [
    ({"alpha": 2.0}, r"alpha \* beta must be <= 1"),
    ({"beta": 20.0}, r"alpha \* beta must be <= 1"),
    ({"time_step": 20.0}, r"alpha \* time_step must be <= 1"),
    ({"time_step": torch.nan}, "time_step must be"),
    ({"initial_distance": -1.0}, "initial_distance must be a finite number > 0"),
    ({"slice_every": 3}, "slice_every=3 does not fit the state of a parameter of 8 numbers, which keeps 8"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("changed", "message"), LATER, ids=str)
def test_settings_that_are_changed_are_checked_before_anything_changes(path, changed, message):
    start, gradients = problem()
    params = parameters(start)
    optimizer = INNAprop.lr_free([{"params": params[:1]}, {"params": params[1:]}], **PATHS[path])
    train(optimizer, params, gradients, range(2))
    before, grads = copy.deepcopy(optimizer), [param.grad.clone() for param in params]
    optimizer.param_groups[1].update(changed)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
    with pytest.raises(ValueError, match=message):
        optimizer.step()
    assert_equal(optimizer, before)
    assert all(torch.equal(param.grad, grad) for param, grad in zip(params, grads, strict=True))


def test_rounding_away_the_first_steps_is_refused():
    param = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    optimizer = INNAprop.lr_free([param], kahan=False)
    param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match="kahan must not be False for a parameter in"):
        optimizer.step()
    assert not optimizer.state[param]


@pytest.mark.parametrize("path", PATHS)
def test_without_newtonian_damping_the_first_step_only_fills_the_momentum(path):
    start, gradients = problem()
    params = parameters(start)
    before = [param.detach().clone() for param in params]
    optimizer = INNAprop.lr_free(params, beta=0.0, weight_decay=0.0, **PATHS[path])
    train(optimizer, params, gradients, range(1))
    assert all(torch.equal(param, old) for param, old in zip(params, before, strict=True))
    distances = train(optimizer, params, gradients, range(1, STEPS))
    assert all(np.isfinite(distances))
    assert distances[-1] > 100 * optimizer.defaults["initial_distance"]


def test_it_is_an_innaprop_of_its_own_class():
    optimizer = INNAprop.lr_free(parameters(problem()[0]), 0.5, 1.0, lr=0.25)
    assert type(optimizer) is INNApropLRFree
    assert [optimizer.param_groups[0][name] for name in ("lr", "alpha", "beta")] == [0.25, 0.5, 1.0]
    assert optimizer.distance == dynamics.LR_FREE_DISTANCE
