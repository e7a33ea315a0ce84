"""The paper's protocol (section 5.2.1) as studies.

The paper states: batches of 32, the learning rate gamma_0/sqrt(k + 1) over iterations for INNA and SGD, none of it for
adaptive optimizers, gamma_0 by training loss after fifteen epochs, five initialisations, 200 epochs, INNA at four
(alpha, beta) with initial velocity -grad J(theta_0). It leaves open, and was settled here before any run: the grid of
gamma_0 (five half-decades, extended where the best is on an edge); Figure 4's (alpha, beta), which is the recommended
default (0.5, 0.1); and its gamma_0, which is tuned for each q like every other. Beyond the paper: heavy ball, AdamW,
INNAprop.

Figure 2 needs INNA at the four (alpha, beta). Figure 3 needs the same, to find the best of them, and the other
optimizers. Figure 4 needs INNA at the other powers of the decay, (0.5, 0.1) at q = 1/2, and Adam. Runs that two
figures share are done once. Figure 1 is a separate toy problem (`inna.paper.descents`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import NamedTuple

from inna.experiments.study.study import Contender, Study
from inna.experiments.tasks.catalogue import split_subset, split_width, subset

__all__ = [
    "BEYOND",
    "DAMPINGS",
    "DECAYS",
    "DECAY_POWERS",
    "FIGURES",
    "FIGURE_4_DAMPINGS",
    "FOUR",
    "INITIAL_SPEED",
    "LR_FREE",
    "QUICK",
    "SCALES",
    "Scale",
    "contenders",
    "initial_speed_of",
    "inna",
    "protocol_study",
    "scale_of",
    "united",
]

FIGURES = ("fig1", "fig2", "fig3", "fig4")
DAMPINGS = ((0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.5, 1.0))
FIGURE_4_DAMPINGS = (0.5, 0.1)
DECAY_POWERS = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
INITIAL_SPEED = 1.0  # as the paper states; its authors' PyTorch code has beta
NON_ADAPTIVE_GRID = (0.01, 0.0316, 0.1, 0.316, 1.0)
ADAPTIVE_GRID = (0.0001, 0.000316, 0.001, 0.00316, 0.01)
REFERENCE = "SGD"


class Scale(NamedTuple):
    """The length of a reproduction.

    Attributes:
        epochs: of the final runs.
        tuning_epochs: of the tuning runs.
        seeds: of the final runs.
        images: the number of training images used; None: all. Test images are cut in the same proportion.
    """

    epochs: int
    tuning_epochs: int
    seeds: tuple[int, ...]
    images: int | None = None


SCALES = {
    "medium": Scale(epochs=20, tuning_epochs=3, seeds=(1, 2, 3)),
    "paper": Scale(epochs=200, tuning_epochs=15, seeds=(1, 2, 3, 4, 5)),
}
# By network, a check that everything works within a quarter of an hour on two cores. With Network in Network it shows
# nothing more: an image is so expensive that there are only a hundred iterations.
QUICK = {
    "small-cnn": Scale(epochs=30, tuning_epochs=5, seeds=(1, 2, 3)),
    "mlp": Scale(epochs=30, tuning_epochs=5, seeds=(1, 2, 3), images=1_500),
    "lenet5": Scale(epochs=10, tuning_epochs=3, seeds=(1, 2, 3), images=5_000),
    "nin": Scale(epochs=5, tuning_epochs=2, seeds=(1,), images=320),
}


def scale_of(name: str, model: str) -> Scale:
    """Return the scale called ``name`` for the network ``model``.

    Raises:
        ValueError: there is no such scale, or no quick one for this network.

    >>> scale_of("paper", "nin").epochs
    200
    """
    if name == "quick" and (network := split_width(model)[0]) in QUICK:
        return QUICK[network]
    if name not in SCALES:
        raise ValueError(f"scale must be quick (for {', '.join(QUICK)}), medium or paper; got {name!r} for {model}")
    return SCALES[name]


def inna(alpha: float, beta: float, q: float, initial_speed: float = INITIAL_SPEED) -> Contender:
    """Return INNA as the paper runs it; its label names q where that is not 1/2."""
    label = f"INNA ({alpha:g}, {beta:g})" + (f", q = 1/{1 / q:g}" if q != DECAY_POWERS[0] else "")
    return Contender(label, "inna", alpha, beta, (("initial_speed", initial_speed),), NON_ADAPTIVE_GRID, (q,))


FOUR = tuple(inna(alpha, beta, DECAY_POWERS[0]).label for alpha, beta in DAMPINGS)
DECAYS = tuple(inna(*FIGURE_4_DAMPINGS, q).label for q in DECAY_POWERS)
# No part of the protocol: it has no learning rate to tune, and decays to zero.
LR_FREE = Contender("INNAprop.lr_free", "innaprop-lr-free", 0.1, 0.9, grid=(1.0,), qs=("linear",))
BEYOND = ("heavy ball", "AdamW", "INNAprop", LR_FREE.label)


def contenders(figures: Collection[str] = FIGURES, *, initial_speed: float = INITIAL_SPEED) -> tuple[Contender, ...]:
    """Return the optimizers in ``figures``, in the order of legends.

    The paper's optimizers come first, then those beyond it, then INNA with other decays.

    Args:
        figures: of `FIGURES`.
        initial_speed: s in INNA's initial velocity -s grad J(theta_0).

    >>> [contender.label for contender in contenders(["fig2"])]
    ['INNA (0.1, 0.1)', 'INNA (0.5, 0.1)', 'INNA (0.5, 0.5)', 'INNA (0.5, 1)']
    """
    adam = Contender("Adam", "adam", grid=ADAPTIVE_GRID, qs=(0.0,))
    dampings = {inna(*each, DECAY_POWERS[0], initial_speed): {"fig2", "fig3"} for each in DAMPINGS}
    dampings[inna(*FIGURE_4_DAMPINGS, DECAY_POWERS[0], initial_speed)].add("fig4")
    needed = dampings | {
        Contender("SGD", "sgd", grid=NON_ADAPTIVE_GRID, qs=(DECAY_POWERS[0],)): {"fig3"},
        Contender("AdaGrad", "adagrad", grid=ADAPTIVE_GRID, qs=(0.0,)): {"fig3"},
        adam: {"fig3", "fig4"},
        Contender("heavy ball", "heavy-ball", grid=NON_ADAPTIVE_GRID, qs=(DECAY_POWERS[0],)): {"fig3"},
        Contender("AdamW", "adamw", grid=ADAPTIVE_GRID, qs=(0.0,)): {"fig3"},
        Contender("INNAprop", "innaprop", 0.1, 0.9, grid=ADAPTIVE_GRID, qs=(0.0,)): {"fig3"},
        **{inna(*FIGURE_4_DAMPINGS, q, initial_speed): {"fig4"} for q in DECAY_POWERS[1:]},
    }
    return tuple(contender for contender, where in needed.items() if where & set(figures))


def protocol_study(
    dataset: str,
    model: str,
    scale: str,
    *,
    figures: Collection[str] = FIGURES,
    device: str = "cpu",
    precision: str = "float32",
    command: str = "",
    images: int | None = None,
    source: str = "",
    refinement: int = 0,
    initial_speed: float = INITIAL_SPEED,
) -> Study:
    """Return the study for ``figures`` (of Figures 2 to 4) on one data set.

    ``images`` is the number of its training images, if it may have fewer than the scale uses; ``source`` is that of
    `Run`, ``refinement`` that of `Study`, ``initial_speed`` that of `contenders`.

    Raises:
        ValueError: no such scale, or no figure that needs runs.
    """
    length = scale_of(scale, model)
    taking_part = contenders(figures, initial_speed=initial_speed)
    whole = length.images is None or (images is not None and images <= length.images)
    return Study(
        dataset=dataset if whole or length.images is None else subset(split_subset(dataset)[0], length.images),
        model=model,
        contenders=taking_part,
        reference=_reference(taking_part),
        tuning_epochs=length.tuning_epochs,
        epochs=length.epochs,
        seeds=length.seeds,
        device=device,
        precision=precision,
        source=source,
        command=command,
        refinement=refinement,
    )


def initial_speed_of(study: Study) -> float | None:
    """Return the initial speed of INNA's contenders; None if they differ.

    The paper's if there are none.
    """
    speeds = {dict(each.settings).get("initial_speed") for each in study.contenders if each.optimizer == "inna"}
    return speeds.pop() if len(speeds) == 1 else None if speeds else INITIAL_SPEED


def united(study: Study, earlier: Study) -> Study:
    """Add the optimizers of ``earlier`` to ``study`` if it is the same protocol."""
    same = dataclasses.replace(
        earlier, contenders=study.contenders, reference=study.reference, command=study.command, budget=study.budget
    )
    if same != study:
        return study
    speed = initial_speed_of(study)
    known = contenders(initial_speed=INITIAL_SPEED if speed is None else speed)
    taking_part = tuple(c for c in known if c in study.contenders or c in earlier.contenders)
    return dataclasses.replace(study, contenders=taking_part, reference=_reference(taking_part))


def _reference(taking_part: Iterable[Contender]) -> str:
    labels = [contender.label for contender in taking_part]
    return REFERENCE if REFERENCE in labels else inna(*FIGURE_4_DAMPINGS, DECAY_POWERS[0]).label
