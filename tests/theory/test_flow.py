"""The flow against closed forms, against the paper's field, against small steps, and at kinks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inna.dynamics import field, phase_from_momentum, step
from inna.theory.energy import energy
from inna.theory.flow import FlowError, momentum_field, solve
from inna.theory.objectives import BEALE, ROSENBROCK_V, SPURIOUS_CORNER, power, quadratic
from inna.theory.stability import flow_rates

NUMBER = st.floats(-3, 3)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(theta=NUMBER, momentum=NUMBER, grad=NUMBER, alpha=st.floats(0, 4), beta=st.floats(1e-3, 4))
def test_momentum_field_is_the_paper_s_field(
    theta: float, momentum: float, grad: float, alpha: float, beta: float
) -> None:
    dtheta, dmomentum = momentum_field(momentum, grad, alpha, beta)
    psi = phase_from_momentum(theta, momentum, alpha, beta)
    paper_dtheta, paper_dpsi = field(theta, psi, grad, alpha, beta)
    tolerance = 1e-12 * (1 + (1 + abs(theta) + abs(momentum)) * (1 + alpha + 1 / beta))
    assert dtheta == pytest.approx(paper_dtheta, abs=tolerance)
    assert phase_from_momentum(dtheta, dmomentum, alpha, beta) == pytest.approx(paper_dpsi, abs=tolerance)
    # and the step is its explicit Euler step
    after = step(theta, momentum, grad, 0.1, alpha, beta)
    assert after == pytest.approx((theta + 0.1 * dtheta, momentum + 0.1 * dmomentum), abs=1e-12)


@pytest.mark.parametrize("method", ["RK45", "DOP853", "Radau", "BDF", "LSODA", None])
@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (3.0, 0.5), (0.0, 0.0), (1.0, 1.0)])
def test_quadratics_have_closed_forms(method: str, alpha: float, beta: float) -> None:
    """theta = sum of exp(mu t) with theta(0) = start and theta'(0) = -s grad."""
    spectrum, start, speed = np.array([0.5, 2.0, 8.0]), np.array([1.0, -2.0, 0.5]), 0.7
    objective = quadratic(spectrum)
    path = solve(objective.gradient, start, alpha, beta, 5.0, speed, method=method, t_eval=np.linspace(0, 5, 30))
    slow, fast = flow_rates(alpha, beta, spectrum).T
    velocity = -speed * spectrum * start
    weight = (velocity - fast * start) / (slow - fast)
    exact = weight * np.exp(slow * path.t[:, None]) + (start - weight) * np.exp(fast * path.t[:, None])
    np.testing.assert_allclose(path.theta, exact.real, atol=2e-6)
    assert path.t.shape == (30,)
    assert path.theta.shape == path.momentum.shape == path.psi.shape == (30, 3)
    assert np.max(np.abs(exact.imag)) < 1e-12


@pytest.mark.parametrize("initial_speed", [None, 0.0, 1.0])
def test_initial_speed_is_the_initial_velocity(initial_speed: float | None) -> None:
    start, beta = np.array([1.0, 0.3]), 0.2
    path = solve(BEALE.gradient, start, 0.5, beta, 1e-6, initial_speed)
    velocity, _ = momentum_field(path.momentum[0], BEALE.gradient(start), 0.5, beta)
    speed = beta if initial_speed is None else initial_speed
    np.testing.assert_allclose(velocity, -speed * BEALE.gradient(start), rtol=1e-14)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (1.3, 0.0), (2.0, 1.0)])
def test_small_steps_approach_the_flow_at_first_order(alpha: float, beta: float) -> None:
    """The largest error of INNA at time k lr against the flow falls like lr: the fitted slope is 1."""
    start, t_end = np.array([1.0, 0.3]), 4.0
    path = solve(BEALE.gradient, start, alpha, beta, t_end, 1.0, rtol=1e-11)
    steps = np.array([1e-2, 5e-3, 2.5e-3, 1.25e-3])
    errors = []
    for lr in steps:
        theta, momentum = start, path.momentum[0]
        worst = 0.0
        for k in range(1, round(t_end / lr) + 1):
            theta, momentum = step(theta, momentum, BEALE.gradient(theta), lr, alpha, beta)
            if k % round(0.1 / lr) == 0:
                worst = max(worst, float(np.max(np.abs(theta - path(k * lr)[0]))))
        errors.append(worst)
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(1.0, abs=0.05)
    assert errors[-1] > 1e-6  # the flow itself is far more accurate than that


def test_dense_output_agrees_with_the_solver_s_own_points() -> None:
    path = solve(BEALE.gradient, [1.0, 0.3], 0.5, 0.1, 5.0)
    theta, momentum = path(path.t)
    np.testing.assert_allclose(theta, path.theta, atol=1e-12)
    np.testing.assert_allclose(momentum, path.momentum, atol=1e-12)
    one_theta, one_momentum = path(2.5)
    assert one_theta.shape == one_momentum.shape == (2,)
    np.testing.assert_allclose(path.psi, 0.1 * path.momentum + 0.95 * path.theta, atol=1e-14)
    for outside in (-0.1, 5.1, np.nan):
        with pytest.raises(ValueError, match="t must be in"):
            path(outside)


def test_crossing_a_kink_and_sliding_along_it_match_closed_forms() -> None:
    """J = |t| from 1 at rest: m' = -alpha m + (1 - alpha beta), then at 0 it slides with m' = -m/beta."""
    alpha, beta = 0.5, 0.5
    path = solve(power(1.0).gradient, [1.0], alpha, beta, 8.0, 0.0, kinks=power(1.0).kinks)
    limit = (1 - alpha * beta) / alpha  # of m, which starts at -beta
    (crossing, *_) = path.kink_times[0]
    # theta(t) = 1 - beta t - int m with m = limit - (limit + beta) exp(-alpha t), zero at the crossing
    lost = (limit + beta) * crossing - (limit + beta) * (1 - np.exp(-alpha * crossing)) / alpha
    assert lost == pytest.approx(1.0, abs=1e-7)
    # beyond: g = -1 pushes m down until |m| <= beta, from when theta stays at a zero
    theta, momentum = path(np.linspace(0, 8, 200))
    assert theta.min() < -1e-3
    late_theta, late_momentum = path(np.array([7.0, 7.5, 8.0]))
    assert np.max(np.abs(late_theta)) < 1e-8
    np.testing.assert_allclose(late_momentum[1:] / late_momentum[:-1], np.exp(-0.5 / beta), rtol=1e-4)
    assert np.all(np.diff(energy(np.abs(theta[:, 0]), momentum, alpha, beta)) < 1e-9)


@pytest.mark.parametrize("method", ["BDF", "LSODA"])
def test_figure_1_s_flow_crosses_its_kinks(method: str) -> None:
    """INNA with Figure 1's step 1e-4 follows the flow across both kinks, to a distance of the order of the step."""
    alpha, beta = 0.3, 0.1
    path = solve(ROSENBROCK_V.gradient, [-1.0, 1.5], alpha, beta, 5.0, 0.1, kinks=ROSENBROCK_V.kinks, method=method)
    assert len(path.kink_times[0]) == 1  # theta_1 = 0
    assert path.kink_times[1][0] == pytest.approx(4.5368, abs=2e-3)  # theta_1 = 1: the dip at iteration 45368
    theta, momentum = path.theta[0], path.momentum[0]
    worst = 0.0
    for k in range(1, 50_001):
        theta, momentum = step(theta, momentum, ROSENBROCK_V.gradient(theta), 1e-4, alpha, beta)
        if k % 1000 == 0:
            worst = max(worst, float(np.max(np.abs(theta - path(k * 1e-4)[0]))))
    assert worst < 5e-3


def test_the_flow_slides_into_a_corner() -> None:
    path = solve(SPURIOUS_CORNER.gradient, [1.0, 0.7], 0.5, 0.3, 30.0, 1.0, kinks=SPURIOUS_CORNER.kinks)
    np.testing.assert_allclose(path.theta[-1], SPURIOUS_CORNER.minimisers[0], atol=1e-7)


def test_failures_are_errors_with_a_reason() -> None:
    with pytest.raises(FlowError, match=r"stopped at t = 0\.23.* of 10: Required step size"):
        solve(lambda theta: -4 * theta**3, [1.0], 0.5, 0.5, 10.0, method="DOP853")  # blows up in finite time
    with pytest.raises(FlowError, match="the gradient is not finite at t = 0"):
        solve(lambda theta: theta * np.nan, [1.0], 0.5, 0.5, 1.0)
    with pytest.raises(FlowError, match=r"500 gradients were used up .* kinks"):
        solve(power(1.0).gradient, [1.0], 0.5, 0.5, 10.0, 0.0, max_evaluations=500)
    with pytest.raises(FlowError, match="9 kinks meet"):
        solve(power(1.0).gradient, [0.0], 0.5, 0.5, 1.0, kinks=lambda theta: theta * np.arange(1, 10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -1.0}, "alpha must be a finite number >= 0, got -1.0"),
        ({"beta": float("nan")}, "beta must be a finite number >= 0, got nan"),
        ({"t_end": 0.0}, "t_end must be a finite number > 0, got 0.0"),
        ({"theta0": [[1.0]]}, "theta0 must be a vector"),
        ({"theta0": [np.inf]}, "theta0 must be a vector of finite numbers"),
        ({"method": "Euler"}, "method must be one of RK23, .*, got 'Euler'"),
        ({"t_eval": [0.5, 2.0]}, r"t_eval must increase within \[0, 1\]"),
        ({"t_eval": [0.5, 0.2]}, r"t_eval must increase within \[0, 1\]"),
        ({"rtol": 0.0}, "rtol must be a finite number > 0"),
        ({"layer": -1.0}, "layer must be a finite number > 0"),
        ({"momentum0": [1.0, 2.0]}, r"momentum0 must have theta0's shape \(1,\)"),
        ({"momentum0": [1.0], "initial_speed": 1.0}, "initial_speed or momentum0, not both"),
        ({"grad": lambda theta: np.ones(3)}, r"grad must return the shape \(1,\) of theta, got \(3,\)"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    usual = {"grad": lambda theta: theta, "theta0": [1.0], "alpha": 0.5, "beta": 0.1, "t_end": 1.0}
    with pytest.raises(ValueError, match=message):
        solve(**{**usual, **arguments})
