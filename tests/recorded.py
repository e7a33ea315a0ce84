"""Iterates recorded from the authors' published PyTorch code, and the problem they were recorded on.

    theta_0 = linspace(-1.5, 2, 6)                psi_0 = (1 - alpha beta) theta_0
    g_i(theta) = i theta_i + sin(3 theta_i) - 1/2, i = 1..6

The authors' weight decay of INNA equals (lambda/beta) theta added to the gradient; `weight_decay` below is theirs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["INNAPROP_CASES", "INNA_CASES", "Case", "gradient", "step_size", "theta0"]


@dataclass(frozen=True)
class Case:
    """One recorded run: step size ``gamma0 (k + 1)^-q`` and ``iterates[k] = (theta_k, psi_k)`` after k steps.

    ``sigma`` and ``eps`` are INNAprop's and 0 in INNA's cases.
    """

    optimizer: str
    alpha: float
    beta: float
    gamma0: float
    q: float
    weight_decay: float
    sigma: float
    eps: float
    iterates: dict[int, tuple[np.ndarray, np.ndarray]]

    def __str__(self) -> str:
        return (
            f"{self.optimizer}-alpha{self.alpha:g}-beta{self.beta:g}-gamma{self.gamma0:g}-q{self.q:g}"
            f"-decay{self.weight_decay:g}" + (f"-sigma{self.sigma:g}" if self.sigma else "")
        )


def theta0() -> np.ndarray:
    """theta_0, shape (6,), float64."""
    return np.linspace(-1.5, 2.0, 6)


def gradient(theta: Any) -> np.ndarray:
    """The gradient at ``theta`` (whatever ``np.asarray`` takes), shape (6,), float64."""
    theta = np.asarray(theta, dtype=np.float64)
    return np.arange(1.0, 7.0) * theta + np.sin(3 * theta) - 0.5


def step_size(case: Case, k: int) -> float:
    """gamma_k of the step that leads from iterate k to k + 1, k = 0, 1, ..."""
    return float(case.gamma0 * (k + 1) ** -case.q)


def _load() -> list[Case]:
    rows = json.loads((Path(__file__).parent / "data" / "recorded_iterates.json").read_text(encoding="utf-8"))["cases"]
    cases = []
    for row in rows:
        iterates = {int(k): (np.array(at["theta"]), np.array(at["psi"])) for k, at in row.pop("iterates").items()}
        cases.append(Case(**{"sigma": 0.0, "eps": 0.0} | row, iterates=iterates))
    return cases


INNA_CASES = [case for case in _load() if case.optimizer == "INNA"]
INNAPROP_CASES = [case for case in _load() if case.optimizer == "INNAprop"]
