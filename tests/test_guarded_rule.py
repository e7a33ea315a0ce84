"""The guarded step's mathematics: its formula, its special cases, and what it promises on convex problems."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from guarded_reference import GuardedGroup, guarded_steps
from inna import dynamics

seeds = st.integers(0, 2**32 - 1)
weights_not_negative = st.tuples(st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.01, 1.0))


def least_squares(seed, dimension=4, samples=12, noise=0.0, batch=3):
    """Mini-batch losses |A theta - b|^2/2 with a solution theta* of loss 0 where there is no noise."""
    rng = np.random.default_rng(seed)
    inputs, solution = rng.normal(size=(samples, dimension)), rng.normal(size=dimension)
    targets = inputs @ solution + noise * rng.normal(size=samples)
    order = [rng.choice(samples, size=batch, replace=False) for _ in range(200)]

    def evaluate(k, thetas):
        rows = order[k % len(order)]
        theta = np.concatenate(thetas)
        residual = inputs[rows] @ theta - targets[rows]
        grad = inputs[rows].T @ residual / batch
        splits = np.cumsum([len(part) for part in thetas])[:-1]
        return float(residual @ residual / (2 * batch)), np.split(grad, splits)

    return evaluate, rng.normal(size=dimension), solution


def step_one(group, loss, grad, bound=0.0):
    factor = dynamics.guard_factor([group.terms(loss, grad)], bound)
    group.step(loss, grad, factor)
    return factor


@given(seeds, weights_not_negative, st.floats(1e-3, 100.0), st.floats(0.0, 2.0))
def test_one_group_takes_the_closed_form(seed, setting, lr, bound):
    alpha, beta, h = setting
    evaluate, theta, _ = least_squares(seed, noise=0.3)
    m, phi, weight = np.zeros_like(theta), 0.0, 0.0
    lengths = []
    group = GuardedGroup(theta.copy(), lr, alpha, beta, h)
    factors = guarded_steps([group], evaluate, 12, bound)
    for k in range(12):
        f, (g,) = evaluate(k, [theta])
        u = m + beta * g
        gap = phi + m @ theta + beta * f - (weight + beta) * bound
        e = min(lr, max(gap, 0.0) / (u @ u))
        c, keep = h * (1 - alpha * beta), 1 - alpha * h
        phi, weight = keep * phi + c * (f - g @ theta), keep * weight + c
        theta, m = theta - e * u, keep * m + c * g
        lengths.append(e)
    np.testing.assert_allclose(np.array(factors) * lr, lengths, rtol=1e-6, atol=1e-9 * lr)
    np.testing.assert_allclose(group.theta, theta, rtol=0, atol=1e-7 * max(1.0, np.abs(theta).max()))
    assert group.memory.loss + group.memory.offset == pytest.approx(phi, abs=1e-8 * max(1.0, abs(group.memory.loss)))


@given(seeds, weights_not_negative, st.integers(1, 3))
def test_groups_with_equal_settings_are_one_group(seed, setting, cut):
    alpha, beta, h = setting
    evaluate, theta, _ = least_squares(seed, noise=0.3)
    whole = [GuardedGroup(theta.copy(), 5.0, alpha, beta, h, initial_speed=1.0)]
    parts = [GuardedGroup(part.copy(), 5.0, alpha, beta, h, initial_speed=1.0) for part in np.split(theta, [cut])]
    expected, made = guarded_steps(whole, evaluate, 15), guarded_steps(parts, evaluate, 15)
    np.testing.assert_allclose(made, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(np.concatenate([p.theta for p in parts]), whole[0].theta, rtol=1e-6, atol=1e-7)


@given(seeds, weights_not_negative, st.floats(1e-2, 10.0))
def test_weights_are_not_negative_and_their_total_tends_to_one_over_alpha(seed, setting, lr):
    alpha, beta, h = setting
    assume(alpha * h > 0.02)
    newest, weights = beta, []
    for _ in range(int(40 / (alpha * h))):
        weights = [dynamics.update_average(w, 0.0, h, alpha, beta) for w in weights]
        weights.append(dynamics.update_average(0.0, 1.0, h, alpha, beta))
        assert weights[0] >= 0
        assert weights[-1] >= 0
    assert sum(weights) + newest == pytest.approx(1 / alpha, rel=1e-9)


@given(seeds, weights_not_negative)
def test_a_cut_step_takes_the_averaged_model_to_the_bound_and_no_step_below(seed, setting):
    alpha, beta, h = setting
    evaluate, theta, _ = least_squares(seed, noise=0.3)
    group, models = GuardedGroup(theta, 3.0, alpha, beta, h), []
    for k in range(20):
        f, (g,) = evaluate(k, [group.theta])
        weighted = [*models, (beta, f, g, group.theta)]
        before = group.theta
        factor = step_one(group, f, g)

        def average(at, weighted=weighted):
            return sum(w * (fi + gi @ (at - ti)) for w, fi, gi, ti in weighted) / sum(w for w, *_ in weighted)

        value = average(group.theta)
        tolerance = 1e-7 * max(1.0, abs(average(before)))
        if average(before) >= 0:
            assert value >= -tolerance
            if factor < 1:
                assert abs(value) <= tolerance
        else:
            assert factor == 0
        models = [(w * (1 - alpha * h), *rest) for w, *rest in models] + [(h * (1 - alpha * beta), f, g, before)]


@given(seeds, st.floats(0.05, 1.0), st.floats(0.05, 20.0))
def test_without_inertia_it_is_the_stochastic_polyak_step(seed, beta, lr):
    evaluate, theta, _ = least_squares(seed)
    group = GuardedGroup(theta.copy(), lr, 1 / beta, beta, time_step=beta)
    for k in range(20):
        f, (g,) = evaluate(k, [theta])
        if g @ g < 1e-20:
            break
        theta = theta - min(lr * beta, f / (g @ g)) * g
        step_one(group, f, g)
        np.testing.assert_allclose(group.theta, theta, rtol=1e-8, atol=1e-8)


@settings(max_examples=15)
@given(seed=seeds, bound=st.sampled_from([0.0, 0.05]), mu=st.floats(0.1, 0.95), lr=st.floats(0.01, 10.0))
def test_with_all_three_lengths_equal_it_is_momo(seed, bound, mu, lr):
    optax = pytest.importorskip("optax")
    jnp = pytest.importorskip("jax.numpy")
    evaluate, theta, _ = least_squares(seed, noise=0.3)
    # MoMo's average has total weight 1 from the first step on, which is the initial speed 1/alpha.
    alpha, beta = ((1 - mu) / lr) ** 0.5, (lr * (1 - mu)) ** 0.5
    group = GuardedGroup(theta.copy(), beta, alpha, beta, initial_speed=1 / alpha)
    momo = optax.contrib.momo(learning_rate=lr, beta=mu, lower_bound=bound)
    params = jnp.asarray(theta)
    state = momo.init(params)
    for k in range(8):
        f, (g,) = evaluate(k, [np.asarray(params, dtype=float)])
        # Each rule is compared at the other's iterate, so that float32 does not accumulate.
        group.theta = np.asarray(params, dtype=float)
        if k == 0:
            group.start(f, g)
        step_one(group, f, g, bound)
        updates, state = momo.update(jnp.asarray(g), state, params, value=f)
        params = optax.apply_updates(params, updates)
        scale = max(1.0, np.abs(group.theta).max())
        np.testing.assert_allclose(group.theta, params, rtol=0, atol=2e-3 * scale)
        if scale > 1e3:
            break


@given(seeds, weights_not_negative, st.floats(1e-2, 1e3))
def test_full_batch_steps_never_move_away_from_a_solution_of_loss_at_the_bound(seed, setting, lr):
    alpha, beta, h = setting
    evaluate, theta, solution = least_squares(seed, batch=12)
    group = GuardedGroup(theta, lr, alpha, beta, h)
    distance = np.linalg.norm(theta - solution)
    for k in range(60):
        f, (g,) = evaluate(k, [group.theta])
        step_one(group, f, g)
        after = np.linalg.norm(group.theta - solution)
        assert after <= distance * (1 + 1e-9) + 1e-9
        distance = after


@given(seeds, weights_not_negative)
def test_the_step_is_inna_s_where_the_guard_does_not_bind(seed, setting):
    alpha, beta, lr = setting
    evaluate, theta, _ = least_squares(seed)
    group = GuardedGroup(theta.copy(), lr, alpha, beta)
    factors = guarded_steps([group], evaluate, 20, loss_bound=-1e200)
    assert factors == [1.0] * 20
    momentum = np.zeros_like(theta)
    for k in range(20):
        _, (g,) = evaluate(k, [theta])
        theta, momentum = dynamics.step(theta, momentum, g, lr, alpha, beta)
    np.testing.assert_array_equal(group.theta, theta)


def test_a_group_that_does_not_move_has_no_say_in_the_loss():
    moving = dynamics.guard_terms(dynamics.NO_MEMORY, 1.0, 0.0, 4.0, lr=1.0, beta=1.0)
    still = dynamics.guard_terms(dynamics.GuardMemory(1.0, 50.0, 0.0), 1.0, 0.0, 0.0, lr=1.0, beta=0.5)
    assert dynamics.guard_factor([moving, still], 0.0) == dynamics.guard_factor([moving], 0.0) == 0.25


def test_without_weight_or_gradient_the_step_is_whole():
    nothing = dynamics.guard_terms(dynamics.NO_MEMORY, 1.0, 0.0, 0.0, lr=1.0, beta=0.0)
    assert dynamics.guard_factor([nothing], 0.0) == 1.0
