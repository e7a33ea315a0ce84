"""Every port makes the iterates recorded from the authors' published code."""

from __future__ import annotations

import numpy as np
import pytest

from inna import dynamics
from recorded import INNA_CASES, INNAPROP_CASES, Case, gradient, step_size, theta0


def rule(case: Case) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """dynamics.py itself, on NumPy arrays."""
    theta = theta0()
    momentum, exp_avg_sq = np.zeros_like(theta), np.zeros_like(theta)
    made = {}
    for k in range(max(case.iterates)):
        lr, grad = step_size(case, k), gradient(theta)
        if case.optimizer == "INNAprop":
            theta, momentum = dynamics.decay_innaprop(theta, momentum, lr, case.alpha, case.beta, case.weight_decay)
            grad, exp_avg_sq = dynamics.rescale(grad, exp_avg_sq, k + 1, case.sigma, case.eps)
        else:
            grad = grad + case.weight_decay / case.beta * theta
        theta, momentum = dynamics.step(theta, momentum, grad, lr, case.alpha, case.beta)
        made[k + 1] = theta, dynamics.phase_from_momentum(theta, momentum, case.alpha, case.beta)
    return made


@pytest.mark.parametrize("case", [*INNA_CASES, *INNAPROP_CASES], ids=str)
@pytest.mark.parametrize("port", [rule])
def test_the_recorded_iterates(port, case):
    made = port(case)
    for k, recorded in case.iterates.items():
        for ours, theirs in zip(made[k], recorded, strict=True):
            scale = max(np.abs(recorded[0]).max(), np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * scale, err_msg=f"iterate {k}")
