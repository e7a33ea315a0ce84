"""The closed forms against the eigenvalues of the rule's own matrix, and against iterations."""

from __future__ import annotations

import numpy as np
import pytest

from inna.dynamics import from_sgd, step
from inna.theory.stability import (
    effective_momentum,
    flow_rates,
    is_stable,
    max_curvature,
    max_lr,
    quasi_hyperbolic,
    roots,
)

# Eigenvalues that nearly coincide are known to sqrt(eps) ~ 1.5e-8 only; inside this band the radius decides nothing.
BAND = 1e-7


def draw(count: int, seed: int) -> tuple[np.ndarray, ...]:
    """Random (lr, alpha, beta, curvature) over decades, an eighth of each of lr .. beta on a special value."""
    rng = np.random.default_rng(seed)

    def log_uniform(low: float, high: float) -> np.ndarray:
        return 10 ** rng.uniform(low, high, count)

    lr, alpha, beta = log_uniform(-3, 1), log_uniform(-2, 1.5), log_uniform(-3, 1)
    alpha[rng.random(count) < 0.05] = 0.0
    beta[rng.random(count) < 0.05] = 0.0
    ties = rng.random(count) < 0.05
    beta[ties] = lr[ties]
    curvature = log_uniform(-2, 4) * np.where(rng.random(count) < 0.2, -1.0, 1.0)
    curvature[rng.random(count) < 0.02] = 0.0
    return lr, alpha, beta, curvature


def matrices(lr: np.ndarray, alpha: np.ndarray, beta: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """The rule on J = curvature t²/2 as a matrix on (theta, m): its columns are the images of the unit vectors."""
    ones, zeros = np.ones_like(lr), np.zeros_like(lr)
    first = step(ones, zeros, curvature, lr, alpha, beta)
    second = step(zeros, ones, zeros, lr, alpha, beta)
    return np.stack([np.stack(first, axis=-1), np.stack(second, axis=-1)], axis=-1)


def test_no_case_in_100_000_is_wrong() -> None:
    lr, alpha, beta, curvature = draw(100_000, seed=0)
    radius = np.abs(np.linalg.eigvals(matrices(lr, alpha, beta, curvature))).max(axis=1)
    stable = is_stable(lr, alpha, beta, curvature)
    decided = np.abs(radius - 1) > BAND * np.maximum(1, radius)
    wrong = decided & (stable != (radius < 1))
    assert np.count_nonzero(wrong) == 0
    assert not np.any(stable[curvature <= 0])
    # The draw reaches both answers often, and the band leaves out little besides the neutral curvature 0.
    assert 20_000 < np.count_nonzero(stable & decided) < 80_000
    assert np.count_nonzero(~decided & (curvature != 0)) < 500


def test_roots_are_the_eigenvalues() -> None:
    lr, alpha, beta, curvature = draw(20_000, seed=1)
    ours = roots(lr, alpha, beta, curvature)
    matrix = matrices(lr, alpha, beta, curvature)
    scale = 1 + np.abs(ours).max(axis=1) ** 2
    np.testing.assert_allclose(ours.sum(axis=1) / scale, np.trace(matrix, axis1=1, axis2=2) / scale, atol=1e-14)
    np.testing.assert_allclose(ours.prod(axis=1) / scale, np.linalg.det(matrix) / scale, atol=1e-12)
    np.testing.assert_array_equal(
        np.abs(roots(lr, alpha, beta, curvature)), np.abs(1 + lr[:, None] * flow_rates(alpha, beta, curvature))
    )


def test_flow_rates_solve_their_equation_without_cancellation() -> None:
    slow, fast = flow_rates(1e8, 0.0, 1.0)
    assert slow.real == pytest.approx(-1e-8, rel=1e-12)
    assert fast.real == pytest.approx(-1e8, rel=1e-12)
    np.testing.assert_array_equal(flow_rates(0.0, 0.0, 0.0), [0, 0])
    np.testing.assert_allclose(flow_rates(0.0, 0.0, 4.0).imag ** 2, [4, 4])


def test_max_lr_alone_is_the_edge_of_is_stable() -> None:
    _, alpha, beta, curvature = draw(20_000, seed=2)
    bound = max_lr(alpha, beta, curvature, alone=True)
    positive = bound > 0
    np.testing.assert_array_equal(positive, (curvature > 0) & (alpha + beta > 0))
    below, above = bound[positive] * (1 - 1e-9), bound[positive] * (1 + 1e-9)
    rest = alpha[positive], beta[positive], curvature[positive]
    assert np.all(is_stable(below, *rest))
    assert not np.any(is_stable(above, *rest))
    # On one curvature the stable step sizes are an interval from 0.
    for share in (0.999, 0.7, 0.3, 0.01):
        assert np.all(is_stable(share * bound[positive], *rest))
    for excess in (1.01, 1.5, 4.0, 100.0):
        assert not np.any(is_stable(excess * bound[positive], *rest))


def test_max_lr_holds_over_the_spectrum_and_no_more() -> None:
    _, alpha, beta, curvature = draw(3000, seed=3)
    bound = max_lr(alpha, beta, curvature)
    good = bound > 0
    bound, alpha, beta, curvature = bound[good], alpha[good], beta[good], curvature[good]
    spectrum = curvature[:, None] * np.concatenate([np.logspace(-12, 0, 200), np.linspace(0.01, 1, 100)])
    stable = is_stable(bound[:, None] * (1 - 1e-6), alpha[:, None], beta[:, None], spectrum)
    assert np.all(stable)
    over = is_stable(bound[:, None] * (1 + 1e-6), alpha[:, None], beta[:, None], spectrum)
    assert not np.any(np.all(over, axis=1))


def test_max_curvature_is_the_inverse_of_max_lr() -> None:
    lr, alpha, beta, _ = draw(20_000, seed=4)
    bound = max_curvature(lr, alpha, beta)
    np.testing.assert_array_equal(bound[alpha * lr >= 2], 0)
    good = (bound > 0) & np.isfinite(bound)
    rest = alpha[good], beta[good]
    assert np.all(max_lr(*rest, bound[good] * (1 - 1e-9)) >= lr[good] * (1 - 1e-12))
    assert not np.any(is_stable(lr[good], *rest, bound[good] * (1 + 1e-9)))
    assert np.all(is_stable(lr[good], *rest, bound[good] * (1 - 1e-9)))
    for share in (0.9, 0.1, 1e-3, 1e-8):
        assert np.all(is_stable(lr[good], *rest, bound[good] * share))
    nothing = bound == 0
    assert not np.any(is_stable(lr[nothing], alpha[nothing], beta[nothing], 1e-9))


def test_the_stable_curvatures_need_not_begin_at_zero() -> None:
    np.testing.assert_array_equal(
        is_stable(1.0, 3.0, 0.0, [1.0, 2.0, 2.001, 2.5, 2.999, 3.0, 4.0]), [0, 0, 1, 1, 1, 0, 0]
    )
    assert max_curvature(1.0, 3.0, 0.0) == 0.0
    assert max_lr(3.0, 0.0, 2.5, alone=True) == pytest.approx(1.2)
    assert max_lr(3.0, 0.0, 2.5) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("lr", "alpha", "beta", "curvature"),
    [
        (0.0, 0.5, 0.1, 1.0),  # nothing moves
        (0.1, 0.5, 0.1, 0.0),  # a constant theta stays
        (0.1, 0.0, 0.0, 1.0),  # explicit Euler on an undamped oscillator grows
        (0.1, 0.0, 0.1, 1.0),  # determinant 1: a rotation
        (2.0, 1.0, 1.0, 0.5),  # alpha lr = 2
    ],
)
def test_degenerate_cases_are_not_stable(lr: float, alpha: float, beta: float, curvature: float) -> None:
    assert is_stable(lr, alpha, beta, curvature) is False
    if lr:
        assert np.abs(np.linalg.eigvals(matrices(*map(np.array, (lr, alpha, beta, curvature))))).max() > 1 - 1e-12


def test_undamped_limits() -> None:
    assert max_lr(0.0, 0.0, 1.0) == 0.0
    assert max_lr(0.5, 0.1, 0.0) == 0.0
    assert max_lr(0.5, 0.1, -1.0) == 0.0
    assert max_lr(0.0, 0.25, 1.0) == pytest.approx(0.25)
    assert is_stable(0.249, 0.0, 0.25, 1.0)
    assert not is_stable(0.251, 0.0, 0.25, 1.0)
    assert max_curvature(0.25, 0.0, 0.25) == 0.0
    assert max_curvature(0.125, 0.0, 0.25) == pytest.approx(4 / (0.125 * 0.375))
    assert is_stable(1e300, 0.5, 0.1, 1e300) is False


@pytest.mark.parametrize("nesterov", [False, True])
def test_heavy_ball_limits_are_those_of_sgd(nesterov: bool) -> None:
    """SGD with momentum mu is stable for lr lambda < 2 (1 + mu), Nesterov's for lr lambda (1 + 2 mu) < 2 (1 + mu)."""
    lr, mu = 0.02, 0.9
    gamma, alpha, beta = from_sgd(lr, mu, nesterov=nesterov)
    known = 2 * (1 + mu) / (1 + 2 * mu) / lr if nesterov else 2 * (1 + mu) / lr
    assert max_curvature(gamma, alpha, beta) == pytest.approx(known, rel=1e-12)


def test_effective_momentum_is_the_heavy_ball_s() -> None:
    gamma, alpha, beta = from_sgd(0.04, 0.9)
    np.testing.assert_allclose(
        effective_momentum(gamma, alpha, beta, np.array([-3.0, 0.0, 1.0, 50.0])), 0.9, rtol=1e-12
    )
    # In general: theta_{k+1} = theta_k + mu (theta_k - theta_{k-1}) - lr² lambda theta_k on curvature lambda.
    lr, alpha, beta, curvature = 0.3, 0.7, 0.2, 2.5
    mu = effective_momentum(lr, alpha, beta, curvature)
    theta, momentum, history = 1.0, 0.4, []
    for _ in range(30):
        history.append(theta)
        theta, momentum = step(theta, momentum, curvature * theta, lr, alpha, beta)
    before, now, after = np.array(history[:-2]), np.array(history[1:-1]), np.array(history[2:])
    np.testing.assert_allclose(after, now + mu * (now - before) - lr**2 * curvature * now, atol=1e-14)


def test_quasi_hyperbolic_makes_the_same_iterates() -> None:
    lr, alpha, beta = 0.2, 0.6, 0.35
    qhm = quasi_hyperbolic(lr, alpha, beta)
    gradients = np.random.default_rng(6).standard_normal(50)
    theta, momentum, other, buffer = 1.0, 0.0, 1.0, 0.0
    for gradient in gradients:
        theta, momentum = step(theta, momentum, gradient, lr, alpha, beta)
        buffer = qhm.momentum * buffer + (1 - qhm.momentum) * gradient
        other -= qhm.lr * ((1 - qhm.nu) * gradient + qhm.nu * buffer)
        assert other == pytest.approx(theta, abs=1e-13)
    with pytest.raises(ValueError, match="alpha lr must differ from 1"):
        quasi_hyperbolic(2.0, 0.5, 0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: is_stable(-0.1, 0.5, 0.1, 1.0), "lr must be finite >= 0, got -0.1"),
        (lambda: is_stable(0.1, [0.5, -2.0], 0.1, 1.0), "alpha must be finite >= 0, got -2.0"),
        (lambda: max_lr(0.5, 0.1, float("nan")), "curvature must be finite, got nan"),
        (lambda: max_curvature(0.0, 0.5, 0.1), "lr must be finite > 0, got 0.0"),
        (lambda: roots("fast", 0.5, 0.1, 1.0), "lr must be real, got 'fast'"),
    ],
)
def test_bad_arguments_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        call()
