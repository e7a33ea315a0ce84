"""The interactive page: landscapes and sliders, computed in the browser.

One file, no network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inna.checks import check_range
from inna.dynamics import INNA_DEFAULTS
from inna.experiments.charts.page import key_style, page, resource, theme_style
from inna.experiments.charts.themes import assign
from inna.files import remove_abandoned, write_whole
from inna.landscape.optimizers import ADAM_DEFAULTS, KINDS, LABELS, make_optimizer
from inna.landscape.scenes import SCENES, Scene
from inna.theory.figure1 import RECOVERED

__all__ = ["Opening", "write_playground"]

SCRIPTS = ("rule.js", "race.js", "view.js", "playground.js")
# A browser keeps this many iterations of five optimizers in memory.
MAX_STEPS = 200_000


@dataclasses.dataclass(frozen=True)
class Opening:
    """The initial settings of the page.

    Attributes:
        scene: the landscape.
        alpha, beta: INNA's dampings, >= 0.
        lr: INNA's learning rate, > 0; None is the scene's.
        initial_speed: s, >= 0; None is beta.
        q: power of the decay, >= 0.
        start: theta_0; None is the scene's.
        steps: iterations, up to `MAX_STEPS`; None is the scene's.
        beside: the other optimizers, by kind.

    Raises:
        ValueError: a value is out of range.
    """

    scene: Scene
    alpha: float = INNA_DEFAULTS.alpha
    beta: float = INNA_DEFAULTS.beta
    lr: float | None = None
    initial_speed: float | None = None
    q: float = 0.0
    start: tuple[float, float] | None = None
    steps: int | None = None
    beside: Sequence[str] = ("gd", "heavy-ball", "adam")

    def __post_init__(self) -> None:
        gamma = self.scene.lr if self.lr is None else self.lr
        for kind in self.beside:
            if kind not in KINDS or kind == "inna":
                raise ValueError(
                    f"beside INNA the interactive page runs {', '.join(list(KINDS)[1:])}, without settings (set them "
                    f"on the page); got {kind!r}"
                )
        for kind in ("inna", *self.beside):
            given = {"beta": self.beta, "initial_speed": self.initial_speed} if kind == "inna" else {}
            make_optimizer(kind, gamma, self.alpha, given)
        check_range("q", self.q, minimum=0.0)
        for coordinate in self.start or ():
            check_range("start", coordinate)
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"the interactive page takes 1 to {MAX_STEPS} steps, got {self.steps}")


def write_playground(path: Path, opening: Opening) -> Path:
    """Write the page to ``path``.

    It is written under a temporary name first, then renamed.

    Returns:
        ``path``.
    """
    remove_abandoned(path.parent)
    write_whole(path, _page(opening).encode())
    return path


def _page(opening: Opening) -> str:
    kinds = list(KINDS)
    styles = assign([(kind, kind) for kind in kinds], reference="gd")
    folder = "landscape/playground"
    scenes = {**SCENES, opening.scene.name: opening.scene}
    return page(
        f"{folder}/playground.html",
        title="INNA on a landscape",
        style=f"{theme_style(styles)}{resource(f'{folder}/playground.css')}{key_style(len(kinds))}",
        scripts=[resource(f"{folder}/{name}") for name in SCRIPTS],
        scenes={name: scene.objective.name if name in SCENES else name for name, scene in scenes.items()},
        data={
            "data": {
                "scenes": {name: _described(scene) for name, scene in scenes.items()},
                "defaults": _settings(opening),
                "presets": {
                    curve.panel: _settings(
                        Opening(SCENES["rosenbrock-v"], curve.alpha, curve.beta, initial_speed=curve.initial_speed)
                    )
                    for curve in RECOVERED
                },
                "names": {"inna": "INNA", **LABELS},
                "adam": ADAM_DEFAULTS,
                "maxSteps": MAX_STEPS,
            }
        },
    )


def _described(scene: Scene) -> dict[str, Any]:
    frame, objective = scene.frame, scene.objective
    return {
        "formula": objective.formula,
        "frame": [frame.left, frame.right, frame.bottom, frame.top],
        "start": scene.start,
        "lr": scene.lr,
        "steps": min(scene.steps, MAX_STEPS),
        "lowest": scene.lowest,
        "minimisers": objective.minimisers.tolist(),
        "saddles": objective.saddles.tolist(),
        "spurious": objective.spurious_points.tolist(),
        "spectrum": scene.spectrum,
    }


def _settings(opening: Opening) -> dict[str, Any]:
    """Return the settings of the page.

    The learning rates of the other optimizers follow INNA's.
    """
    gamma = opening.scene.lr if opening.lr is None else opening.lr
    ball = make_optimizer("heavy-ball", gamma, opening.alpha, {})
    return {
        "scene": opening.scene.name,
        "alpha": opening.alpha,
        "beta": opening.beta,
        "lr": gamma,
        "speed": opening.initial_speed,
        "q": opening.q,
        "start": opening.start or opening.scene.start,
        "steps": min(opening.scene.steps, MAX_STEPS) if opening.steps is None else opening.steps,
        "beside": list(dict.fromkeys(opening.beside)),
        "same": True,
        "gdLr": gamma,
        "sgdLr": ball.lr,
        "momentum": ball.settings["momentum"],
        "adamLr": gamma,
        "lock": "",
    }
