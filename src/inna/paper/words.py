"""The text and tables of a reproduction, for its page and the documentation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from inna.experiments.formatting import DASH, count, enumerate_words, fixed, percent, plain, seeds, signed
from inna.experiments.rows.results import finished
from inna.experiments.statistics.intervals import CONFIDENCE, paired_difference
from inna.experiments.statistics.summary import Summary
from inna.experiments.study.study import TUNING_SEED, Study
from inna.experiments.study.tuning import MAX_EXTENSIONS
from inna.experiments.tasks.catalogue import split_subset, split_width
from inna.paper import claims, figure1_claims
from inna.paper.claims import CHANCE, Claim
from inna.paper.curves import PAPER_DATASETS, PAPER_EPOCHS
from inna.paper.descents import Descent
from inna.paper.evidence import (
    ACCURACY,
    BEST,
    CHANCE_SHARE,
    LOSS,
    Key,
    Quantity,
    Value,
    Values,
    common_seeds,
    our_value,
    paper_value,
)
from inna.paper.figure1_claims import Figure1Claim, Measures
from inna.paper.protocol import (
    ADAPTIVE_GRID,
    DAMPINGS,
    DECAY_POWERS,
    FIGURE_4_DAMPINGS,
    INITIAL_SPEED,
    NON_ADAPTIVE_GRID,
    QUICK,
    SCALES,
    Scale,
    contenders,
    initial_speed_of,
    scale_of,
)
from inna.paper.verdicts import Comparison, Number, Outcome, Verdict

__all__ = [
    "NUMBERS_HEADS",
    "agreement",
    "figure1_numbers",
    "figure1_sentence",
    "lead",
    "network_note",
    "numbers_lines",
    "numbers_note",
    "numbers_of",
    "outcome_words",
    "paper_words",
    "protocol_words",
    "rules",
    "sampled_loss_note",
    "scale_name",
    "sentence",
    "shortage",
    "tally",
    "with_width",
]

# The network that the paper trains.
PAPER_NETWORK = "nin"

NUMBERS_HEADS = (
    "",
    "log₁₀ training loss, epoch {epoch}",
    "the paper, epoch {epoch}",
    f"the paper, epoch {PAPER_EPOCHS}",
    "test accuracy, epoch {epoch}",
    "the paper, epoch {epoch}",
    f"the paper, epoch {PAPER_EPOCHS}",
)


class _QuantityWords(NamedTuple):
    unit: str
    mean: str
    better: str
    places: int


_QUANTITIES: Mapping[Quantity, _QuantityWords] = {
    LOSS: _QuantityWords("log₁₀ loss", "log₁₀ of the mean training loss", "lower", 3),
    ACCURACY: _QuantityWords("accuracy", "mean test accuracy", "higher", 4),
}


def numbers_of(keys: Iterable[Key], ours: Values, theirs: Values) -> tuple[Number, ...]:
    """Put the numbers of the results beside the paper's, one line for each key.

    The column of the results is empty where ``ours`` is.
    """
    return tuple(
        Number(
            f"{subject}, {_QUANTITIES[quantity].unit}",
            _named_cell(subject, quantity, ours) if ours else "",
            _named_cell(subject, quantity, theirs),
        )
        for subject, quantity in keys
    )


def _named_cell(subject: str, quantity: Quantity, values: Values) -> str:
    value = values.get((subject, quantity))
    prefix = f"{value.label}: " if value is not None and subject == BEST else ""
    return prefix + _cell(value, quantity)


def _cell(value: Value | None, quantity: Quantity) -> str:
    if value is None:
        return DASH
    places = _QUANTITIES[quantity].places
    return f"{fixed(value.mean, places)} [{fixed(value.worst, places)}, {fixed(value.best, places)}]"


def shortage(claim: Claim, summary: Summary, common: Sequence[int]) -> str:
    """Describe the runs that a claim lacks; empty where there are enough.

    Args:
        claim: the claim.
        summary: of the results.
        common: the final seeds that all optimizers of the claim have.
    """
    epochs = summary.study.epochs
    if claim.early and epochs < claims.EARLY_EPOCH:
        return f"Judged after epoch {claims.EARLY_EPOCH}; these runs take {count(epochs, 'epoch')}."
    if len(common) >= claims.MIN_SEEDS:
        return ""
    finals = {entry.label: len(entry.finals) for entry in summary.entries}
    short = [f"{n} of {label}" for label in claim.labels if (n := finals.get(label, 0)) < claims.MIN_SEEDS]
    if not short:
        return f"Needs {claims.MIN_SEEDS} final seeds that all optimizers have; they have {len(common)} in common."
    return f"Needs {claims.MIN_SEEDS} final seeds of each optimizer; there are {enumerate_words(short)}."


def sentence(claim: Claim, comparisons: Sequence[Comparison], values: Values) -> str:
    """Describe the comparisons of a claim.

    Args:
        claim: the claim.
        comparisons: all of its comparisons.
        values: the numbers that were compared.
    """
    if claim.kind == "better":
        return " ".join(_better(comparison, values) for comparison in comparisons)
    if claim.kind == "at chance":
        return " ".join(
            f"{comparison.ours}: {seeds(comparison.wins) if comparison.wins else 'no seed'} at chance."
            for comparison in comparisons
        )
    loss, accuracy = (
        f"{fixed(abs(comparison.margin), _QUANTITIES[quantity].places)} (allowed {limit:g})"
        for quantity, limit in claim.thresholds.items()
        for comparison in comparisons
        if comparison.quantity == quantity and comparison.rival != CHANCE
    )
    if claim.kind == "alike":
        gaps = f"The four end {loss} apart in log₁₀ loss and {accuracy} in accuracy."
    else:
        gaps = (
            f"{claim.ours[0]} ends {loss} above the lowest log₁₀ loss of the four and {accuracy} below their highest "
            "accuracy."
        )
    stuck = any(comparison.rival == CHANCE and not comparison.holds for comparison in comparisons)
    return f"{gaps} All four are at chance." if stuck else gaps


def _better(comparison: Comparison, values: Values) -> str:
    quantity: Quantity = LOSS if comparison.quantity == LOSS else ACCURACY
    one, other = values[comparison.ours, quantity], values[comparison.rival, quantity]
    words = _QUANTITIES[quantity]
    return (
        f"{one.label} against {other.label}: {signed(one.mean - other.mean, words.places)} in {words.mean}, "
        f"{words.better} on {len(comparison.wins)} of {len(one.by_seed)} seeds{_interval(one, other, words.places)}."
    )


def _interval(one: Value, other: Value, places: int) -> str:
    difference = paired_difference(one.by_seed, other.by_seed)
    if difference is None or difference.low is None or difference.high is None:
        return ""
    return (
        f" (by seed {signed(difference.mean, places)}, {percent(CONFIDENCE)} interval "
        f"{signed(difference.low, places)} to {signed(difference.high, places)})"
    )


_MEASURES = {"across": "swing across the valley", "along": "swing beyond the minimum"}


def figure1_numbers(claim: Figure1Claim, panels: Mapping[str, Descent], measures: Measures) -> tuple[Number, ...]:
    """Put the measures of a claim about Figure 1 beside the paper's."""
    if all(condition.measure in _MEASURES for condition in claim.conditions):
        return tuple(
            Number(
                f"{panels[panel].name}, {_MEASURES[measure]}",
                fixed(measures[panel, measure], 3),
                fixed(figure1_claims.PAPER_ALONG[panel], 3) if measure == "along" else DASH,
            )
            for panel, measure, *_ in claim.conditions
        )
    return tuple(
        Number(
            f"{descent.name}, mean log₁₀ J in the middle; at the end",
            f"{fixed(measures[panel, 'middle'], 2)}; {fixed(measures[panel, 'end'], 2)}",
            DASH,
        )
        for panel, descent in panels.items()
    )


def figure1_sentence(claim: Figure1Claim, panels: Mapping[str, Descent], measures: Measures) -> str:
    """Describe the measures of a claim about Figure 1."""
    a, b, c = (panels[panel].name for panel in "abc")
    swing = {(panel, measure): fixed(measures[panel, measure], 3) for panel in "abc" for measure in ("across", "along")}
    level = {(panel, measure): fixed(measures[panel, measure], 2) for panel in "abc" for measure in ("middle", "end")}
    first, last = figure1_claims.MIDDLE
    return {
        "small-beta-oscillates": (
            f"{a} swings {swing['a', 'across']} across the valley after iteration {figure1_claims.SETTLED:,} and "
            f"{swing['a', 'along']} beyond the minimum and back ({figure1_claims.ACROSS:g} and "
            f"{figure1_claims.ALONG:g} count as oscillations){_far_end(panels['a'])}."
        ),
        "beta-damps-across": (
            f"From {a} to {b} the swing across the valley falls from {swing['a', 'across']} to {swing['b', 'across']}."
        ),
        "alpha-damps-along": (
            f"From {b} to {c} the swing beyond the minimum falls from {swing['b', 'along']} to {swing['c', 'along']}."
        ),
        "slower-then-best": (
            f"{c} has mean log₁₀ J {level['c', 'middle']} between {first:,} and {last:,} iterations, the others "
            f"{level['a', 'middle']} and {level['b', 'middle']}; over the last tenth {level['c', 'end']} against "
            f"{level['a', 'end']} and {level['b', 'end']}."
        ),
    }[claim.name]


def _far_end(descent: Descent) -> str:
    end = descent.theta1[-1], descent.theta2[-1]
    return f"; it ends at ({end[0]:.3g}, {end[1]:.3g})" if math.dist(end, (1, 1)) > 2 else ""


def scale_name(study: Study) -> str:
    """Return the scale of the protocol that the study has; empty if none."""
    images = split_subset(study.dataset)[1]
    for name in ("quick", *SCALES):
        with suppress(ValueError):
            scale = scale_of(name, study.model)
            if (scale.epochs, scale.seeds, scale.images) == (study.epochs, study.seeds, images):
                return name
    return ""


def lead(summary: Summary | None) -> str:
    """Describe what was run in two sentences; ``summary`` is None for Figure 1 alone."""
    if summary is None:
        return "INNA on the paper’s toy function; Figures 2 to 4 were not run here."
    study, rows = summary.study, summary.rows()
    scale = scale_name(study)
    lost = sum(not finished(result) for _, result in rows)
    missing = sum(len(entry.missing) for entry in summary.entries if entry.pending)
    kind = "layers in bfloat16, " if study.precision == "bfloat16" else ""
    speed = initial_speed_of(study)
    if speed is not None and speed != INITIAL_SPEED:
        kind += f"INNA’s initial speed {speed:g} (the paper: {INITIAL_SPEED:g}), "
    described = (
        f"{plain(study.model)} on {plain(study.dataset)}, {count(study.epochs, 'epoch')} (the paper: {PAPER_EPOCHS}), "
        f"{kind}{seeds(study.seeds)}{f', scale {scale}' if scale else ''}. "
        f"{count(len(rows), 'run')}, {lost or 'none'} diverged"
    )
    return f"{described}; {count(missing, 'final run')} remaining." if missing else f"{described}."


def tally(verdicts: Sequence[Verdict]) -> str:
    """Count the verdicts of each outcome.

    >>> tally([])
    'Of 0 claims 0 hold, 0 do not, and 0 lack runs.'
    """
    outcomes = [verdict.outcome for verdict in verdicts]
    return (
        f"Of {count(len(outcomes), 'claim')} {outcomes.count('holds')} hold, {outcomes.count('does not hold')} do not, "
        f"and {outcomes.count('not enough runs')} lack runs."
    )


def paper_words(verdict: Verdict) -> str:
    """Describe the outcome of the same rule on the paper's own curves."""
    if verdict.source == "beyond the paper":
        return "The paper does not compare with it."
    if verdict.paper is None and verdict.paper_end is None:
        return "The paper has no curves to apply the rule to."
    here = f"at {verdict.when} it {verdict.paper}" if verdict.paper else f"at {verdict.when} it is undecided"
    end = f"; at epoch {PAPER_EPOCHS} it {verdict.paper_end}" if verdict.paper_end else ""
    return f"The same rule on the paper’s curves: {here}{end}."


def outcome_words(outcome: Outcome | None) -> str:
    """Return an outcome for a table; a dash where the rule has nothing to say."""
    return outcome or DASH


def agreement(verdict: Verdict) -> tuple[str, str]:
    """Return whether our outcome is the paper's, and the class of its badge.

    It is compared with the paper's curves at the same epoch, or with the claim itself where they are unknown.
    """
    if verdict.outcome == "not enough runs":
        return "not enough runs", "open"
    if verdict.paper is None:
        return ("confirmed", "good") if verdict.outcome == "holds" else ("not confirmed", "bad")
    return ("as in the paper", "good") if verdict.outcome == verdict.paper else ("differs", "bad")


def numbers_lines(summary: Summary) -> list[list[str]]:
    """Return one line for each optimizer, under `NUMBERS_HEADS`.

    Each quantity is given at our last epoch, the paper's at that epoch and the paper's at its end.
    """
    study = summary.study
    lines = []
    for entry in summary.entries:
        line = [entry.label]
        seeds_had = common_seeds(summary, [entry.label])
        for quantity in (LOSS, ACCURACY):
            ours = our_value(entry, seeds_had, quantity, study.epochs) if seeds_had else None
            here, end = (
                paper_value(study.dataset, entry.label, quantity, epoch) for epoch in (study.epochs, PAPER_EPOCHS)
            )
            line += [_cell(value, quantity) for value in (ours, here, end)]
        if entry.diverged:
            line[1] += f" ({count(len(entry.diverged), 'seed')} diverged)"
        lines.append(line)
    return lines


def numbers_note(summary: Summary) -> str:
    """Describe the table of numbers."""
    note = "Mean [worst, best] over the final seeds; a run that diverged counts with its values before training."
    if summary.study.dataset in PAPER_DATASETS:
        note += f" The paper’s numbers are read off its figures, which have five seeds. {network_note(summary)}"
    return f"{note.rstrip()} {sampled_loss_note(summary)}".rstrip()


def network_note(summary: Summary) -> str:
    """Return a note if the paper, whose curves are shown, trains another network."""
    study = summary.study
    network, width = split_width(study.model)
    if study.dataset not in PAPER_DATASETS or study.model == PAPER_NETWORK:
        return ""
    if network == PAPER_NETWORK:
        return f"The paper’s network has all its channels, here it has {width:g} of them."
    return f"The paper trains a Network in Network, here it is {plain(study.model)}."


def with_width(title: str, summary: Summary) -> str:
    """Return a title that names the share of the network's channels.

    If it has not all.
    """
    width = split_width(summary.study.model)[1]
    return title if width == 1 else f"{title}, {width:g} of the channels"


def sampled_loss_note(summary: Summary) -> str:
    """Return a note if most epochs' training loss is that of some samples."""
    samples = summary.study.loss_samples
    return f"Before the last epoch the training loss is that of the first {samples:,} samples." if samples else ""


def rules() -> list[str]:
    """Return the rules for verdicts, one paragraph each."""
    written = (
        f"The rules and their constants were written down before the runs, and set so that the paper’s own curves at "
        f"epoch {PAPER_EPOCHS} meet them wherever its text and its figures agree. Each is applied to the results "
        "and, at the same epoch, to the paper’s digitised curves: a short run is compared with the paper’s run at that "
        "length."
    )
    better = (
        f"A claim needs {claims.MIN_SEEDS} final seeds that all its optimizers have. A training loss is judged by "
        "log₁₀ of its mean over the seeds, an accuracy by its mean; a run that diverged counts with its values before "
        f"training. One optimizer is better than another if its lead is at least {claims.LOSS_MARGIN:g} in log₁₀ loss "
        f"or {claims.ACCURACY_MARGIN:g} in accuracy, and if it leads on more than half of the seeds."
    )
    words = (
        f"“Not crucial”: the four (α, β) end within {claims.LOSS_RANGE:g} in log₁₀ loss and {claims.ACCURACY_RANGE:g} "
        f"in accuracy. “A good default”: at most {claims.DEFAULT_LOSS:g} above the lowest log₁₀ loss of the four, and "
        f"at most {claims.ACCURACY_RANGE:g} below their highest accuracy. Neither holds where all four are at chance "
        "(added later; no verdict changed). "
        f"“Early”: after epoch {claims.EARLY_EPOCH}. "
        f"“At chance”: a training loss of at least {CHANCE_SHARE:g} ln C with C classes. “INNA”, without (α, β): the "
        "damping of the four with the lowest training loss at the last epoch; test data is not used for that choice."
    )
    return [written, better, words]


def protocol_words() -> list[str]:
    """Describe the protocol and the choices the paper leaves open, by paragraph."""
    paper = SCALES["paper"]
    grids = {
        ", ".join(f"{lr:g}" for lr in grid): [each.label for each in contenders() if each.grid == grid]
        for grid in (NON_ADAPTIVE_GRID, ADAPTIVE_GRID)
    }
    dampings = [f"({alpha:g}, {beta:g})" for alpha, beta in (*DAMPINGS, FIGURE_4_DAMPINGS)]
    steps = [
        f"{grid} for {enumerate_words(list(dict.fromkeys(label.split(' (')[0] for label in labels)))}"
        for grid, labels in grids.items()
    ]
    stated = (
        f"As in the paper: cross-entropy on batches of 32; INNA at (α, β) = {enumerate_words(dampings[:-1])} with the "
        "initial velocity −∇J(θ₀) on the first batch; the learning rate (γ) γ₀/√(k+1) at iteration k for INNA and SGD; "
        "AdaGrad and Adam without a schedule; γ₀ chosen by the training loss after "
        f"{paper.tuning_epochs} epochs; {paper.epochs} epochs from {len(paper.seeds)} initialisations, which all "
        "optimizers share; in Figure 4 γ₀(k+1)^−q with q = "
        f"{enumerate_words([f'1/{1 / q:g}' for q in DECAY_POWERS])}. Beyond it: heavy ball (with INNA’s schedule), "
        "AdamW and INNAprop."
    )
    taken = (
        f"The paper leaves open, and this is used here: the grid of γ₀, {enumerate_words(steps)}, extended by half a "
        f"decade where the best is on its edge, at most {MAX_EXTENSIONS} times, with `--refine` refined to quarters or "
        f"eighths of a decade around the best, and run on a separate seed ({TUNING_SEED}); Figure 4’s (α, β), "
        f"{dampings[-1]}, with γ₀ tuned for each q; the layers of the Network in "
        "Network, those of its author’s Keras networks of 2019; the variance of the normal distribution of the "
        "weights, 2/fan_in, with biases of zero; the 50,000 images of MNIST, the first ones; pixels divided by 255, no "
        "other preprocessing; defaults for all other settings of an optimizer."
    )
    lengths = (
        f"Scales: {'; '.join(f'{name}, {_length(scale)}' for name, scale in SCALES.items())}; quick, to check that "
        "everything works, by network: "
        f"{'; '.join(f'{model}, {_length(scale)}' for model, scale in QUICK.items())}."
    )
    return [stated, taken, lengths]


def _length(scale: Scale) -> str:
    images = f", {scale.images:,} images" if scale.images else ""
    return (
        f"{count(scale.epochs, 'epoch')}, tuning over {scale.tuning_epochs}, {count(len(scale.seeds), 'seed')}{images}"
    )
