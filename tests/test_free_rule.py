"""INNAprop that finds its own length: what the estimate of the distance promises on convex problems."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from guarded_reference import FreeGroup, free_steps


def convex(seed, dimension=5, samples=16, batch=16):
    """Gradients of mean |A theta - b| (batch rows at a time), and a minimiser of every term."""
    rng = np.random.default_rng(seed)
    inputs, solution = rng.normal(size=(samples, dimension)), rng.normal(size=dimension)

    def evaluate(k, thetas):
        rows = np.random.default_rng([seed, k]).choice(samples, size=batch, replace=False)
        theta = np.concatenate(thetas)
        grad = inputs[rows].T @ np.sign(inputs[rows] @ (theta - solution)) / batch
        return np.split(grad, np.cumsum([len(part) for part in thetas])[:-1])

    return evaluate, rng.normal(size=dimension), solution


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 1.0), st.floats(0.1, 1.0), st.integers(1, 16))
def test_the_distance_never_exceeds_the_largest_entry_on_convex_problems(seed, alpha, beta, batch):
    evaluate, theta, solution = convex(seed, batch=batch)
    distances = free_steps([FreeGroup(theta.copy(), alpha, beta, time_step=0.1 / alpha)], evaluate, 60)
    assert max(distances) <= np.abs(theta - solution).max() * (1 + 1e-9)
    assert distances == sorted(distances)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_groups_with_equal_settings_are_one_group(seed, cut):
    evaluate, theta, _ = convex(seed)
    whole = [FreeGroup(theta.copy())]
    parts = [FreeGroup(part.copy()) for part in np.split(theta, [cut])]
    np.testing.assert_allclose(free_steps(parts, evaluate, 40), free_steps(whole, evaluate, 40), rtol=1e-9)
    np.testing.assert_allclose(np.concatenate([part.theta for part in parts]), whole[0].theta, rtol=0, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.floats(1e-3, 1e3))
def test_scaling_the_loss_changes_nothing(seed, scale):
    evaluate, theta, _ = convex(seed)
    groups = [FreeGroup(theta.copy(), eps=0.0) for _ in range(2)]
    expected = free_steps(groups[:1], evaluate, 40)
    made = free_steps(groups[1:], lambda k, thetas: [scale * grad for grad in evaluate(k, thetas)], 40)
    np.testing.assert_allclose(made, expected, rtol=1e-9)
    np.testing.assert_allclose(groups[1].theta, groups[0].theta, rtol=0, atol=1e-8)
