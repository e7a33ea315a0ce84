"""E and its parts along the flow and along iterations: rates, signs, and the monitor for torch."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inna.dynamics import initial_momentum, step
from inna.theory.energy import (
    energy,
    energy_factors,
    energy_rate,
    partial_energy,
    partial_energy_rate,
)
from inna.theory.flow import momentum_field, solve
from inna.theory.stability import StepSizeWarning, max_lr, roots

pytest.importorskip("torch.nn")  # without PyTorch, torch alone is the folder tests/torch

import torch

from inna.theory.monitor import EnergyMonitor
from inna.torch import INNA, INNAprop

DAMPING = st.one_of(st.just(0.0), st.floats(0.01, 5.0))


class RandomSmooth:
    """J = sum_i w_i sin(<a_i, t> + b_i) + |t|²/4 with random w, a, b: smooth, not convex, bounded below."""

    def __init__(self, seed: int, dimension: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.a, self.b, self.w = rng.standard_normal((6, dimension)), rng.uniform(0, 6, 6), rng.standard_normal(6)
        self.start = rng.standard_normal(dimension)
        self.momentum = rng.standard_normal(dimension)

    def value(self, theta: np.ndarray) -> np.ndarray:
        return np.sin(theta @ self.a.T + self.b) @ self.w + 0.25 * np.sum(theta**2, axis=-1)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        return (np.cos(theta @ self.a.T + self.b) * self.w) @ self.a + 0.5 * theta


@settings(derandomize=True, max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=DAMPING, beta=DAMPING)
def test_rates_are_the_derivatives_along_the_field(seed: int, alpha: float, beta: float) -> None:
    """d/dt of E, E_min, E_max and a general E_lambda by complex-free central differences along (theta', m')."""
    objective = RandomSmooth(seed)
    theta, momentum = objective.start, objective.momentum
    grad = objective.gradient(theta)
    dtheta, dmomentum = momentum_field(momentum, grad, alpha, beta)

    def derivative(function, reach: float = 1e-5) -> float:
        ahead = function(objective.value(theta + reach * dtheta), momentum + reach * dmomentum)
        behind = function(objective.value(theta - reach * dtheta), momentum - reach * dmomentum)
        return (ahead - behind) / (2 * reach)

    scale = 1 + np.sum(dtheta**2) + np.sum(grad**2) + np.sum(momentum**2)
    scale *= (1 + alpha + beta) ** 2
    rate = energy_rate(momentum, grad, alpha, beta)
    assert rate <= 0
    assert derivative(lambda j, m: energy(j, m, alpha, beta)) == pytest.approx(rate, abs=1e-7 * scale)
    low, high = energy_factors(alpha, beta)
    for factor, sign in ((low, 1.0), (high, -1.0), (0.3, None)):
        rate = partial_energy_rate(momentum, grad, alpha, beta, factor)
        assert derivative(lambda j, m, f=factor: partial_energy(j, m, f)) == pytest.approx(rate, abs=1e-7 * scale)
        if sign is not None:  # the signs of Lemma 8, put right: + for E_min, - for E_max
            square = -np.sum((np.sqrt(alpha) * dtheta + sign * np.sqrt(beta) * grad) ** 2)
            assert rate == pytest.approx(square, abs=1e-12 * scale)
            assert rate <= 1e-12 * scale
    assert energy(1.7, momentum, alpha, beta) == pytest.approx(
        partial_energy(1.7, momentum, low) + partial_energy(1.7, momentum, high), rel=1e-13
    )


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=DAMPING, beta=DAMPING)
def test_energy_falls_along_the_flow_at_its_rate(seed: int, alpha: float, beta: float) -> None:
    objective = RandomSmooth(seed, dimension=2)
    path = solve(
        objective.gradient,
        objective.start,
        alpha,
        beta,
        2.0,
        momentum0=objective.momentum,
        method="DOP853",  # the most accurate dense output
        rtol=1e-12,
        atol=1e-13,
    )
    # Five points of a stencil around each of 40 times: dE/dt to order 4.
    times, reach = np.linspace(0.05, 1.95, 40), 5e-4
    stencil = times[:, None] + reach * np.array([-2, -1, 0, 1, 2])
    theta, momentum = path(stencil)
    energies = energy(objective.value(theta), momentum, alpha, beta)
    slopes = energies @ np.array([1, -8, 0, 8, -1]) / (12 * reach)
    rates = energy_rate(momentum[:, 2], objective.gradient(theta[:, 2]), alpha, beta)
    assert np.all(rates <= 0)
    assert np.max(np.abs(slopes - rates)) < 1e-6 * max(1.0, np.max(np.abs(rates)), np.max(np.abs(energies)))
    along = energy(objective.value(path.theta), path.momentum, alpha, beta)
    assert np.all(np.diff(along) <= 1e-9 * np.max(np.abs(along)))
    # and dE/dt is what E lost: the integral of the rate
    fine_theta, fine_momentum = path(np.linspace(0, 2, 4001))
    fine = energy_rate(fine_momentum, objective.gradient(fine_theta), alpha, beta)
    lost = (fine[:-1:2] + 4 * fine[1::2] + fine[2::2]).sum() * (2 / 4000) / 3
    assert along[-1] - along[0] == pytest.approx(lost, abs=1e-6 * max(1.0, np.max(np.abs(rates))))


def test_swapped_signs_are_detected() -> None:
    """The signs as printed in Lemma 8 are wrong by more than the tolerance above."""
    objective = RandomSmooth(0)
    grad = objective.gradient(objective.start)
    dtheta, _ = momentum_field(objective.momentum, grad, 0.5, 0.5)
    printed = -np.sum((np.sqrt(0.5) * dtheta - np.sqrt(0.5) * grad) ** 2)
    assert abs(partial_energy_rate(objective.momentum, grad, 0.5, 0.5, energy_factors(0.5, 0.5)[0]) - printed) > 0.1


def test_iterations_need_not_lose_energy() -> None:
    """E falls for the flow; beyond the stable step size it grows without bound for INNA."""
    alpha, beta, curvature = 0.5, 0.1, 100.0
    for share, grows in ((0.9, False), (1.1, True)):
        theta, momentum = 1.0, 0.0
        first = energy(0.5 * curvature, [0.0], alpha, beta)
        for _ in range(2000):
            theta, momentum = step(
                theta, momentum, curvature * theta, share * max_lr(alpha, beta, curvature), alpha, beta
            )
        last = energy(0.5 * curvature * theta**2, [momentum], alpha, beta)
        assert last > 1e6 * first if grows else last < 1e-6 * first


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha must be a finite number >= 0, got -1"):
        energy(1.0, [0.0], -1, 0.1)
    with pytest.raises(ValueError, match="beta must be a finite number >= 0, got nan"):
        energy_rate([0.0], [0.0], 0.5, float("nan"))


def parameters(dtype: torch.dtype = torch.float64) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape, dtype=dtype).requires_grad_() for shape in ((3, 2), (4,), ())]


def quadratic_loss(weights: list[torch.Tensor]) -> torch.Tensor:
    """J = 1/2 sum_i lambda_i w_i² with curvatures from 1 to 100."""
    flat = torch.cat([w.reshape(-1) for w in weights])
    return 0.5 * (torch.logspace(0, 2, flat.numel(), dtype=flat.dtype) * flat**2).sum()


@pytest.mark.parametrize("initial_speed", [None, 1.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_monitor_logs_the_energy_of_the_iterates(initial_speed: float | None, weight_decay: float) -> None:
    alpha, beta, lr = 0.5, 0.2, 0.01
    weights = parameters()
    optimizer = INNA(weights, lr, alpha, beta, weight_decay, initial_speed=initial_speed)
    monitor = EnergyMonitor(optimizer)
    curvatures = np.logspace(0, 2, 11) + weight_decay
    theta = np.concatenate([w.detach().numpy().ravel() for w in weights])
    momentum = initial_momentum(curvatures * theta, beta, initial_speed)
    for iteration in range(25):
        optimizer.zero_grad()
        loss = quadratic_loss(weights)
        loss.backward()
        record = monitor(loss)
        expected = energy(0.5 * np.sum(curvatures * theta**2), momentum, alpha, beta)
        assert record.iteration == iteration
        assert record.energy == pytest.approx(expected, rel=1e-12)
        assert record.kinetic == pytest.approx(np.sum(momentum**2), rel=1e-12)
        assert record.loss == pytest.approx(loss.item())
        optimizer.step()
        theta, momentum = step(theta, momentum, curvatures * theta, lr, alpha, beta)
    assert len(monitor.records) == 25
    assert not monitor.warned


def watched_training(lr: float, alpha: float, beta: float, iterations: int) -> EnergyMonitor:
    weights = parameters()
    optimizer = INNA(weights, lr, alpha, beta, initial_speed=1.0)
    monitor = EnergyMonitor(optimizer)
    for _ in range(iterations):
        optimizer.zero_grad()
        loss = quadratic_loss(weights)
        loss.backward()
        monitor(loss)
        optimizer.step()
    return monitor


SETTINGS = [(0.5, 0.1), (0.1, 0.5), (2.0, 0.5), (0.3, 0.03), (3.0, 0.0)]


@pytest.mark.parametrize(("alpha", "beta"), SETTINGS)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_monitor_is_silent_below_the_largest_stable_step(share: float, alpha: float, beta: float) -> None:
    assert not watched_training(share * max_lr(alpha, beta, 100.0), alpha, beta, 300).warned


@pytest.mark.parametrize(("alpha", "beta"), SETTINGS)
def test_monitor_warns_above_the_largest_stable_step(alpha: float, beta: float) -> None:
    lr = 1.1 * max_lr(alpha, beta, 100.0)
    growth = np.abs(roots(lr, alpha, beta, 100.0)).max()
    hundredfold = int(np.log(100) / np.log(growth))  # E has grown by 10⁴ then
    with pytest.warns(StepSizeWarning, match="the learning rate .* is likely too large") as caught:
        monitor = watched_training(lr, alpha, beta, hundredfold + 40)
    assert monitor.warned
    assert len(caught) == 1


@pytest.mark.parametrize(("lr", "trains"), [(0.1, True), (0.3, True), (1.0, False)])
def test_monitor_warns_only_at_learning_rates_that_fail_on_mini_batches(lr: float, trains: bool) -> None:
    """Two epochs of digits in batches of 32: where the energy rises, the network ends at chance."""
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    images, labels = torch.tensor(digits.data / 16, dtype=torch.float32), torch.tensor(digits.target)
    cross_entropy = torch.nn.functional.cross_entropy
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    optimizer = INNA(model.parameters(), lr, 0.5, 0.1)
    monitor = EnergyMonitor(optimizer, window=56)  # an epoch
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StepSizeWarning)
        for indices in torch.cat([torch.randperm(1792) for _ in range(2)]).split(32):
            optimizer.zero_grad()
            loss = cross_entropy(model(images[indices]), labels[indices])
            loss.backward()
            monitor(loss)
            optimizer.step()
    assert monitor.warned is not trains
    accuracy = (model(images).argmax(dim=1) == labels).double().mean().item()
    assert accuracy > 0.7 if trains else accuracy < 0.2


def test_monitor_weights_groups_so_that_the_sum_falls() -> None:
    """Groups with dampings of their own, followed by small steps: E falls by its rate, the weighted sum of theirs."""
    torch.manual_seed(1)
    weights = [torch.randn(3, dtype=torch.float64).requires_grad_() for _ in range(2)]
    groups = [{"params": [weights[0]], "alpha": 0.5, "beta": 0.1}, {"params": [weights[1]], "alpha": 2.0, "beta": 0.7}]
    optimizer = INNA(groups, lr=1e-5)
    monitor = EnergyMonitor(optimizer, window=1)
    mixing = torch.randn(6, 6, dtype=torch.float64)
    for _ in range(200):
        optimizer.zero_grad()
        loss = torch.sin(mixing @ torch.cat(weights)).sum() + torch.cat(weights).square().sum() + 6
        loss.backward()
        monitor(loss)
        rate = sum(
            energy_rate(
                np.zeros(3) if w not in optimizer.state else optimizer.state[w]["momentum"].numpy(),
                w.grad.numpy(),
                group["alpha"],
                group["beta"],
            )
            * 1.05
            / (1 + group["alpha"] * group["beta"])
            for w, group in zip(weights, groups, strict=True)
        )
        optimizer.step()
    energies = [record.energy for record in monitor.records]
    assert np.all(np.diff(energies) < 0)
    assert energies[-1] - energies[-2] == pytest.approx(1e-5 * rate, rel=1e-2)


def test_monitor_warns_of_a_loss_that_is_not_finite() -> None:
    weight = torch.ones(1, requires_grad=True)
    monitor = EnergyMonitor(INNA([weight], lr=0.1))
    with pytest.warns(StepSizeWarning, match="the energy is nan at iteration 0"):
        monitor(float("nan"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor(float("inf"))  # once is enough


def test_monitor_sums_half_precision_without_overflow() -> None:
    weight = torch.zeros(100, dtype=torch.float16, requires_grad=True)
    optimizer = INNA([weight], lr=1.0, alpha=0.0, beta=0.0)
    weight.grad = torch.full((100,), 300.0, dtype=torch.float16)
    optimizer.step()
    assert EnergyMonitor(optimizer)(0.0).kinetic == pytest.approx(100 * 300.0**2)


def test_monitor_refuses_optimizers_without_the_energy() -> None:
    weight = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match=r"\(inna.torch.INNA\), got SGD"):
        EnergyMonitor(torch.optim.SGD([weight], lr=0.1))
    with pytest.raises(ValueError, match="got INNAprop"):
        EnergyMonitor(INNAprop([weight]))
    with pytest.raises(ValueError, match="maximize"):
        EnergyMonitor(INNA([weight], maximize=True))
    with pytest.raises(ValueError, match="window must be an integer >= 1, got 0"):
        EnergyMonitor(INNA([weight]), window=0)
    with pytest.raises(ValueError, match=r"factor must be a finite number > 1, got 1.0"):
        EnergyMonitor(INNA([weight]), factor=1.0)
    with pytest.raises(ValueError, match="set lower_bound"):
        EnergyMonitor(INNA([weight]))(-1.0)
    assert EnergyMonitor(INNA([weight]), lower_bound=-2.0)(-1.0).energy == pytest.approx(-2 * 1.05)
