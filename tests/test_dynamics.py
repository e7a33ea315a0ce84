"""The rule against its equivalents: the phase form, the flow, SGD, quasi-hyperbolic momentum, INNAprop as published."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inna import dynamics
from inna.checks import check_range
from inna.dynamics import field, from_sgd, initial_momentum, momentum_from_phase, phase_from_momentum, step
from recorded import gradient, theta0

dampings = st.floats(0.05, 3.0)
step_sizes = st.lists(st.floats(1e-3, 0.2), min_size=1, max_size=60)


def iterate(lrs, alpha, beta, momentum=None, theta=None, grad=gradient):
    theta = theta0() if theta is None else theta
    momentum = np.zeros_like(theta) if momentum is None else momentum
    for lr in lrs:
        theta, momentum = step(theta, momentum, grad(theta), lr, alpha, beta)
    return theta, momentum


def assert_close(ours, theirs, tolerance=1e-12):
    scale = max(1.0, np.abs(theirs).max())
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * scale)


@given(dampings, st.floats(0.05, 1.0), step_sizes)
def test_the_momentum_form_makes_the_iterates_of_the_phase_form(alpha, beta, lrs):
    theta, psi = theta0(), (1 - alpha * beta) * theta0()
    for lr in lrs:
        velocity_theta, velocity_psi = field(theta, psi, gradient(theta), alpha, beta)
        theta, psi = theta + lr * velocity_theta, psi + lr * velocity_psi
    ours, momentum = iterate(lrs, alpha, beta)
    if np.abs(theta).max() < 1e3:
        assert_close(ours, theta, 1e-11)
        assert_close(phase_from_momentum(ours, momentum, alpha, beta), psi, 1e-11)


@given(dampings, dampings, st.integers(0, 2**32 - 1))
def test_phase_and_momentum_are_inverse(alpha, beta, seed):
    theta, momentum = np.random.default_rng(seed).normal(size=(2, 5))
    psi = phase_from_momentum(theta, momentum, alpha, beta)
    assert_close(momentum_from_phase(theta, psi, alpha, beta), momentum, 1e-13)


@given(dampings, dampings, st.floats(-2, 2), st.floats(1e-3, 0.5))
def test_the_initial_velocity_is_minus_speed_times_gradient(alpha, beta, speed, lr):
    theta, grad = theta0(), gradient(theta0())
    after, _ = step(theta, initial_momentum(grad, beta, speed), grad, lr, alpha, beta)
    assert_close((after - theta) / lr, -speed * grad, 1e-11)
    # the paper's psi_0 = (1 - alpha beta) theta_0 - (beta^2 - s beta) grad
    psi = (1 - alpha * beta) * theta - (beta**2 - speed * beta) * grad
    assert_close(momentum_from_phase(theta, psi, alpha, beta), initial_momentum(grad, beta, speed))
    assert np.all(initial_momentum(grad, beta) == 0)


@given(dampings, dampings, st.floats(-2, 2), step_sizes, st.integers(0, 2**32 - 1))
def test_an_initial_speed_is_a_step_whose_length_no_learning_rate_changes(alpha, beta, speed, lrs, seed):
    grads = np.random.default_rng(seed).normal(size=(len(lrs), 5))
    ends = []
    for s in (speed, beta):
        theta, momentum = np.zeros(5), initial_momentum(grads[0], beta, s)
        for lr, grad in zip(lrs, grads, strict=True):
            theta, momentum = step(theta, momentum, grad, lr, alpha, beta)
        ends.append(theta)
    kept = math.prod(1 - alpha * lr for lr in lrs)
    assert_close(ends[0] - ends[1], -(speed - beta) / alpha * (1 - kept) * grads[0], 1e-12)


@given(dampings, st.floats(1e-3, 0.1), st.integers(1, 60))
def test_alpha_beta_one_is_gradient_descent(alpha, lr, steps):
    beta = 1 / alpha
    lr = min(lr, 0.1 / beta)
    theta = theta0()
    for _ in range(steps):
        theta = theta - lr * beta * gradient(theta)
    assert_close(iterate([lr] * steps, alpha, beta)[0], theta)


@pytest.mark.parametrize(
    ("momentum", "nesterov"), [(0.0, False), (0.5, False), (0.95, False), (0.5, True), (0.95, True)]
)
def test_sgd_with_momentum(momentum, nesterov):
    theta, buffer = theta0(), np.zeros(6)
    for _ in range(300):
        buffer = momentum * buffer + gradient(theta)
        theta = theta - 0.01 * (gradient(theta) + momentum * buffer if nesterov else buffer)
    assert_close(
        iterate([from_sgd(0.01, momentum, nesterov).lr] * 300, *from_sgd(0.01, momentum, nesterov)[1:])[0], theta
    )


def test_the_default_is_a_heavy_ball():
    lr, alpha, beta = dynamics.INNA_DEFAULTS
    assert from_sgd(0.01, 0.95) == pytest.approx((lr, alpha, beta), rel=1e-12)


@given(st.floats(0.1, 3), st.floats(0.01, 2), st.floats(1e-3, 0.1), st.integers(1, 60))
def test_quasi_hyperbolic_momentum_at_constant_step(alpha, beta, lr, steps):
    # Ma and Yarats 2019: d = (1 - mu) g + mu d, theta -= eta ((1 - nu) g + nu d)
    eta, mu, nu = lr / alpha, 1 - alpha * lr, (1 - alpha * beta) / (1 - alpha * lr)
    steps = steps if lr * (alpha + 9 * beta) < 2 else 1
    theta, average = theta0(), np.zeros(6)
    for _ in range(steps):
        grad = gradient(theta)
        average = mu * average + (1 - mu) * grad
        theta = theta - eta * ((1 - nu) * grad + nu * average)
    ours, _ = iterate([lr] * steps, alpha, beta)
    assert_close(ours, theta, 1e-11)


def test_the_flow_is_the_limit_of_small_steps():
    # first order: halving the step halves the distance to a run with steps 64 times as small
    alpha, beta, end = 0.7, 0.3, 1.0
    fine, _ = iterate([end / 2**14] * 2**14, alpha, beta)
    errors = [np.abs(iterate([end / n] * n, alpha, beta)[0] - fine).max() for n in (64, 128, 256)]
    slopes = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert slopes == pytest.approx([1.0, 1.0], abs=0.05)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (0.5, 0.01)])
def test_single_precision_loses_at_most_a_third_of_what_the_phase_form_loses(alpha, beta):
    def run(dtype, form):
        theta = theta0().astype(dtype)
        grad = lambda t: np.arange(1, 7, dtype=dtype) * t + np.sin(dtype(3) * t) - dtype(0.5)  # noqa: E731
        a, b = dtype(alpha), dtype(beta)
        second = np.zeros_like(theta) if form == "momentum" else (1 - a * b) * theta
        for k in range(2000):
            lr = dtype(0.01 * (k + 1) ** -0.125)
            if form == "momentum":
                theta, second = step(theta, second, grad(theta), lr, a, b)
            else:
                d_theta, d_psi = field(theta, second, grad(theta), a, b)
                theta, second = theta + lr * d_theta, second + lr * d_psi
        return theta.astype(np.float64)

    exact = run(np.float64, "momentum")
    errors = {form: np.abs(run(np.float32, form) - exact).max() for form in ("momentum", "phase")}
    assert errors["momentum"] <= errors["phase"] / 3, errors


@given(
    st.floats(0.05, 2), st.floats(0.2, 2), st.floats(0, 0.5), st.lists(st.floats(1e-3, 0.1), min_size=1, max_size=30)
)
def test_innaprop_as_published(alpha, beta, decay, lrs):
    # arXiv 2410.05871: psi first, then theta through psi_new, dividing by beta - gamma
    theta, v = theta0(), np.zeros(6)
    psi = (1 - alpha * beta) * theta
    ours, m, w = theta0(), np.zeros(6), np.zeros(6)
    for k, lr in enumerate(lrs):
        grad = gradient(theta)
        theta = (1 - lr * decay) * theta
        v = 0.9 * v + 0.1 * grad**2
        ghat = grad / (np.sqrt(v / (1 - 0.9 ** (k + 1))) + 1e-8)
        psi = (1 - lr / beta) * psi + lr * (1 / beta - alpha) * theta
        theta = (1 + lr * (1 - alpha * beta) / (beta - lr)) * theta - lr / (beta - lr) * psi - lr * beta * ghat

        grad = gradient(ours)
        ours, m = dynamics.decay_innaprop(ours, m, lr, alpha, beta, decay)
        ghat, w = dynamics.rescale(grad, w, k + 1, 0.9, 1e-8)
        ours, m = step(ours, m, ghat, lr, alpha, beta)
        # Rescaling by |g| where g is near 0 amplifies rounding: compare step by step from the published iterate.
        assert_close(ours, theta, 1e-9)
        ours, w = theta.copy(), v.copy()
        m = momentum_from_phase(theta, psi, alpha, beta)


def test_innaprop_allows_lr_equal_to_beta():
    theta, momentum = dynamics.decay_innaprop(1.0, 0.2, lr=0.5, alpha=0.1, beta=0.5, weight_decay=0.1)
    assert step(theta, momentum, 1.0, lr=0.5, alpha=0.1, beta=0.5)[0] == pytest.approx(0.95 - 0.5 * (0.295 + 0.5))


def frameworks():
    import jax.numpy as jnp
    import torch

    return {
        "float": float,
        "numpy": lambda x: np.full((2, 3), x),
        "torch": lambda x: torch.full((2, 3), x, dtype=torch.float64),
        "jax": lambda x: jnp.full((2, 3), x, dtype=jnp.float32),
    }


@pytest.mark.parametrize("framework", ["float", "numpy", "torch", "jax"])
def test_every_framework_runs_every_function(framework):
    make = frameworks()[framework]
    tolerance = 1e-6 if framework == "jax" else 1e-14

    def check(function, *arrays, **scalars):
        expected, made = function(*arrays, **scalars), function(*(make(x) for x in arrays), **scalars)
        if not isinstance(expected, tuple):
            expected, made = (expected,), (made,)
        for ours, exact in zip(made, expected, strict=True):
            assert type(ours) is type(make(0.0))
            np.testing.assert_allclose(np.asarray(ours), np.full(np.shape(make(0.0)), exact), rtol=tolerance)

    check(field, 1.3, 0.4, -0.7, alpha=0.5, beta=0.1)
    check(step, 1.3, 0.4, -0.7, lr=0.1, alpha=0.5, beta=0.1)
    check(momentum_from_phase, 1.3, 0.4, alpha=0.5, beta=0.1)
    check(phase_from_momentum, 1.3, 0.4, alpha=0.5, beta=0.1)
    check(initial_momentum, 1.3, beta=0.1, initial_speed=1.0)
    check(dynamics.rescale, 1.3, 0.4, count=3, sigma=0.9, eps=1e-3)
    check(step, 1.3, 0.4, -0.7, lr=0.1, alpha=0.5, beta=0.1, time_step=0.2)
    check(dynamics.accumulate, 1.3, 0.4, weight=0.5, sigma=0.9)
    for distance, correlation, norm in ((0.5, 3.0, 4.0), (0.5, 1.0, 4.0), (0.5, 0.0, 0.0)):
        check(dynamics.grow_distance, distance, correlation, norm)
    check(lambda loss, theta: tuple(dynamics.initial_memory(loss, theta, 0.1, 1.0))[1:], 1.3, 0.4)
    memory = dynamics.GuardMemory(1.5, 2.0, -1.0)
    check(lambda loss, theta: tuple(dynamics.update_memory(memory, loss, theta, 0.1, 0.5, 0.1))[1:], 1.3, 0.4)
    for lr in (0.0, 0.1, 3.0):
        check(
            lambda loss, theta, norm, lr=lr: dynamics.guard_factor(
                [dynamics.guard_terms(memory, loss, theta, norm, lr, 0.1)] * 2, 0.2
            ),
            *(1.3, 0.4, 2.5),
        )
    check(dynamics.decay_innaprop, 1.3, 0.4, lr=0.1, alpha=0.5, beta=0.1, weight_decay=0.2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.0,), "lr must be a finite number > 0, got 0.0"),
        ((-1.0,), "lr must be a finite number > 0, got -1.0"),
        ((math.nan,), "lr must be a finite number > 0, got nan"),
        ((0.1, 1.5), "momentum must be a finite number >= 0 and <= 1, got 1.5"),
        ((0.1, 0.0, True), "nesterov=True needs a momentum > 0, got momentum=0.0"),
    ],
)
def test_from_sgd_refuses(arguments, words):
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        from_sgd(*arguments)


def test_the_phase_needs_beta():
    for call in (
        lambda: field(1.0, 1.0, 1.0, 0.5, 0),
        lambda: momentum_from_phase(1.0, 1.0, 0.5, 0.0),
        lambda: dynamics.decay_innaprop(1.0, 1.0, 0.1, 0.5, 0.0, 0.1),
    ):
        with pytest.raises(ValueError, match=r"beta must be > 0 here"):
            call()
    assert step(1.0, 0.0, 1.0, 0.1, 0.5, 0.0) == (1.0, 0.1)


@pytest.mark.parametrize("value", [True, "1", None, [1.0], math.inf, 2.0, 1.0])
def test_check_range_refuses(value):
    with pytest.raises(ValueError, match="x must be a finite number >= 0 and < 1, got"):
        check_range("x", value, minimum=0.0, below=1.0)
