"""The claims of the paper's section 5.2 about deep learning, each a function from rows to a verdict.

Every rule and every number in it was written down before the runs that it judges, and set so that the paper's own
curves at its last epoch meet it wherever its text and its figures agree. A rule is applied twice: to the rows, and to
the paper's digitised curves at the same epoch, so that a short run is held against the paper's run at that length, not
against its end. A verdict is about one data set, one network and one length; an epoch over a part of a data set is
none of the paper's, so there is nothing to compare it with.

"INNA" without (α, β) is the damping of the four with the lowest training loss at the last epoch, as in the paper's
Figure 3; test data takes no part in that choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from inna.experiments.formatting import count, enumerate_words, fixed, percent, seeds, signed
from inna.experiments.statistics.intervals import CONFIDENCE, paired_difference
from inna.experiments.statistics.summary import Summary
from inna.experiments.tasks.catalogue import CATALOGUE
from inna.experiments.tasks.subsets import split_subset
from inna.paper.curves import PAPER_EPOCHS
from inna.paper.evidence import (
    ACCURACY,
    FOUR,
    LOSS,
    Evidence,
    OurRows,
    PaperCurves,
    Quantity,
    Value,
)
from inna.paper.protocol import FIGURE_4_DAMPINGS, inna
from inna.paper.verdicts import Claim, Finding, Number, Outcome, Rule, Verdict

__all__ = [
    "CLAIMS",
    "judge",
]

# The least number of final seeds that all contenders of a claim must have in common.
MIN_SEEDS = 3
# One is better than the other from this difference on, and on more than half of the seeds: 5 % of a loss (in log₁₀),
# and ten images of ten thousand.
LOSS_MARGIN = 0.02
ACCURACY_MARGIN = 0.001
# How far apart dampings may end where their choice is "not crucial": a factor of 3 in the loss, five points of
# accuracy. The paper's four end 0.5 and 0.035 apart at most.
LOSS_RANGE = 0.5
ACCURACY_RANGE = 0.05
# How far above the best damping's loss a good default may end: a factor of 1.6. In the paper (0.5, 0.1) ends 0.18
# above at most.
DEFAULT_LOSS = 0.2
# "Early" is after this epoch, the first that is digitised.
EARLY_EPOCH = 5

DEFAULT = inna(*FIGURE_4_DAMPINGS, 1 / 2).label
QUARTER = inna(*FIGURE_4_DAMPINGS, 1 / 4).label
SIXTEENTH = inna(*FIGURE_4_DAMPINGS, 1 / 16).label


def judge(summary: Summary) -> list[Verdict]:
    """A verdict a claim, in the order of `CLAIMS`.

    Args:
        summary: of a study with contenders of the paper's protocol; claims about contenders that it lacks have not
            enough runs.

    Raises:
        ValueError: the study's data set is none of `inna.experiments.tasks.catalogue`, or it does not measure accuracy.
    """
    study = summary.study
    if split_subset(study.dataset)[0] not in CATALOGUE:
        raise ValueError(f"verdicts are about {enumerate_words(list(CATALOGUE), 'or')}, not {study.dataset!r}")
    if ACCURACY not in [measure.name for measure in summary.measures]:
        raise ValueError(f"verdicts need the metric accuracy; {study.dataset} here has {list(study.metrics)}")
    return [_verdict(summary, claim) for claim in CLAIMS]


def _verdict(summary: Summary, claim: Claim) -> Verdict:
    study, rows, paper = summary.study, OurRows(summary, claim.labels), PaperCurves(summary.study.dataset)
    epoch = EARLY_EPOCH if claim.early else study.epochs
    here = claim.rule(paper, epoch)
    outcome: Outcome = "not enough runs"
    ours = [""] * len(here.numbers)
    if study.epochs < epoch:
        sentence = f"Judged after epoch {epoch}; these runs take {count(study.epochs, 'epoch')}."
    elif len(rows.seeds) < MIN_SEEDS:
        sentence = _lacking(rows, claim)
    else:
        found = claim.rule(rows, epoch)
        outcome = found.outcome or outcome
        ours = [words for _, words in found.numbers]
        sentence = " ".join(found.sentences)
    end = None if claim.early else claim.rule(paper, PAPER_EPOCHS).outcome
    return Verdict(
        claim.name,
        claim.statement,
        claim.source,
        outcome,
        f"epoch {epoch}",
        tuple(Number(what, own, words) for (what, words), own in zip(here.numbers, ours, strict=True)),
        here.outcome,
        end,
        sentence,
    )


def _lacking(rows: OurRows, claim: Claim) -> str:
    there = {label: len(rows.entries[label].finals) if label in rows.entries else 0 for label in claim.labels}
    short = [f"{label} {n}" for label, n in there.items() if n < MIN_SEEDS]
    if not short:
        return f"Needs {MIN_SEEDS} seeds that all have; in common they have {len(rows.seeds)}."
    return f"Needs {MIN_SEEDS} final seeds of each; there are of {enumerate_words(short)}."


def _better(
    finding: Finding, evidence: Evidence, who: str, rivals: Sequence[str], quantity: Quantity, epoch: int, figure: int
) -> None:
    """``who`` is better than each of ``rivals`` by the margin, and on more than half of the seeds."""
    roles = {evidence.best: "INNA, best damping"}
    best = finding.show(evidence, who, quantity, epoch, figure, roles.get(who, ""))
    sign, margin, word = (-1, LOSS_MARGIN, "lower") if quantity == LOSS else (1, ACCURACY_MARGIN, "higher")
    for rival in rivals:
        other = finding.show(evidence, rival, quantity, epoch, 3, roles.get(rival, ""))
        if best is None or other is None:
            finding.conditions.append(None)
            continue
        gain = sign * (best.mean - other.mean)
        wins = sum(sign * (best.by_seed[seed] - other.by_seed[seed]) > 0 for seed in best.by_seed)
        enough_seeds = not best.by_seed or 2 * wins > len(best.by_seed)
        finding.conditions.append(gain >= margin and enough_seeds)
        if best.by_seed:
            unit = "log₁₀ of the mean training loss" if quantity == LOSS else "mean test accuracy"
            finding.sentences.append(
                f"{who} against {rival}: {signed(best.mean - other.mean, 3 if quantity == LOSS else 4)} in {unit}, "
                f"{word} on {wins} of {len(best.by_seed)} seeds{_interval(best, other, quantity)}."
            )


def _interval(one: Value, other: Value, quantity: Quantity) -> str:
    difference = paired_difference(one.by_seed, other.by_seed)
    if difference is None or difference.low is None or difference.high is None:
        return ""
    places = 3 if quantity == LOSS else 4
    return (
        f" (by seed {signed(difference.mean, places)}, {percent(CONFIDENCE)} interval "
        f"{signed(difference.low, places)} to {signed(difference.high, places)})"
    )


def _dampings_not_crucial(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    gaps = []
    for quantity, limit, places in ((LOSS, LOSS_RANGE, 3), (ACCURACY, ACCURACY_RANGE, 4)):
        values = [finding.show(evidence, label, quantity, epoch, 2) for label in FOUR]
        means = [value.mean for value in values if value is not None]
        gap = max(means, default=math.nan) - min(means, default=math.nan)
        finding.conditions.append(False if gap > limit else True if len(means) == len(FOUR) else None)
        gaps.append(f"{fixed(gap, places)} (allowed {limit:g})")
    finding.sentences.append(f"The four end {gaps[0]} apart in log₁₀ loss and {gaps[1]} in accuracy.")
    _refute_at_chance(finding, evidence, epoch)
    return finding


def _good_default(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    gaps = []
    for quantity, limit, sign, places in ((LOSS, DEFAULT_LOSS, 1, 3), (ACCURACY, ACCURACY_RANGE, -1, 4)):
        values = {label: finding.show(evidence, label, quantity, epoch, 2) for label in FOUR}
        means = [sign * value.mean for value in values.values() if value is not None]
        own = values[DEFAULT]
        gap = math.nan if own is None else sign * own.mean - min(means)
        finding.conditions.append(False if gap > limit else True if len(means) == len(FOUR) else None)
        gaps.append(f"{fixed(gap, places)} (allowed {limit:g})")
    finding.sentences.append(
        f"{DEFAULT} ends {gaps[0]} above the lowest log₁₀ loss of the four and {gaps[1]} below their highest accuracy."
    )
    _refute_at_chance(finding, evidence, epoch)
    return finding


def _refute_at_chance(finding: Finding, evidence: Evidence, epoch: int) -> None:
    """Make the claim fail where all four dampings leave the loss at chance: they are neither alike nor good."""
    known = [value for label in FOUR if (value := evidence.value(label, LOSS, epoch, 2)) is not None]
    if len(known) == len(FOUR) and all(value.mean >= evidence.chance for value in known):
        finding.conditions.append(False)
        finding.sentences.append("All four are at chance.")


def _inna_trains_lower(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    _better(finding, evidence, evidence.best, ("SGD", "AdaGrad"), LOSS, epoch, 3)
    return finding


def _adam_trains_lower(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    _better(finding, evidence, "Adam", ("SGD", "AdaGrad"), LOSS, epoch, 3)
    return finding


def _adam_is_faster_early(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    _better(finding, evidence, "Adam", (evidence.best,), LOSS, epoch, 3)
    return finding


def _inna_generalises_best(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    _better(finding, evidence, evidence.best, ("SGD", "AdaGrad", "Adam"), ACCURACY, epoch, 3)
    return finding


def _quarter_beats_adam(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    _better(finding, evidence, QUARTER, ("Adam",), LOSS, epoch, 4)
    return finding


def _sixteenth_fails(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    finding.show(evidence, QUARTER, LOSS, epoch, 4)
    value = finding.show(evidence, SIXTEENTH, LOSS, epoch, 4)
    finding.conditions.append(None if value is None else value.worst >= evidence.chance)
    if value is not None and value.by_seed:
        finding.sentences.append(_at_chance(SIXTEENTH, value, evidence.chance))
    return finding


def _some_seeds_wait_at_chance(evidence: Evidence, epoch: int) -> Finding:
    finding = Finding()
    values = {label: finding.show(evidence, label, LOSS, epoch, 2) for label in FOUR}
    known = [value for value in values.values() if value is not None]
    some = any(value.worst >= evidence.chance for value in known)
    finding.conditions.append(True if some else False if len(known) == len(FOUR) else None)
    finding.sentences += [
        _at_chance(label, value, evidence.chance) for label, value in values.items() if value and value.by_seed
    ]
    return finding


def _at_chance(label: str, value: Value, chance: float) -> str:
    stuck = sorted(seed for seed, loss in value.by_seed.items() if loss >= chance)
    return f"{label}: {seeds(stuck) if stuck else 'no seed'} at chance."


def _gains_over_heavy_ball(quantity: Quantity) -> Rule:
    def rule(evidence: Evidence, epoch: int) -> Finding:
        finding = Finding()
        _better(finding, evidence, evidence.best, ("heavy ball",), quantity, epoch, 3)
        return finding

    return rule


CLAIMS = (
    Claim(
        "dampings-not-crucial",
        "The choice among the four (α, β) is not crucial: all end close together.",
        "section 5.2, Figure 2",
        FOUR,
        _dampings_not_crucial,
    ),
    Claim("good-default", "(0.5, 0.1) is a good default.", "section 5.2, Figure 2", FOUR, _good_default),
    Claim(
        "some-seeds-at-chance",
        "Some initialisations stay at chance for a while under INNA (seen in the bands; the text does not say it).",
        "Figure 2",
        FOUR,
        _some_seeds_wait_at_chance,
        early=True,
    ),
    Claim(
        "inna-trains-lower",
        "INNA trains to a lower loss than SGD and AdaGrad.",
        "section 5.2, Figure 3",
        (*FOUR, "SGD", "AdaGrad"),
        _inna_trains_lower,
    ),
    Claim(
        "adam-trains-lower",
        "Adam trains to a lower loss than SGD and AdaGrad.",
        "section 5.2, Figure 3",
        ("Adam", "SGD", "AdaGrad"),
        _adam_trains_lower,
    ),
    Claim(
        "adam-faster-early",
        "Adam is faster than INNA in the early epochs.",
        "section 5.2, Figure 3",
        (*FOUR, "Adam"),
        _adam_is_faster_early,
        early=True,
    ),
    Claim(
        "inna-best-accuracy",
        "INNA has the best test accuracy (almost every time).",
        "section 5.2, Figure 3",
        (*FOUR, "SGD", "AdaGrad", "Adam"),
        _inna_generalises_best,
    ),
    Claim(
        "quarter-beats-adam",
        "With the slower decay q = 1/4 INNA trains to a lower loss than Adam.",
        "Figure 4",
        (QUARTER, "Adam"),
        _quarter_beats_adam,
    ),
    Claim(
        "sixteenth-fails",
        "The slowest decay, q = 1/16, fails: seeds diverge or end at chance.",
        "Figure 4",
        (QUARTER, SIXTEENTH),
        _sixteenth_fails,
    ),
    Claim(
        "lower-loss-than-heavy-ball",
        "INNA trains to a lower loss than a tuned heavy ball.",
        "beyond the paper",
        (*FOUR, "heavy ball"),
        _gains_over_heavy_ball(LOSS),
    ),
    Claim(
        "higher-accuracy-than-heavy-ball",
        "INNA has a higher test accuracy than a tuned heavy ball.",
        "beyond the paper",
        (*FOUR, "heavy ball"),
        _gains_over_heavy_ball(ACCURACY),
    ),
)
