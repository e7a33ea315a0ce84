"""Fitted decay of E on |t|^c against the exponents, and the O(1/t) of Theorem 13."""

from __future__ import annotations

import numpy as np
import pytest

from inna.theory.energy import energy
from inna.theory.flow import solve
from inna.theory.objectives import ROSENBROCK, power
from inna.theory.rates import (
    fit_decay,
    fit_exponential,
    fit_power,
    kl_exponent,
    largest_product,
    predicted_power,
)
from inna.theory.stability import flow_rates


def decay(exponent: float, alpha: float, beta: float, times: np.ndarray):
    objective = power(exponent)
    path = solve(objective.gradient, [1.0], alpha, beta, times[-1], 1.0, t_eval=times, method="LSODA", atol=1e-16)
    return fit_decay(path.t, energy(objective.value(path.theta), path.momentum, alpha, beta))


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (2.0, 2.0)])
@pytest.mark.parametrize(("exponent", "t_end"), [(3.0, 1e5), (4.0, 1e5), (6.0, 1e5)])
def test_flat_minimisers_give_the_predicted_power(exponent: float, t_end: float, alpha: float, beta: float) -> None:
    fit = decay(exponent, alpha, beta, np.logspace(-1, np.log10(t_end), 300))
    assert fit.kind == "power"
    assert fit.rate == pytest.approx(predicted_power(kl_exponent(exponent)), rel=0.03)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.1), (2.0, 2.0), (1.3, 0.1)])
def test_a_quadratic_minimiser_gives_an_exponential(alpha: float, beta: float) -> None:
    fit = decay(2.0, alpha, beta, np.linspace(0, 30, 2000))
    assert fit.kind == "exponential"
    assert predicted_power(kl_exponent(2.0)) == -np.inf
    assert fit.rate == pytest.approx(2 * flow_rates(alpha, beta, 2.0)[0].real, rel=0.03)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.0, 6.0])
def test_theorem_13_bounds_t_times_the_excess(exponent: float) -> None:
    """sup of t (J - J*) is reached early: nothing later passes it, as O(1/t) asks."""
    objective = power(exponent)
    times = np.linspace(0, 200, 400) if exponent == 2 else np.logspace(-1, 4, 400)
    path = solve(objective.gradient, [1.0], 0.5, 0.1, times[-1], 1.0, t_eval=times, method="LSODA", atol=1e-18)
    early, late = largest_product(path.t, objective.value(path.theta))
    assert late < 0.01 * early


def test_theorem_13_on_a_curved_valley() -> None:
    path = solve(ROSENBROCK.gradient, [-1.0, 1.5], 0.5, 0.1, 300.0, 1.0, t_eval=np.logspace(-1, np.log10(300), 400))
    early, late = largest_product(path.t, ROSENBROCK.value(path.theta))
    assert late < 0.01 * early


def test_exponents() -> None:
    assert [kl_exponent(c) for c in (1.5, 2.0, 3.0, 4.0, 6.0)] == pytest.approx([0.5, 0.5, 2 / 3, 0.75, 5 / 6])
    assert [predicted_power(kl_exponent(c)) for c in (3.0, 4.0, 6.0)] == pytest.approx([-3.0, -2.0, -1.5])
    assert predicted_power(0.3) == -np.inf


@pytest.mark.parametrize("rate", [-0.3, -1.5, -4.0])
def test_fits_recover_laws_whatever_the_times(rate: float) -> None:
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(1, 100, 400)) + np.linspace(0, 1e-6, 400)
    by_power = fit_decay(t, 3 * t**rate)
    assert (by_power.kind, by_power.rate) == ("power", pytest.approx(rate, rel=1e-10))
    assert by_power.intercept == pytest.approx(np.log(3), abs=1e-8)
    by_exponential = fit_decay(t, 3 * np.exp(rate * t / 10))
    assert (by_exponential.kind, by_exponential.rate) == ("exponential", pytest.approx(rate / 10, rel=1e-10))
    assert by_exponential.residual < 1e-10


def test_only_the_last_part_is_fitted() -> None:
    t = np.logspace(0, 4, 400)
    bent = np.where(t < 100, 1.0, (t / 100) ** -2.0)
    assert fit_power(t, bent, last=10).rate == pytest.approx(-2.0)
    assert fit_power(t, bent, last=9999).rate > -1.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kl_exponent(1.0), "power must be a finite number > 1, got 1.0"),
        (lambda: predicted_power(1.0), "exponent must be a finite number > 0 and < 1, got 1.0"),
        (lambda: fit_power([1.0, 2.0], [1.0, 2.0, 3.0]), "vectors of one length"),
        (lambda: fit_power([1.0, 2.0, 2.0], [1.0, 1.0, 1.0]), "increasing"),
        (lambda: fit_power([1.0, 2.0, 100.0], [1.0, 1.0, 1.0]), "at least 3 times"),
        (lambda: fit_exponential([1.0, 2.0, 3.0], [1.0, 0.0, 1.0]), "was the right limit subtracted"),
        (lambda: fit_power([1.0, 2.0, 3.0], [1.0, 0.5, 0.2], last=1.0), "last must be a finite number > 1"),
        (lambda: largest_product([5.0, 6.0], [1.0, 1.0]), "t must begin before"),
    ],
)
def test_bad_arguments_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
