"""What the guarded step promises on convex problems, and that each condition is needed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guarded_reference import GuardedGroup
from inna import dynamics
from inna.theory.demonstrations.guard import follow_guarded

seeds = st.integers(0, 2**32 - 1)
# alpha, and beta and h as shares of 1/alpha.
dampings = st.tuples(st.floats(0.03, 3.0), st.floats(0.02, 1.0), st.floats(0.02, 1.0))


def convex(seed, exponent, noise=0.0, batch=3):
    """Mini-batch losses mean |A theta - b|^p / p, theta_0, and the solution of A theta = b without noise."""
    rng = np.random.default_rng(seed)
    inputs, solution = rng.normal(size=(12, 4)), rng.normal(size=4)
    targets = inputs @ solution + noise * rng.normal(size=12)
    order = [rng.choice(12, size=batch, replace=False) for _ in range(100)]

    def losses(k, theta):
        return np.abs(inputs[order[k % 100]] @ theta - targets[order[k % 100]]) ** exponent / exponent

    def evaluate(k, theta):
        rows = order[k % 100]
        residual = inputs[rows] @ theta - targets[rows]
        slope = np.sign(residual) * np.abs(residual) ** (exponent - 1)
        return float(np.mean(losses(k, theta))), inputs[rows].T @ slope / batch

    return evaluate, rng.normal(size=4), solution


def caps(seed, lowest, highest):
    """A learning rate of its own for each step."""
    drawn = 10 ** np.random.default_rng(seed).uniform(np.log10(lowest), np.log10(highest), 1000)
    return lambda k: float(drawn[k])


def excess(path, point):
    """|theta' - p|² + e gap - |theta - p|², over 1 + |theta - p|²; the guarantee is that it is <= 0."""
    square = np.sum((path.theta - point) ** 2, axis=1)
    gap = np.maximum(path.weight * path.before, 0.0)
    return (np.diff(square) + path.lr * gap) / (1 + square[:-1])


@given(seeds, dampings, st.sampled_from([1.0, 1.5, 2.0, 4.0]), st.booleans(), st.floats(1.0, 5.0))
@example(0, (0.5, 0.2, 0.05), 2.0, True, 1.0)
@example(1, (1.0, 1.0, 1.0), 1.0, False, 5.0)
def test_no_step_moves_away_from_a_point_where_no_loss_is_above_the_bound(seed, damping, exponent, fixed, speed):
    alpha, share, h_share = damping
    beta, h = share / alpha, h_share / alpha
    evaluate, start, solution = convex(seed, exponent)
    lr = caps(seed, 1e-3, 1e3) if fixed else caps(seed, 1e-3 / alpha, 1 / alpha)
    path = follow_guarded(
        evaluate, start, lr, alpha, beta, 40, time_step=h if fixed else None, initial_speed=speed * beta
    )
    assert np.max(excess(path, solution)) <= 1e-9
    assert np.sum(path.lr * np.maximum(path.weight * path.before, 0)) <= np.sum((start - solution) ** 2) * (1 + 1e-9)


@given(seeds, dampings)
def test_it_holds_for_every_such_point_not_for_the_minimiser_alone(seed, damping):
    """With noise, and the bound where a point p brings every mini-batch loss below it, p need not minimise any."""
    alpha, share, h_share = damping
    evaluate, start, solution = convex(seed, 2.0, noise=0.5)
    bound = max(evaluate(k, solution)[0] for k in range(100))
    path = follow_guarded(
        evaluate, start, lambda k: 10.0, alpha, share / alpha, 40, time_step=h_share / alpha, loss_bound=bound
    )
    assert np.max(excess(path, solution)) <= 1e-9


@given(seeds, dampings, st.booleans())
def test_the_model_never_falls_below_its_bound_whatever_the_problem(seed, damping, fixed):
    alpha, share, h_share = damping
    rng = np.random.default_rng(seed)
    values, gradients = rng.normal(size=30), rng.normal(size=(30, 4))  # no loss has these: nothing is convex
    path = follow_guarded(
        lambda k, theta: (values[k], gradients[k]),
        rng.normal(size=4),
        caps(seed, 1e-2, 10.0) if fixed else caps(seed, 1e-2 / alpha, 1 / alpha),
        alpha,
        share / alpha,
        30,
        time_step=h_share / alpha if fixed else None,
    )
    scale = 1e-9 * (1 + np.abs(path.before))
    assert np.all(path.after >= np.minimum(path.before, 0) - scale)
    cut = (path.factor < 1) & (path.before > 0)
    assert np.all(np.abs(path.after[cut]) <= scale[cut])
    np.testing.assert_array_equal(path.theta[1:][path.before < 0], path.theta[:-1][path.before < 0])


def largest_rise(groups, evaluate, solution, steps=60, bound=0.0, metric=1.0):
    theta = np.concatenate([group.theta for group in groups])
    squares = [np.sum(metric * (theta - solution) ** 2)]
    cut = np.cumsum([len(group.theta) for group in groups])[:-1]
    for k in range(steps):
        loss, grad = evaluate(k, theta)
        pairs = list(zip(groups, np.split(grad, cut), strict=True))
        factor = dynamics.guard_factor([group.terms(loss, part) for group, part in pairs], bound)
        for group, part in pairs:
            group.step(loss, part, factor)
        theta = np.concatenate([group.theta for group in groups])
        squares.append(np.sum(metric * (theta - solution) ** 2))
    return np.max(np.diff(squares) / (1 + np.array(squares[:-1])))


def two_groups(start, **second):
    settings = {"lr": 5.0, "alpha": 0.5, "beta": 0.5, "time_step": 0.2}
    return [GuardedGroup(start[:2].copy(), **settings), GuardedGroup(start[2:].copy(), **{**settings, **second})]


@given(seeds, st.floats(0.02, 50.0))
def test_groups_whose_learning_rates_alone_differ_keep_a_weighted_distance(seed, other):
    evaluate, start, solution = convex(seed, 2.0)
    metric = np.repeat([1 / 5.0, 1 / other], 2)
    assert largest_rise(two_groups(start, lr=other), evaluate, solution, metric=metric) <= 1e-9


@pytest.mark.parametrize("second", [{"alpha": 0.05}, {"beta": 0.05}, {"time_step": 0.01}], ids=str)
def test_groups_that_differ_otherwise_may_move_away(second):
    rises = []
    for seed in range(40):
        evaluate, start, solution = convex(seed, 2.0)
        rises.append(largest_rise(two_groups(start, **second), evaluate, solution))
    assert max(rises) > 0.01


def test_each_condition_is_needed():
    """A bound below what can be reached, losses that are not convex, negative weights, no guard."""
    evaluate, start, solution = convex(0, 2.0)
    setting = {"alpha": 0.5, "beta": 0.5, "time_step": 0.2}

    def rise(evaluate=evaluate, bound=0.0, start=start, **changed):
        group = GuardedGroup(start.copy(), 5.0, **{**setting, **changed})
        return largest_rise([group], evaluate, solution, bound=bound, steps=20)

    assert rise() <= 1e-9
    assert rise(bound=-1.0) > 0.01
    assert rise(bound=-1e9) > 1  # plain INNA
    assert rise(beta=6.0) > 0.01  # alpha beta = 3

    def not_convex(k, theta):
        """1 - cos of each residual, whose minimum at the solution is 0 too."""
        return float(np.sum(1 - np.cos(theta - solution))), np.sin(theta - solution)

    assert rise(not_convex, start=solution + 1) <= 1e-9  # quasar-convex so near the solution
    assert rise(not_convex, start=solution + 4) > 0.01


def test_where_the_guard_never_binds_it_is_inna():
    evaluate, start, _ = convex(3, 2.0)
    path = follow_guarded(evaluate, start, lambda k: 0.05, 0.5, 0.1, 100, loss_bound=-1e200, initial_speed=1.0)
    theta, momentum = start, dynamics.initial_momentum(evaluate(0, start)[1], 0.1, 1.0)
    for k in range(100):
        theta, momentum = dynamics.step(theta, momentum, evaluate(k, theta)[1], 0.05, 0.5, 0.1)
        np.testing.assert_array_equal(path.theta[k + 1], theta)
        np.testing.assert_array_equal(path.momentum[k + 1], momentum)
    assert np.all(path.factor == 1)


@pytest.mark.parametrize(("alpha", "beta", "h"), [(1.0, 2.0, 0.1), (2.0, 0.1, 1.0)])
def test_negative_weights_are_refused(alpha, beta, h):
    with pytest.raises(ValueError, match="past gradients would have negative weights"):
        follow_guarded(lambda k, t: (float(t @ t), 2 * t), np.ones(2), lambda k: 0.1, alpha, beta, 3, time_step=h)
