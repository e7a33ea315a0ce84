"""The claims of the paper's section 5.2 about deep learning.

The rules and their thresholds were written down before the runs that they judge, and chosen so that the paper's own
curves at its last epoch meet them wherever its text and its figures agree. `compare` is applied twice: to the results,
and to the paper's digitised curves at the same epoch. A short run is thus compared with the paper's run at that length.
An epoch over a part of a data set has no counterpart in the paper.

To add a claim, add an entry to `CLAIMS`. A claim of a new kind also needs a function here and a sentence in
`inna.paper.words`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from inna.paper.evidence import ACCURACY, BEST, LOSS, Key, Quantity, Values, keys_of
from inna.paper.protocol import DECAYS, FIGURE_4_DAMPINGS, FOUR, inna
from inna.paper.verdicts import Comparison

__all__ = [
    "CHANCE",
    "CLAIMS",
    "Claim",
    "Kind",
    "compare",
]

# The smallest number of final seeds that all optimizers of a claim must have in common.
MIN_SEEDS = 3
# One optimizer is better than another from this difference on, if it also leads on more than half of the seeds: 5 % of
# a loss (in log₁₀), and ten images of ten thousand.
LOSS_MARGIN = 0.02
ACCURACY_MARGIN = 0.001
# The largest range of the dampings where their choice is "not crucial": a factor of 3 in the loss, five points of
# accuracy. The paper's four end at most 0.5 and 0.035 apart.
LOSS_RANGE = 0.5
ACCURACY_RANGE = 0.05
# The largest distance of a good default from the lowest loss: a factor of 1.6. In the paper (0.5, 0.1) ends at most
# 0.18 above it.
DEFAULT_LOSS = 0.2
# "Early" is after this epoch, the first that is digitised.
EARLY_EPOCH = 5

DEFAULT = inna(*FIGURE_4_DAMPINGS, 1 / 2).label
_, QUARTER, _, SIXTEENTH = DECAYS
# The rival of a number that is compared with the training loss of a guess.
CHANCE = "chance"

Kind = Literal["better", "alike", "near the best", "at chance"]


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, or one beyond it, and the comparison that judges it.

    Attributes:
        name: an identifier.
        statement: the statement.
        source: where the paper makes it.
        kind: the comparison.
        subjects: the optimizers whose numbers are shown, `BEST` among them for INNA at its best damping.
        ours: those of ``subjects`` that are judged.
        thresholds: the quantities compared, and the margin or limit of each.
        early: judged after `EARLY_EPOCH` instead of the last epoch.
        one_suffices: holds where one of ``ours`` meets the condition; otherwise all must.
    """

    name: str
    statement: str
    source: str
    kind: Kind
    subjects: tuple[str, ...]
    ours: tuple[str, ...]
    thresholds: Mapping[Quantity, float]
    early: bool = False
    one_suffices: bool = False

    @property
    def keys(self) -> tuple[Key, ...]:
        """The numbers that the claim needs."""
        return keys_of(self.subjects, tuple(self.thresholds))

    @property
    def labels(self) -> tuple[str, ...]:
        """The optimizers that must have run: `BEST` stands for the four dampings."""
        others = tuple(subject for subject in self.subjects if subject != BEST)
        return (*FOUR, *others) if BEST in self.subjects else others


def compare(claim: Claim, values: Values, chance: float) -> list[Comparison]:
    """Compare the numbers of a claim.

    Args:
        claim: one of `CLAIMS`.
        values: the known numbers among ``claim.keys``.
        chance: log₁₀ of the training loss from which on a run is at chance.
    """
    if claim.kind == "better":
        return _better(claim, values)
    if claim.kind == "at chance":
        return _at_chance(claim, values, chance)
    return [*_close(claim, values), *_above_chance(claim, values, chance)]


def _better(claim: Claim, values: Values) -> list[Comparison]:
    """Compare the judged optimizer with each other one.

    It is better by at least the margin, and on more than half of the seeds.
    """
    (ours,) = claim.ours
    return [
        _better_than(values, ours, rival, quantity, least)
        for quantity, least in claim.thresholds.items()
        for rival in claim.subjects
        if rival != ours
    ]


def _better_than(values: Values, ours: str, rival: str, quantity: Quantity, least: float) -> Comparison:
    one, other = values.get((ours, quantity)), values.get((rival, quantity))
    if one is None or other is None:
        return Comparison(quantity, ours, rival)
    sign = _sign(quantity)
    margin = sign * (one.mean - other.mean)
    wins = tuple(seed for seed in one.by_seed if sign * (one.by_seed[seed] - other.by_seed[seed]) > 0)
    most = not one.by_seed or 2 * len(wins) > len(one.by_seed)
    return Comparison(quantity, ours, rival, margin, wins, margin >= least and most)


def _close(claim: Claim, values: Values) -> list[Comparison]:
    """Compare the worst of the judged optimizers with the best of all."""
    comparisons = []
    for quantity, limit in claim.thresholds.items():
        means = {
            subject: _sign(quantity) * value.mean
            for subject in claim.subjects
            if (value := values.get((subject, quantity))) is not None
        }
        worst = min((subject for subject in claim.ours if subject in means), key=means.__getitem__, default="")
        best = max(means, key=means.__getitem__, default="")
        margin = means[worst] - means[best] if worst else math.nan
        # A gap that is too wide already stays so whatever the missing numbers are.
        holds = False if margin < -limit else True if len(means) == len(claim.subjects) else None
        comparisons.append(Comparison(quantity, worst, best, margin, holds=holds))
    return comparisons


def _above_chance(claim: Claim, values: Values, chance: float) -> list[Comparison]:
    """Compare the best optimizer with chance, where all are known.

    Optimizers that do not train are neither alike nor good.
    """
    means = {subject: values[subject, LOSS].mean for subject in claim.subjects if (subject, LOSS) in values}
    if len(means) < len(claim.subjects):
        return []
    best = min(means, key=means.__getitem__)
    return [Comparison(LOSS, best, CHANCE, chance - means[best], holds=means[best] < chance)]


def _at_chance(claim: Claim, values: Values, chance: float) -> list[Comparison]:
    """Compare the worst seed of each judged optimizer with chance."""
    comparisons = []
    for ours in claim.ours:
        value = values.get((ours, LOSS))
        if value is None:
            comparisons.append(Comparison(LOSS, ours, CHANCE))
        else:
            stuck = tuple(sorted(seed for seed, loss in value.by_seed.items() if loss >= chance))
            comparisons.append(Comparison(LOSS, ours, CHANCE, value.worst - chance, stuck, holds=value.worst >= chance))
    return comparisons


def _sign(quantity: Quantity) -> int:
    """Return 1 where higher is better, else -1."""
    return -1 if quantity == LOSS else 1


_LOWER_LOSS: Mapping[Quantity, float] = {LOSS: LOSS_MARGIN}
_HIGHER_ACCURACY: Mapping[Quantity, float] = {ACCURACY: ACCURACY_MARGIN}
_LOSS_AT_CHANCE: Mapping[Quantity, float] = {LOSS: 0.0}

CLAIMS = (
    Claim(
        "dampings-not-crucial",
        "The choice among the four (α, β) is not crucial: all end close together.",
        "section 5.2, Figure 2",
        "alike",
        subjects=FOUR,
        ours=FOUR,
        thresholds={LOSS: LOSS_RANGE, ACCURACY: ACCURACY_RANGE},
    ),
    Claim(
        "good-default",
        "(0.5, 0.1) is a good default.",
        "section 5.2, Figure 2",
        "near the best",
        subjects=FOUR,
        ours=(DEFAULT,),
        thresholds={LOSS: DEFAULT_LOSS, ACCURACY: ACCURACY_RANGE},
    ),
    Claim(
        "some-seeds-at-chance",
        "Some initialisations stay at chance for a while under INNA (seen in the bands, not stated in the text).",
        "Figure 2",
        "at chance",
        subjects=FOUR,
        ours=FOUR,
        thresholds=_LOSS_AT_CHANCE,
        early=True,
        one_suffices=True,
    ),
    Claim(
        "inna-trains-lower",
        "INNA trains to a lower loss than SGD and AdaGrad.",
        "section 5.2, Figure 3",
        "better",
        subjects=(BEST, "SGD", "AdaGrad"),
        ours=(BEST,),
        thresholds=_LOWER_LOSS,
    ),
    Claim(
        "adam-trains-lower",
        "Adam trains to a lower loss than SGD and AdaGrad.",
        "section 5.2, Figure 3",
        "better",
        subjects=("Adam", "SGD", "AdaGrad"),
        ours=("Adam",),
        thresholds=_LOWER_LOSS,
    ),
    Claim(
        "adam-faster-early",
        "Adam is faster than INNA in the early epochs.",
        "section 5.2, Figure 3",
        "better",
        subjects=("Adam", BEST),
        ours=("Adam",),
        thresholds=_LOWER_LOSS,
        early=True,
    ),
    Claim(
        "inna-best-accuracy",
        "INNA has the best test accuracy (almost every time).",
        "section 5.2, Figure 3",
        "better",
        subjects=(BEST, "SGD", "AdaGrad", "Adam"),
        ours=(BEST,),
        thresholds=_HIGHER_ACCURACY,
    ),
    Claim(
        "quarter-beats-adam",
        "With the slower decay q = 1/4 INNA trains to a lower loss than Adam.",
        "Figure 4",
        "better",
        subjects=(QUARTER, "Adam"),
        ours=(QUARTER,),
        thresholds=_LOWER_LOSS,
    ),
    Claim(
        "sixteenth-fails",
        "The slowest decay, q = 1/16, fails: seeds diverge or end at chance.",
        "Figure 4",
        "at chance",
        subjects=(QUARTER, SIXTEENTH),
        ours=(SIXTEENTH,),
        thresholds=_LOSS_AT_CHANCE,
    ),
    Claim(
        "lower-loss-than-heavy-ball",
        "INNA trains to a lower loss than a tuned heavy ball.",
        "beyond the paper",
        "better",
        subjects=(BEST, "heavy ball"),
        ours=(BEST,),
        thresholds=_LOWER_LOSS,
    ),
    Claim(
        "higher-accuracy-than-heavy-ball",
        "INNA has a higher test accuracy than a tuned heavy ball.",
        "beyond the paper",
        "better",
        subjects=(BEST, "heavy ball"),
        ours=(BEST,),
        thresholds=_HIGHER_ACCURACY,
    ),
)
