"""Search spaces: settings, their ranges, and the points that are tried."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any, Literal

from inna.checks import check_range, check_text
from inna.experiments.kept import kept

__all__ = ["LEARNING_RATE", "MOST_DIMENSIONS", "Dimension", "learning_rate", "points", "round_lr"]

Scale = Literal["log", "linear", "near one"]

MOST_DIMENSIONS = 8

LEARNING_RATE = "lr"
# Of the scrambling. Every study uses the same points.
_POINTS_SEED = 0
_FEWEST_KEPT = 256  # points, a power of 2
# Learning rates beyond these are no learning rates, and their neighbours would leave the range of a float.
_LR_LIMITS = (1e-12, 1e12)


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched, with its range.

    Attributes:
        name: the setting's name; ``lr`` is the learning rate (γ).
        low, high: the ends of its range, low < high.
        scale: ``log`` for values spread evenly over their logarithm, ``linear`` for values spread evenly, ``near one``
            for values whose distance from one is spread evenly over its logarithm.
        rest: the further components of a setting that is a tuple, which are fixed; the first is searched.
        default: the usual value, which half of the trials keep; None if all are searched.

    Raises:
        ValueError: the range is empty, or does not suit the scale.

    >>> Dimension("lr", 1e-4, 1.0).value(0.5), Dimension("betas", 0.5, 0.995, "near one", (0.999,)).value(0.5)
    (0.01, (0.95, 0.999))
    """

    name: str
    low: float
    high: float
    scale: Scale = "log"
    rest: tuple[float, ...] = ()
    default: float | None = None

    def __post_init__(self) -> None:
        check_text("a setting's name", self.name)
        least, most = _LR_LIMITS if self.name == LEARNING_RATE else (-1e300, 1e300)
        for name in ("low", "high"):
            number = check_range(f"the range of {self.name}", getattr(self, name), minimum=least, maximum=most)
            object.__setattr__(self, name, number)
        if not self.low < self.high:
            raise ValueError(f"the range of {self.name} must be written low..high, got {self.low:g}..{self.high:g}")
        if self.scale not in ("log", "linear", "near one"):
            raise ValueError(f"the scale of {self.name} must be log, linear or near one, got {self.scale!r}")
        if (self.scale == "log" and self.low <= 0) or (self.scale == "near one" and self.high >= 1):
            raise ValueError(f"the range {self.text} does not suit the scale {self.scale}")

    @property
    def text(self) -> str:
        """The range as a specification writes it, such as ``lr=0.001..1``."""
        return f"{self.name}={self.low:g}..{self.high:g}"

    def value(self, share: float) -> Any:
        """Return the value at ``share`` in [0, 1] of the range, rounded to three digits."""
        if self.scale == "log":
            number = round_lr(self.low * (self.high / self.low) ** share)
        elif self.scale == "linear":
            number = round_lr(self.low + (self.high - self.low) * share)
        else:
            far, near = 1 - self.low, 1 - self.high
            number = round(1 - float(f"{far * (near / far) ** share:.2g}"), 9)
        return self._whole(number)

    @property
    def usual(self) -> Any:
        """The default as the setting takes it."""
        return self._whole(self.default)

    def _whole(self, number: float | None) -> Any:
        return (number, *self.rest) if self.rest else number


def learning_rate(low: float, high: float) -> Dimension:
    """Return the dimension of the learning rate (γ), log-uniform."""
    return Dimension(LEARNING_RATE, low, high)


def round_lr(value: float) -> float:
    """Round to three digits, as learning rates are shown."""
    return float(f"{value:.3g}")


@cache
def points(count: int) -> tuple[tuple[float, ...], ...]:
    """Return the first ``count`` points of a scrambled Sobol sequence.

    They are in the unit cube of `MOST_DIMENSIONS`.

    Every study and every optimizer has the same ones; a search over fewer settings uses their first coordinates. Any
    2^m of them that begin at a multiple of 2^m have one in each of 2^m equal parts of every coordinate.

    Importing scipy.stats, which computes them, takes longer than the rest of a report, so they are kept.

    Source: A. B. Owen, "Scrambling Sobol' and Niederreiter-Xing points", Journal of Complexity 14, 1998.
    """
    power = (max(count, _FEWEST_KEPT) - 1).bit_length()
    name = f"sobol/{2**power}-points-of-{MOST_DIMENSIONS}-by-scipy-{version('scipy')}.json"
    return tuple(map(tuple, kept(name, lambda: _sobol(power))[:count]))


def _sobol(power: int) -> list[list[float]]:
    from scipy.stats.qmc import Sobol

    found: list[list[float]] = Sobol(MOST_DIMENSIONS, rng=_POINTS_SEED).random_base2(power).tolist()
    return found
