"""Figure 1's descents of the V-shaped Rosenbrock function as a document beside the rows, ``figure1.json``.

It is to Figure 1 what the rows are to the others: whoever computes writes it, verdicts and pictures read it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inna.checks import check_range
from inna.experiments.rows.row_files import DamagedRowError, read_document
from inna.files import write_document
from inna.theory import figure1
from inna.theory.objectives import ROSENBROCK_V

__all__ = ["DIGITS", "EVERY", "FIGURE_1", "Descent", "descend", "read_descents", "write_descents"]

FIGURE_1 = "figure1.json"


@dataclass(frozen=True)
class Descent:
    """One run of INNA on J(θ) = 100(θ₂ − |θ₁|)² + |1 − θ₁|, thinned.

    Attributes:
        label: what the settings stand for: ``caption`` (as the paper states them) or ``recovered`` (those that give
            the curves it shows).
        alpha, beta, initial_speed: α, β and s in θ'(0) = −s∇J(θ₀).
        dips: the iterations at which log₁₀ J has its dips, that is, where the descent passes by the minimum.
        iteration: the iterations that are kept, ascending from 0.
        log10_loss: log₁₀ J there.
        theta1, theta2: θ there.

    Raises:
        ValueError: the series differ in length, hold a number that is not finite, or the iterations do not ascend.

    >>> descent = Descent("recovered", 0.3, 0.1, 0.1, (), (0, 50), (1.43, 1.2), (-1.0, -1.1), (1.5, 1.3))
    >>> descent.name
    '(0.3, 0.1)'
    """

    label: str
    alpha: float
    beta: float
    initial_speed: float
    dips: tuple[int, ...]
    iteration: tuple[int, ...]
    log10_loss: tuple[float, ...]
    theta1: tuple[float, ...]
    theta2: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "initial_speed"):
            object.__setattr__(self, name, check_range(name, getattr(self, name), minimum=0.0))
        series = {name: tuple(getattr(self, name)) for name in ("iteration", "log10_loss", "theta1", "theta2")}
        for name, values in series.items():
            if len(values) != len(series["iteration"]) or not all(map(math.isfinite, values)):
                raise ValueError(f"{name} must hold a finite number for each iteration that is kept")
            object.__setattr__(self, name, values)
        object.__setattr__(self, "dips", tuple(self.dips))
        if not series["iteration"] or any(
            a >= b for a, b in zip(series["iteration"], series["iteration"][1:], strict=False)
        ):
            raise ValueError("iteration must hold at least one iteration, ascending")

    @property
    def name(self) -> str:
        """(α, β) in words."""
        return f"({self.alpha:g}, {self.beta:g})"


def write_descents(folder: Path, descents: Iterable[Descent]) -> Path:
    """Write figure1.json into ``folder`` (made if missing), under a temporary name first, then renamed."""
    path = Path(folder) / FIGURE_1
    write_document(path, {"figure1": [dataclasses.asdict(descent) for descent in descents]})
    return path


def read_descents(folder: Path) -> tuple[Descent, ...]:
    """What `write_descents` wrote into ``folder``; nothing where there is no such file.

    Raises:
        DamagedRowError: the file is cut short, altered, or holds no descents.
    """
    path = Path(folder) / FIGURE_1
    if not path.is_file():
        return ()
    try:
        return tuple(Descent(**descent) for descent in read_document(path)["figure1"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, DamagedRowError):
            raise
        raise DamagedRowError(f"{path}: not the descents of Figure 1 ({error})") from None


EVERY = 100  # iterations of Figure 1 between two points that are kept


DIGITS = 6  # significant ones of a number that is kept


def descend(folder: Path) -> list[Descent]:
    """Compute Figure 1's descents, a few seconds, write them into ``folder`` as figure1.json, and return them."""
    path = figure1.iterates()
    losses = np.log10(ROSENBROCK_V.value(path))
    descents = []
    for n, curve in enumerate(figure1.curves()):
        dips = figure1.dips(path[:, n])
        kept = sorted({*range(0, figure1.ITERATIONS + 1, EVERY), *dips})
        descents.append(
            Descent(
                curve.origin,
                curve.alpha,
                curve.beta,
                curve.initial_speed,
                tuple(dips),
                tuple(kept),
                *(_rounded(series) for series in (losses[kept, n], *path[kept, n].T)),
            )
        )
    write_descents(folder, descents)
    return descents


def _rounded(series: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{number:.{DIGITS}g}") for number in series)
