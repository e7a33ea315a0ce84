"""Runs side by side against the rule one by one, and where they end."""

from __future__ import annotations

import numpy as np
import pytest

from inna.dynamics import initial_momentum, step
from inna.schedules import log_decay, power_decay
from inna.theory.avoidance import Runs, escape_from, mini_batch_runs, reversible_lr
from inna.theory.objectives import BEALE, DOUBLE_WELL, SPURIOUS_CORNER, SPURIOUS_VALLEY
from inna.theory.stability import roots


def test_runs_follow_the_rule() -> None:
    rng = np.random.default_rng(0)
    starts, momenta = rng.standard_normal((5, 2)), rng.standard_normal((5, 2))
    runs = mini_batch_runs(SPURIOUS_CORNER, starts, momenta, 0.5, 0.2, power_decay(0.5), 40, seed=7)
    draws = np.random.default_rng(7)
    theta, momentum = list(starts), list(momenta)
    for k in range(40):
        terms = draws.integers(4, size=5)
        for row, term in enumerate(terms):
            grad = 4 * SPURIOUS_CORNER.term_gradients(theta[row])[term]
            theta[row], momentum[row] = step(theta[row], momentum[row], grad, (k + 1) ** -0.5, 0.5, 0.2)
    np.testing.assert_array_equal(runs.theta, theta)
    np.testing.assert_array_equal(runs.momentum, momentum)


@pytest.mark.parametrize("decay", [power_decay(0.5), power_decay(1.0), log_decay(2.0)], ids=["sqrt", "1/k", "log"])
def test_no_run_ends_at_a_spurious_point(decay) -> None:
    """Steps that Theorem 3 allows; those started at rest on the point stay there, bit for bit."""
    rng = np.random.default_rng(1)
    starts = np.vstack([rng.uniform(-2, 2, (100, 1)), np.zeros((10, 1))])
    momenta = np.vstack([rng.standard_normal((100, 1)), np.zeros((10, 1))])
    lr = 2.0 if decay(1) == 0.5 else 0.2  # 1/k needs a large first step to get anywhere
    runs = mini_batch_runs(SPURIOUS_VALLEY, starts, momenta, 0.5, 0.1, lambda k: lr * decay(k), 3000)
    at_spurious = runs.ended_at(SPURIOUS_VALLEY.spurious_points, 1e-2)
    np.testing.assert_array_equal(at_spurious, [False] * 100 + [True] * 10)
    np.testing.assert_array_equal(runs.theta[100:], 0)
    if decay(1) != 0.5:
        assert np.median(np.abs(runs.theta[:100] + 1)) < 0.2


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 1.0), (1.0, 1.1), (1.0, 0.1)])
def test_escapes_take_as_long_as_the_largest_root_says(alpha: float, beta: float) -> None:
    starts = 1e-9 * np.random.default_rng(2).standard_normal((200, 2))
    lr = reversible_lr(alpha, beta, 50.0)
    escape = escape_from([0.0, 0.0], DOUBLE_WELL, starts, lr, alpha, beta, 1000, initial_speed=1.0)
    factor = np.abs(roots(lr, alpha, beta, -8.0)).max()
    predicted = np.log(0.5 / np.abs(starts[:, 0])) / np.log(factor)
    # A constant shift (how much of the start lies along the growing direction), the same for all runs.
    shift = escape.iterations - predicted
    assert np.max(shift) - np.min(shift) < 2.5
    assert abs(np.median(shift)) < 0.05 * np.median(predicted) + 5
    assert np.all(escape.runs.ended_at(DOUBLE_WELL.minimisers, 1e-3))


def test_a_start_on_the_stable_manifold_stays() -> None:
    """Zero measure, and there: t1 = 0 exactly."""
    escape = escape_from([0.0, 0.0], DOUBLE_WELL, [[0.0, 1.0]], 0.02, 0.5, 1.0, 3000)
    assert escape.iterations[0] == 0  # it begins outside the radius ...
    assert np.linalg.norm(escape.runs.theta[0]) < 1e-6  # ... and ends in the saddle


def test_escape_runs_follow_the_rule() -> None:
    theta = np.array([[0.3, 0.2]])
    momentum = initial_momentum(DOUBLE_WELL.gradient(theta), 0.1, 1.0)
    escape = escape_from([0.0, 0.0], DOUBLE_WELL, theta, 0.05, 0.5, 0.1, 60, initial_speed=1.0)
    first = -1
    for k in range(60):
        if first < 0 and np.linalg.norm(theta) > 0.5:
            first = k
        theta, momentum = step(theta, momentum, DOUBLE_WELL.gradient(theta), 0.05, 0.5, 0.1)
    np.testing.assert_array_equal(escape.runs.theta, theta)
    assert escape.iterations[0] == first > 0


@pytest.mark.parametrize(("alpha", "beta", "lipschitz"), [(0.5, 1.0, 50.0), (1.0, 0.1, 10.0), (0.1, 0.1, 50.0)])
def test_below_the_reversible_step_the_iteration_is_invertible(alpha: float, beta: float, lipschitz: float) -> None:
    lr = reversible_lr(alpha, beta, lipschitz)
    curvatures = np.linspace(-lipschitz, lipschitz, 2001)
    determinants = np.prod(roots(0.999 * lr, alpha, beta, curvatures), axis=1)
    assert np.min(determinants.real) > 0


def test_bad_arguments_are_refused() -> None:
    points = np.zeros((3, 1))
    with pytest.raises(ValueError, match="given as a sum of terms, and Beale is not"):
        mini_batch_runs(BEALE, np.zeros((1, 2)), np.zeros((1, 2)), 0.5, 0.1, lambda k: 0.1, 5)
    with pytest.raises(ValueError, match="steps must be an integer >= 1, got 0"):
        mini_batch_runs(SPURIOUS_VALLEY, points, points, 0.5, 0.1, lambda k: 0.1, 0)
    with pytest.raises(ValueError, match=r"starts must contain finite points, shape \(runs, 1\), got \(3, 2\)"):
        mini_batch_runs(SPURIOUS_VALLEY, np.zeros((3, 2)), points, 0.5, 0.1, lambda k: 0.1, 5)
    with pytest.raises(ValueError, match="one shape"):
        mini_batch_runs(SPURIOUS_VALLEY, points, points[1:], 0.5, 0.1, lambda k: 0.1, 5)
    with pytest.raises(ValueError, match="radius must be a finite number > 0"):
        escape_from([0.0, 0.0], DOUBLE_WELL, np.zeros((1, 2)), 0.1, 0.5, 0.1, 5, radius=0.0)
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        reversible_lr(0.5, 0.0, 1.0)
    ends = Runs(np.array([[0.0, 0.0], [1.0, 1.0]]), np.zeros((2, 2)))
    np.testing.assert_array_equal(ends.ended_at([[1.0, 1.1]], 0.2), [False, True])
