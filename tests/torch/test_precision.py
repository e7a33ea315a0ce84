"""Low precision: what rounding loses, what Kahan summation and a float32 momentum keep; checkpoints of every dtype.

The task of the first tests is least squares, with the gradients rounded to the dtype under test. An iterate "follows"
the float32 run if it is within one rounding, eps max|theta|, of it; a run "stalls" that ends many roundings off.
"""

from __future__ import annotations

import functools
import io
import itertools
import math

import pytest
import torch

from inna.torch import INNA, INNAprop

LOW = [torch.bfloat16, torch.float16]

# A factor 1 - x with x below half a rounding (bfloat16: 2^-9 = 0.002, float16: 2^-12 = 0.00024) is 1.
# alpha lr, the decay of the momentum in one step, is above that for both dtypes here ...
DECAY_KEPT = {"lr": 0.01, "alpha": 1.0, "beta": 0.1}
# ... and below it for bfloat16 here, where rounding to nearest would lose it.
DECAY_LOST = {"lr": 0.01, "alpha": 0.1, "beta": 0.1}


def iterates(kind, dtype, steps, **settings):
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(64, 16, generator=generator, dtype=torch.float64)
    hessian = points.T @ points / 64
    solution = torch.randn(16, generator=generator, dtype=torch.float64)
    theta = torch.zeros(16, dtype=dtype, requires_grad=True)
    optimizer = kind([theta], weight_decay=0.0, **settings)
    made = []
    for _ in range(steps):
        theta.grad = (hessian @ (theta.detach().double() - solution)).to(dtype)
        optimizer.step()
        made.append(theta.detach().double())
    return torch.stack(made)


@functools.cache
def reference(kind, steps, **settings):
    return iterates(kind, torch.float32, steps, **settings)


def roundings(kind, dtype, steps, *, kahan, momentum_dtype, foreach=None, **settings):
    """max|theta_k - theta_k of the float32 run| after k = 1..steps, in roundings of ``dtype`` at max|theta|."""
    expected = reference(kind, steps, **settings)
    made = iterates(kind, dtype, steps, kahan=kahan, momentum_dtype=momentum_dtype, foreach=foreach, **settings)
    return (made - expected).abs().amax(dim=1) / (torch.finfo(dtype).eps * expected.abs().max())


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", LOW)
def test_plain_rounding_stalls_where_the_compensated_run_follows_float32(dtype, foreach):
    run = functools.partial(roundings, INNA, dtype, 1000, foreach=foreach, **DECAY_KEPT)
    assert run(kahan=False, momentum_dtype=dtype)[-1] > 10
    assert run(kahan=False, momentum_dtype=torch.float32)[-1] > 10  # it is the parameters' rounding that stalls
    # With the momentum in the parameters' dtype the compensated run arrives, though not by the same way.
    alone = run(kahan=True, momentum_dtype=dtype)
    assert alone[-1] < 1
    assert alone.max() > 1
    assert run(kahan=True, momentum_dtype=torch.float32).max() < 1


@pytest.mark.parametrize("foreach", [False, True])
def test_stochastic_rounding_keeps_the_decay_of_the_momentum(foreach):
    # Rounded to nearest, float16 loses it where alpha lr is below half a rounding.
    run = functools.partial(roundings, INNA, torch.bfloat16, 1500, foreach=foreach, **DECAY_LOST)
    assert run(kahan=True, momentum_dtype=torch.bfloat16)[-1] < 2
    assert run(kahan=True, momentum_dtype=torch.float32).max() < 1
    lost = {"lr": 0.01, "alpha": 0.01, "beta": 0.1}
    assert (
        roundings(INNA, torch.float16, 1500, kahan=True, momentum_dtype=torch.float16, foreach=foreach, **lost)[-1] > 3
    )


@pytest.mark.parametrize("dtype", LOW)
def test_innaprop_follows_float32(dtype):
    run = functools.partial(roundings, INNAprop, dtype, 1500, lr=1e-3)
    assert run(kahan=False, momentum_dtype=torch.float32)[-1] > 10
    assert run(kahan=True, momentum_dtype=torch.float32).max() < 1


@pytest.mark.parametrize("kind", [INNA, INNAprop])
@pytest.mark.parametrize("dtype", LOW)
def test_the_defaults_are_the_settings_that_follow(kind, dtype):
    chosen = iterates(kind, dtype, 5, kahan=True, momentum_dtype=torch.float32, lr=0.01)
    assert torch.equal(iterates(kind, dtype, 5, lr=0.01), chosen)
    for other in (torch.float32, torch.float64):
        assert torch.equal(
            iterates(kind, other, 5, lr=0.01), iterates(kind, other, 5, kahan=False, momentum_dtype=other, lr=0.01)
        )


@pytest.mark.parametrize("foreach", [False, True])
@pytest.mark.parametrize("dtype", LOW)
def test_innaprop_takes_zero_and_tiny_gradients(dtype, foreach):
    # In float16 the square of 1e-4 is 0, and so is eps; the state in float32 holds both.
    theta = torch.ones(3, dtype=dtype, requires_grad=True)
    optimizer = INNAprop([theta], lr=0.1, weight_decay=0.0, foreach=foreach)
    theta.grad = torch.tensor([0.0, 1e-4, 1.0], dtype=dtype)
    optimizer.step()
    step = 0.1 * 0.9  # lr beta ghat, with ghat = 0 or 1
    torch.testing.assert_close(theta.detach(), torch.tensor([1.0, 1 - step, 1 - step], dtype=dtype))
    with pytest.raises(ValueError, match=r"momentum_dtype must not be torch\.float16 here"):
        INNAprop([theta], momentum_dtype=torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_sum_of_parameter_and_compensation_is_exact(dtype):
    # Kahan: in exact arithmetic theta + compensation is the plain sum of the steps, whatever the rounding of theta.
    theta = torch.tensor([1.0, 1000.0], dtype=dtype, requires_grad=True)
    optimizer = INNA([theta], lr=1.0, alpha=1.0, beta=1.0, kahan=True)  # alpha beta = 1: gradient descent with step 1
    tiny = torch.finfo(dtype).eps / 16
    for _ in range(1000):
        theta.grad = torch.full_like(theta, tiny)
        optimizer.step()
    moved = theta.detach() - torch.tensor([1.0, 1000.0], dtype=dtype) + optimizer.state[theta]["compensation"]
    torch.testing.assert_close(moved, torch.full_like(moved, -1000 * tiny), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kind", [INNA, INNAprop])
@pytest.mark.parametrize("momentum_dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_momentum_has_the_dtype_asked_for(kind, momentum_dtype):
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.complex64):
        theta = torch.ones(2, 3, dtype=dtype).T.requires_grad_()
        theta.grad = torch.ones_like(theta)
        optimizer = kind([theta], momentum_dtype=momentum_dtype)
        optimizer.step()
        state = optimizer.state[theta]
        expected = momentum_dtype.to_complex() if dtype.is_complex else momentum_dtype
        for name in ("momentum", "exp_avg_sq"):
            if name in state:
                assert state[name].dtype == expected
                assert state[name].stride() == theta.stride()
        assert ("compensation" in state) == (dtype in LOW)
        if "compensation" in state:
            assert state["compensation"].dtype == dtype


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_momentum_in_another_dtype_makes_the_same_iterates(kind):
    # In float64 parameters with float64 gradients, a float32 momentum costs its rounding and nothing else.
    exact = iterates(kind, torch.float64, 100, lr=0.01)
    rounded = iterates(kind, torch.float64, 100, lr=0.01, momentum_dtype=torch.float32)
    assert 0 < (rounded - exact).abs().max() < 100 * torch.finfo(torch.float32).eps


PATHS = {
    "default, fused where there is a kernel": {},
    "single": {"foreach": False},
    "foreach": {"foreach": True},
    "capturable single": {"foreach": False, "capturable": True},
    "capturable foreach": {"foreach": True, "capturable": True, "initial_speed": 1.0},
    "tensor lr": {"lr": torch.tensor(0.02)},
    "differentiable": {"differentiable": True},
}
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.complex64, torch.complex128]


def through_a_file(thing):
    file = io.BytesIO()
    torch.save(thing, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_resumes(kind, dtype, settings, wrap=lambda step: step):
    """Train 3 + 3 steps straight, and 3, a file, 3 more: the same bits in parameters and in state."""

    def parameters():
        generator = torch.Generator().manual_seed(0)
        made = [torch.randn(shape, generator=generator, dtype=dtype) for shape in ((3, 4), (5,), ())]
        # What is differentiated through is no leaf; here no derivative is asked for.
        return [param.requires_grad_(not settings.get("differentiable")) for param in made]

    def train(params, optimizer, seeds):
        step = wrap(optimizer.step)
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            for param in params:
                param.grad = torch.randn(param.shape, generator=generator, dtype=dtype)
            step()

    def construct(params):
        fresh = {name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in settings.items()}
        return kind(params, **fresh)

    params = parameters()
    optimizer = construct(params)
    train(params, optimizer, range(1, 4))
    weights, state = through_a_file([param.detach() for param in params]), through_a_file(optimizer.state_dict())
    train(params, optimizer, range(4, 7))

    resumed = parameters()
    other = construct(resumed)
    for param, weight in zip(resumed, weights, strict=True):
        param.data.copy_(weight)
    other.load_state_dict(state)
    train(resumed, other, range(4, 7))
    for ours, theirs in zip(resumed, params, strict=True):
        assert torch.equal(ours, theirs)
        assert other.state[ours].keys() == optimizer.state[theirs].keys()
        for name, value in optimizer.state[theirs].items():
            assert other.state[ours][name].dtype == value.dtype
            assert torch.equal(other.state[ours][name], value)


@pytest.mark.parametrize("kind", [INNA, INNAprop])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_training_resumes_bit_for_bit(kind, path, dtype):
    low_and_high = [None, torch.bfloat16, torch.float32, torch.float64]
    for momentum_dtype, kahan in itertools.product(low_and_high, (None, True, False)):
        if kahan and path == "differentiable":
            continue
        assert_resumes(kind, dtype, PATHS[path] | {"momentum_dtype": momentum_dtype, "kahan": kahan})


@pytest.mark.parametrize("kind", [INNA, INNAprop])
@pytest.mark.parametrize("dtype", [torch.bfloat16, pytest.param(torch.float32, marks=pytest.mark.slow)], ids=str)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_compiled_training_resumes_bit_for_bit(kind, dtype):
    def wrap(step):
        torch._dynamo.reset()
        return torch.compile(step, backend="aot_eager")

    assert_resumes(kind, dtype, {"lr": torch.tensor(0.02)}, wrap)


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_a_checkpoint_keeps_its_dtype_where_the_settings_ask_for_another(kind):
    # https://github.com/pytorch/pytorch/issues/43706: torch casts all loaded state to the parameter's dtype.
    theta = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    theta.grad = torch.full_like(theta, math.pi)
    saved = kind([theta], momentum_dtype=torch.float64)
    saved.step()
    twin = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    loaded = kind([twin], momentum_dtype=torch.bfloat16)
    loaded.load_state_dict(saved.state_dict())
    assert loaded.state[twin]["momentum"].dtype == torch.float64
    assert torch.equal(loaded.state[twin]["momentum"], saved.state[theta]["momentum"])
    assert loaded.state[twin]["momentum"] is not saved.state[theta]["momentum"]
