"""Demonstrations with torch networks; torch is imported when one of them runs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from inna.dynamics import step
from inna.theory.criticality import criticality
from inna.theory.demonstrations.registry import Outcome, demonstration
from inna.theory.stability import StepSizeWarning, max_lr


@demonstration(
    "relu-network",
    statement="A network of one relu unit and two samples has a spurious point: w = 0 in v relu(w x) + b",
    expected="distances 1 and 0 to 1e-4, backpropagated gradient 0, spurious",
    source="constructed for section 2.3.3 of the paper",
)
def _relu_network() -> Outcome:
    from inna.theory.modules import sample_gradients

    theta, gradients = sample_gradients(*_spurious_network())
    found = criticality(gradients, theta)
    answer = float(np.linalg.norm(gradients(theta).sum(axis=0)))
    holds = abs(found.clarke - 1) < 1e-4 and found.d < 1e-4 and answer == 0 and found.spurious(1e-3)
    return f"distances {found.clarke:.5f} and {found.d:.1g}, gradient {answer:g}", holds


@demonstration(
    "relu-at-zero",
    statement="The choice of relu'(0) changes that network's gradient, in the parameter 0.weight only",
    expected="0.weight by 2, with 2 pre-activations at 0; nothing away from the kink",
    source="paper, footnote 2; Bolte and Pauwels, conservative fields",
)
def _relu_at_zero() -> Outcome:
    import torch

    from inna.theory.modules import relu_sensitivity

    model, loss, batch = _spurious_network()
    at = relu_sensitivity(model, loss, batch)
    with torch.no_grad():
        model[0].weight.fill_(0.25)
    away = relu_sensitivity(model, loss, batch)
    named = ", ".join(f"{name} by {change:g}" for name, change in at.changes.items())
    holds = at.changes == {"0.weight": 2.0} and at.zeros == 2 and not away.changes
    return f"{named}, {at.zeros} at 0; away {len(away.changes)}", holds


@demonstration(
    "suggest-lr",
    statement="Near a minimiser of a small tanh network, full batch: 0.9 of suggest_lr is stable, 1.1 of it is not",
    expected="a distance of 1e-6 shrinks at 0.9, grows at 1.1",
    source="the linearised iteration, with the largest curvature by Lanczos' method",
)
def _suggest_lr() -> Outcome:
    import torch

    from inna.theory.curvature import suggest_lr
    from inna.theory.modules import module_gradient

    torch_state = torch.get_rng_state()
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    inputs = 2 * torch.randn(100, 2)
    batch = inputs, model(inputs).detach() + 0.01 * torch.randn(100, 1)
    torch.set_rng_state(torch_state)
    loss = torch.nn.functional.mse_loss
    theta, gradient, _ = module_gradient(model, loss, batch)
    reach = 1e-5
    for _ in range(8):  # Newton's steps to the minimiser beside the weights that made the data
        rows = [(gradient(theta + reach * e) - gradient(theta - reach * e)) / (2 * reach) for e in np.eye(theta.size)]
        theta = theta - np.linalg.solve((np.array(rows) + np.array(rows).T) / 2, gradient(theta))
    torch.nn.utils.vector_to_parameters(torch.tensor(theta, dtype=torch.float32), model.parameters())
    alpha, beta = 0.7, 0.3
    suggestion = suggest_lr(model, loss, batch, alpha, beta)
    away = np.random.default_rng(0).standard_normal(theta.size)
    ratios = {}
    for share in (0.9, 1.1):
        point, momentum = theta + 1e-6 * away / np.linalg.norm(away), np.zeros_like(theta)
        for _ in range(600):
            point, momentum = step(point, momentum, gradient(point), share * suggestion.lr, alpha, beta)
        ratios[share] = float(np.linalg.norm(point - theta)) / 1e-6
    words = ", ".join(f"{share}: x {ratio:.2g}" for share, ratio in ratios.items())
    return f"lr {suggestion.lr:.3f} at curvature {suggestion.curvature:.3g}; {words}", ratios[0.9] < 1 < 100 < ratios[
        1.1
    ]


@demonstration(
    "energy-warns",
    statement="EnergyMonitor warns of a learning rate that is too large in training, and is silent below",
    expected="silent for 400 iterations at 0.9 of the largest stable step; at 1.1 a warning within 20",
    source="paper, section 3.4: E only falls along the flow",
)
def _energy_warns() -> Outcome:
    import torch

    from inna.theory.monitor import EnergyMonitor
    from inna.torch import INNA

    alpha, beta = 0.5, 0.1
    curvatures = torch.logspace(0, 2, 10, dtype=torch.float64)
    words, verdicts = [], []
    for share in (0.9, 1.1):
        weights = torch.ones(10, dtype=torch.float64, requires_grad=True)
        optimizer = INNA([weights], share * max_lr(alpha, beta, 100.0), alpha, beta)
        monitor = EnergyMonitor(optimizer)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StepSizeWarning)
            while not monitor.warned and len(monitor.records) < 400:
                optimizer.zero_grad()
                loss = 0.5 * (curvatures * weights.square()).sum()
                loss.backward()
                monitor(loss)
                optimizer.step()
        grown = monitor.records[-1].loss / monitor.records[0].loss
        words.append(
            f"{share}: warned at iteration {len(monitor.records) - 1}, loss x {grown:.2g}"
            if monitor.warned
            else f"{share}: silent for {len(monitor.records)} iterations"
        )
        verdicts.append(monitor.warned)
    return "; ".join(words), verdicts == [False, True] and len(monitor.records) == monitor.window


def _spurious_network() -> tuple[Any, Any, tuple[Any, Any]]:
    """Return a network at a spurious point, its loss and two samples.

    The network is v relu(w x) + b at w = 0, v = 1, b = 0, the loss sum (f(x_n) - y_n)²/2.

    On each side of w = 0 one sample is active, and both have the slope 1 in w: dJ = {(1, 0, 0)}. Each sample alone
    has the slopes [0, 1], so that DJ = [0, 2] x {0} x {0}.
    """
    import torch

    model = torch.nn.Sequential(torch.nn.Linear(1, 1, bias=False), torch.nn.ReLU(), torch.nn.Linear(1, 1))
    for parameter, value in zip(model.parameters(), (0.0, 1.0, 0.0), strict=True):
        torch.nn.init.constant_(parameter, value)
    batch = torch.tensor([[1.0], [-1.0]]), torch.tensor([[-1.0], [1.0]])
    return model, lambda outputs, targets: 0.5 * (outputs - targets).square().sum(), batch
