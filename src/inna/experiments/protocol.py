"""The paper's protocol (section 5.2.1) as studies: who takes part, which step sizes are tried, how long, which seeds.

What the paper states: batches of 32, gamma_0/sqrt(k + 1) over iterations for INNA and SGD, adaptive optimizers as they
are, gamma_0 by training loss after fifteen epochs, five initialisations, 200 epochs, INNA at four (alpha, beta) with
initial velocity -grad J(theta_0). What it leaves open is settled here, before any run: the grid of gamma_0 (five
half-decades, extended where the best lies on an edge); Figure 4's (alpha, beta), for which the recommended default
(0.5, 0.1) is taken; and its gamma_0, which is tuned for each q like every other. Beyond the paper: heavy ball, AdamW,
INNAprop.
"""

from __future__ import annotations

from typing import NamedTuple

from inna.experiments.study import Contender, Study

__all__ = ["DAMPINGS", "DECAY_POWERS", "FIGURE_4_DAMPINGS", "SCALES", "Scale", "contenders", "protocol_study"]

DAMPINGS = ((0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.5, 1.0))
FIGURE_4_DAMPINGS = (0.5, 0.1)
DECAY_POWERS = (1 / 2, 1 / 4, 1 / 8, 1 / 16)
INITIAL_SPEED = 1.0
NON_ADAPTIVE_GRID = (0.01, 0.0316, 0.1, 0.316, 1.0)
ADAPTIVE_GRID = (0.0001, 0.000316, 0.001, 0.00316, 0.01)


class Scale(NamedTuple):
    """How long a reproduction runs: epochs of the final runs and of the tuning runs, seeds of the final runs."""

    epochs: int
    tuning_epochs: int
    seeds: tuple[int, ...]


SCALES = {
    "quick": Scale(epochs=10, tuning_epochs=3, seeds=(1, 2, 3)),
    "medium": Scale(epochs=20, tuning_epochs=3, seeds=(1, 2, 3)),
    "paper": Scale(epochs=200, tuning_epochs=15, seeds=(1, 2, 3, 4, 5)),
}


def inna(alpha: float, beta: float, q: float) -> Contender:
    """INNA as the paper runs it; its label names q where that is not the paper's 1/2."""
    label = f"INNA ({alpha:g}, {beta:g})" + (f", q = 1/{1 / q:g}" if q != DECAY_POWERS[0] else "")
    return Contender(label, "inna", alpha, beta, (("initial_speed", INITIAL_SPEED),), NON_ADAPTIVE_GRID, (q,))


def contenders() -> tuple[Contender, ...]:
    """Everybody, in the order of the legends: the paper's optimizers, those beyond it, Figure 4's other decays."""
    return (
        *(inna(alpha, beta, DECAY_POWERS[0]) for alpha, beta in DAMPINGS),
        Contender("SGD", "sgd", grid=NON_ADAPTIVE_GRID, qs=(DECAY_POWERS[0],)),
        Contender("AdaGrad", "adagrad", grid=ADAPTIVE_GRID, qs=(0.0,)),
        Contender("Adam", "adam", grid=ADAPTIVE_GRID, qs=(0.0,)),
        Contender("heavy ball", "heavy-ball", grid=NON_ADAPTIVE_GRID, qs=(DECAY_POWERS[0],)),
        Contender("AdamW", "adamw", grid=ADAPTIVE_GRID, qs=(0.0,)),
        Contender("INNAprop", "innaprop", 0.1, 0.9, grid=ADAPTIVE_GRID, qs=(0.0,)),
        *(inna(*FIGURE_4_DAMPINGS, q) for q in DECAY_POWERS[1:]),
    )


def protocol_study(dataset: str, model: str, scale: str, *, device: str = "cpu", precision: str = "float32") -> Study:
    """The study of Figures 2 to 4 on one data set at one of `SCALES`."""
    length = SCALES[scale]
    return Study(
        dataset=dataset,
        model=model,
        contenders=contenders(),
        reference="SGD",
        tuning_epochs=length.tuning_epochs,
        epochs=length.epochs,
        seeds=length.seeds,
        device=device,
        precision=precision,
    )
