"""The curves of the paper's Figures 2 to 4, digitised from its vector graphics.

Source: C. Castera, J. Bolte, C. Févotte, E. Pauwels, "An Inertial Newton Algorithm for Deep Learning", JMLR 22(134),
2021, licensed CC-BY 4.0. The paper has no tables. Lines are the paper's means over five seeds, bands its best and
worst; its training losses fit log₁₀ of the mean loss. Values are given every five epochs to four digits. Where a line
is outside the axes the value is missing.

The curves have the labels of `inna.paper.protocol`. For Figure 4 the paper does not state (α, β); its curves are
compared with ours at (0.5, 0.1). Figure 3's curve of INNA is Figure 2's of the same damping and is stored once.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

__all__ = [
    "BEST_IN_FIGURE_3",
    "PAPER_DATASETS",
    "PAPER_EPOCHS",
    "PaperCurve",
    "PaperValue",
    "paper_curve",
]

PAPER_EPOCHS = 200
# The data sets of the paper, by their names here, and the damping that Figure 3 shows for each.
BEST_IN_FIGURE_3 = {"cifar10": "INNA (0.1, 0.1)", "cifar100": "INNA (0.5, 0.1)", "mnist": "INNA (0.1, 0.1)"}
PAPER_DATASETS = tuple(BEST_IN_FIGURE_3)

Series = tuple[float | None, ...]


class PaperValue(NamedTuple):
    """A curve at one epoch; a value outside the axes is None.

    Attributes:
        mean: the line.
        low: the lower end of the band.
        high: the upper end of the band.
    """

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class PaperCurve:
    """One digitised curve: its line and the ends of its band at ``epochs``."""

    epochs: tuple[int, ...]
    mean: Series
    low: Series
    high: Series

    def at(self, epoch: float) -> PaperValue:
        """Return the curve at ``epoch``, linear between the digitised epochs.

        Raises:
            ValueError: the epoch is outside the paper's.

        >>> paper_curve(3, "cifar10", "test_accuracy", "Adam").at(200).mean
        0.817
        """
        if not self.epochs[0] <= epoch <= self.epochs[-1]:
            raise ValueError(f"epoch must be between {self.epochs[0]} and {self.epochs[-1]}, got {epoch}")
        right = next(position for position, each in enumerate(self.epochs) if each >= epoch)
        left = right - (self.epochs[right] > epoch)
        share = (epoch - self.epochs[left]) / (self.epochs[right] - self.epochs[left]) if left < right else 0.0

        def between(series: Series) -> float | None:
            a, b = series[left], series[right]
            return None if a is None or b is None else a + share * (b - a)

        return PaperValue(between(self.mean), between(self.low), between(self.high))


def paper_curve(figure: int, dataset: str, quantity: str, label: str) -> PaperCurve | None:
    """Return the paper's curve in one of its figures; None where it has none.

    Args:
        figure: 2, 3 or 4.
        dataset: one of `PAPER_DATASETS`; others have no curves.
        quantity: ``log10_train_loss`` or ``test_accuracy`` (not in Figure 4).
        label: of an optimizer of the protocol.
    """
    if figure == 3 and label == BEST_IN_FIGURE_3.get(dataset):
        figure = 2
    return _curves().get((figure, dataset, quantity, label))


@cache
def _curves() -> dict[tuple[int, str, str, str], PaperCurve]:
    source = resources.files("inna.paper").joinpath("curves.csv").read_text(encoding="utf-8")
    heads, *lines = csv.reader(line for line in source.splitlines() if not line.startswith("#"))
    epochs = tuple(int(epoch) for epoch in heads[5:])
    parts: dict[tuple[int, str, str, str], dict[str, Series]] = {}
    for figure, dataset, quantity, label, line, *values in lines:
        series = tuple(float(value) if value else None for value in values)
        parts.setdefault((int(figure), dataset, quantity, label), {})[line] = series
    return {key: PaperCurve(epochs, **each) for key, each in parts.items()}
