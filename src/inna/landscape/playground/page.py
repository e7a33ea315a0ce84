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
from inna.landscape.scenes import SCENES, Scene, find_scene
from inna.theory.figure1 import RECOVERED

__all__ = ["LESSONS", "Lesson", "Opening", "write_playground"]

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
        loss_bound: f* of INNA's guard; None is no guard.

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
    loss_bound: float | None = None

    def __post_init__(self) -> None:
        gamma = self.scene.lr if self.lr is None else self.lr
        for kind in self.beside:
            if kind not in KINDS or kind == "inna":
                raise ValueError(
                    f"beside INNA the interactive page runs {', '.join(list(KINDS)[1:])}, without settings (set them "
                    f"on the page); got {kind!r}"
                )
        for kind in ("inna", *self.beside):
            given = {"beta": self.beta, "initial_speed": self.initial_speed, "loss_bound": self.loss_bound}
            make_optimizer(kind, gamma, self.alpha, given if kind == "inna" else {})
        check_range("q", self.q, minimum=0.0)
        for coordinate in self.start or ():
            check_range("start", coordinate)
        if self.steps is not None and not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"the interactive page takes 1 to {MAX_STEPS} steps, got {self.steps}")


@dataclasses.dataclass(frozen=True)
class Lesson:
    """A guided step of the page: settings, and the mathematics that they show.

    Attributes:
        name: on the button.
        title: of the text.
        text: some sentences.
        opening: the settings.
        rates: further settings of the page, such as the learning rate of gradient descent.
    """

    name: str
    title: str
    text: str
    opening: Opening
    rates: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the page."""
        return {**_settings(self.opening), **self.rates}


VALLEY = find_scene("quadratic:1,25")
START = (-1.7, 0.9)
LESSONS: tuple[Lesson, ...] = (
    Lesson(
        "Friction",
        "Too little friction",
        "INNA discretises θ″ + αθ′ + β∇²J θ′ + ∇J = 0, a ball with mass. On curvature λ its friction is α + βλ, and it "
        "swings where that is below 2√λ. Here it is 0.6 across the valley (λ = 25, limit 10) and 0.12 along it (λ = 1, "
        "limit 2).",
        Opening(VALLEY, 0.1, 0.02, lr=0.02, start=START, steps=600, beside=()),
    ),
    Lesson(
        "Damping β",
        "β damps the zig-zag",
        "β adds the friction βλ: much where the curvature is large, little where it is small. With α = 1 and β = 0.36 "
        "the friction across the valley is 10 = 2√25, and the swing is gone. The heavy ball has the same α, and 1.5 "
        "there.",
        Opening(VALLEY, 1.0, 0.36, lr=0.02, start=START, steps=600, beside=("heavy-ball",)),
    ),
    Lesson(
        "Heavy ball",
        "γ = β is the heavy ball",
        "At β = γ the iterates are those of SGD with momentum 1 − αγ = 0.98 and learning rate γ² = 0.0004. What "
        "INNA adds to momentum is the choice of β.",
        Opening(VALLEY, 1.0, 0.02, lr=0.02, start=START, steps=600, beside=("heavy-ball",)),
    ),
    Lesson(
        "Gradient descent",
        "αβ = 1 is gradient descent",
        "The momentum collects (1 − αβ)∇J. At α = 2.5, β = 0.4 that is 0, and each step is −γβ∇J: gradient descent "
        "with learning rate γβ = 0.008. No swing, no speed along the valley.",
        Opening(VALLEY, 2.5, 0.4, lr=0.02, start=START, steps=600, beside=("gd",)),
        {"same": False, "gdLr": 0.02 * 0.4},
    ),
    Lesson(
        "Guard",
        "The guard saves a step that is too long",
        "At λ = 25 γ must stay below 0.12, and γ = 0.5 diverges. The guard cuts each step where the average of the "
        "past linear models of J reaches f* = min J. On a convex J the distance to the minimiser then never grows. "
        "Switch the guard off to compare.",
        Opening(VALLEY, lr=0.5, start=START, steps=100, beside=(), loss_bound=0.0),
    ),
)


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
    styles = assign([(kind, kind) for kind in kinds])
    folder = "landscape/playground"
    scenes = {VALLEY.name: VALLEY, **SCENES, opening.scene.name: opening.scene}
    return page(
        f"{folder}/playground.html",
        title="INNA on a landscape",
        style=f"{theme_style(styles)}{resource(f'{folder}/playground.css')}{key_style(len(kinds))}",
        scripts=[resource(f"{folder}/{name}") for name in SCRIPTS],
        scenes={name: _title(name, scene) for name, scene in scenes.items()},
        lessons=LESSONS,
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
                "lessons": [
                    {"title": lesson.title, "text": lesson.text, "settings": lesson.settings} for lesson in LESSONS
                ],
                "names": {"inna": "INNA", **LABELS},
                "adam": ADAM_DEFAULTS,
                "maxSteps": MAX_STEPS,
            }
        },
    )


def _title(name: str, scene: Scene) -> str:
    if name in SCENES and scene.spectrum is None:
        return scene.objective.name
    return "Quadratic, λ = {:g} and {:g}".format(*scene.spectrum) if scene.spectrum else name


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
        "bound": opening.loss_bound,
    }
