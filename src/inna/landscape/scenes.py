"""The landscapes: objectives of two parameters, frames, and starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from inna.checks import check_range, did_you_mean
from inna.theory import figure1
from inna.theory.objectives import (
    BEALE,
    DOUBLE_WELL,
    MONKEY_SADDLE,
    ROSENBROCK,
    ROSENBROCK_V,
    SPURIOUS_CORNER,
    Objective,
    quadratic,
)

__all__ = ["SCENES", "Frame", "Scene", "find_scene"]


@dataclass(frozen=True)
class Frame:
    """The part of the plane from (left, bottom) to (right, top).

    Raises:
        ValueError: a bound is not finite, or left >= right, or bottom >= top.
    """

    left: float
    right: float
    bottom: float
    top: float

    def __post_init__(self) -> None:
        for name in ("left", "right", "bottom", "top"):
            check_range(f"frame: {name}", getattr(self, name))
        if not (self.left < self.right and self.bottom < self.top):
            raise ValueError(
                "frame must be left, right, bottom, top with left < right and bottom < top, got "
                f"{self.left:g}, {self.right:g}, {self.bottom:g}, {self.top:g}"
            )

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        return self.right - self.left, self.top - self.bottom

    def around(self, point: tuple[float, float]) -> Frame:
        """Return this frame grown to contain ``point``, with a margin.

        The margin is a twentieth of its size.

        >>> Frame(0, 1, 0, 1).around((2.0, 0.5)).right
        2.05
        """
        (x, y), (width, height) = point, self.size
        return Frame(
            min(self.left, x - width / 20),
            max(self.right, x + width / 20),
            min(self.bottom, y - height / 20),
            max(self.top, y + height / 20),
        )


@dataclass(frozen=True)
class Scene:
    """A landscape with its defaults.

    Frame, start, learning rate γ and number of iterations.

    Attributes:
        name: as on the command line.
        objective: J.
        frame: the part of the plane to show.
        start: theta_0.
        lr: learning rate of INNA.
        steps: iterations.
        spectrum: the eigenvalues of a `quadratic`; None for other objectives.
    """

    name: str
    objective: Objective
    frame: Frame
    start: tuple[float, float]
    lr: float
    steps: int
    spectrum: tuple[float, float] | None = None

    @property
    def stem(self) -> str:
        """The name as part of a file name."""
        return "-".join(self.name.replace(":", ",").split(","))

    @property
    def lowest(self) -> float | None:
        """The minimum of J; None where J is unbounded below."""
        minimisers = self.objective.minimisers
        return float(self.objective.value(minimisers[0])) if len(minimisers) else None


SCENES: Mapping[str, Scene] = {
    scene.name: scene
    for scene in (
        Scene("rosenbrock-v", ROSENBROCK_V, Frame(-2, 2, -0.4, 2.2), figure1.START, figure1.LR, figure1.ITERATIONS),
        Scene("rosenbrock", ROSENBROCK, Frame(-2, 2, -0.8, 2.6), (-1.2, 1.0), 1e-3, 20_000),
        Scene("beale", BEALE, Frame(-0.6, 4.2, -1.4, 1.4), (0.4, -0.9), 2e-3, 15_000),
        Scene("double-well", DOUBLE_WELL, Frame(-2.1, 2.1, -1.4, 1.4), (0.02, 1.2), 1e-2, 3_000),
        Scene("monkey-saddle", MONKEY_SADDLE, Frame(-2, 2, -1.3, 1.3), (1.5, 0.02), 1e-2, 1_500),
        Scene("spurious-corner", SPURIOUS_CORNER, Frame(-1.9, 1.7, -1.4, 1.0), (1.1, 0.5), 5e-3, 4_000),
        Scene("quadratic", quadratic([1.0, 100.0]), Frame(-2, 2, -1.3, 1.3), (-1.7, 0.9), 1e-2, 2_000, (1.0, 100.0)),
    )
}


def find_scene(text: str) -> Scene:
    """Return the scene of a name.

    ``quadratic:1,25`` is the quadratic whose Hessian has these eigenvalues.

    Raises:
        ValueError: there is no such scene, or the eigenvalues are not two finite numbers.

    >>> find_scene("quadratic:1,-2").objective.saddles
    array([[0., 0.]])
    """
    name, _, spectrum = text.partition(":")
    if name not in SCENES or (spectrum and name != "quadratic"):
        raise ValueError(
            f"objective must be one of {', '.join(SCENES)}, or quadratic:1,25; got {text!r}{did_you_mean(text, SCENES)}"
        )
    scene = SCENES[name]
    if not spectrum:
        return scene
    try:
        first, second = (float(part) for part in spectrum.split(","))
    except ValueError:
        raise ValueError(f"a quadratic has two eigenvalues, as in quadratic:1,25; got {text!r}") from None
    return replace(scene, name=text, objective=quadratic([first, second]), spectrum=(first, second))
