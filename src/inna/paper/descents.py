"""Figure 1's descents, and the file ``figure1.json`` that keeps them.

The file is to Figure 1 what the rows of runs are to the other figures: verdicts and figures are made from it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inna.checks import check_range
from inna.experiments.rows.row_files import DamagedRowError, read_document
from inna.files import write_document
from inna.theory import figure1
from inna.theory.objectives import ROSENBROCK_V

__all__ = [
    "DIGITS",
    "EVERY",
    "FIGURE_1",
    "Descent",
    "as_panels",
    "by_label",
    "descend",
    "initial_speeds",
    "read_descents",
    "write_descents",
]

FIGURE_1 = "figure1.json"
# The distance in iterations between two kept points, and the significant digits of a kept number.
EVERY = 100
DIGITS = 6


@dataclass(frozen=True)
class Descent:
    """One run of INNA on J(θ) = 100(θ₂ − |θ₁|)² + |1 − θ₁|, thinned.

    Attributes:
        label: the origin of the settings: ``caption`` (as the paper states them) or ``recovered`` (those that give
            the published curves).
        alpha: α.
        beta: β.
        initial_speed: s in θ'(0) = −s∇J(θ₀).
        dips: the iterations at which log₁₀ J dips, where the descent passes the minimum.
        iteration: the kept iterations, ascending from 0.
        log10_loss: log₁₀ J at the kept iterations.
        theta1: θ₁ at the kept iterations.
        theta2: θ₂ at the kept iterations.

    Raises:
        ValueError: the series differ in length or contain a number that is not finite, or the iterations do not
            ascend.

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
                raise ValueError(f"{name} must contain a finite number for each kept iteration")
            object.__setattr__(self, name, values)
        object.__setattr__(self, "dips", tuple(self.dips))
        if not series["iteration"] or any(a >= b for a, b in itertools.pairwise(series["iteration"])):
            raise ValueError("iteration must contain at least one iteration, ascending")

    @property
    def name(self) -> str:
        """(α, β) as text."""
        return f"({self.alpha:g}, {self.beta:g})"


def write_descents(folder: Path, descents: Iterable[Descent]) -> Path:
    """Write figure1.json atomically into ``folder``, which is created if missing."""
    path = Path(folder) / FIGURE_1
    write_document(path, {"figure1": [dataclasses.asdict(descent) for descent in descents]})
    return path


def read_descents(folder: Path) -> tuple[Descent, ...]:
    """Read figure1.json of ``folder``; empty where there is no such file.

    Raises:
        DamagedRowError: the file is cut short, altered, or contains no descents.
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


def by_label(descents: Iterable[Descent]) -> dict[str, list[Descent]]:
    """Group descents by their label, in order of appearance.

    A group is sorted by β, then α, as the panels are.
    """
    groups: dict[str, list[Descent]] = {}
    for descent in descents:
        groups.setdefault(descent.label, []).append(descent)
    return {label: sorted(group, key=lambda each: (each.beta, each.alpha)) for label, group in groups.items()}


def as_panels(group: Sequence[Descent]) -> dict[str, Descent]:
    """Assign a sorted group to the panels (a), (b) and (c) of Figure 1.

    Returns:
        The descent with the smaller β as "a", the two with the larger β as "b" and "c" with α ascending; empty where
        the group does not consist of these three.
    """
    if len(group) != len(figure1.PAPER_DIPS):
        return {}
    a, b, c = group
    if not (a.beta < b.beta == c.beta and b.alpha < c.alpha):
        return {}
    return dict(zip(figure1.PAPER_DIPS, group, strict=True))


def initial_speeds(group: Iterable[Descent]) -> str:
    """Return the initial speeds of a group as text."""
    return " / ".join(dict.fromkeys(f"{each.initial_speed:g}" for each in group))


def descend(folder: Path) -> list[Descent]:
    """Compute Figure 1's descents and write them into figure1.json of ``folder``.

    This takes a few seconds.
    """
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
