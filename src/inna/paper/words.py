"""The words and tables of a reproduction, the same in the page and in the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from inna.experiments.formatting import DASH, count, enumerate_words, plain, seeds
from inna.experiments.rows.results import finished
from inna.experiments.statistics.summary import Summary
from inna.experiments.study.study import TUNING_SEED, Study
from inna.experiments.study.tuning import MAX_EXTENSIONS
from inna.experiments.tasks.subsets import split_subset
from inna.paper import claims
from inna.paper.curves import PAPER_DATASETS, PAPER_EPOCHS
from inna.paper.evidence import ACCURACY, CHANCE_SHARE, FOUR, LOSS, OurRows, PaperCurves
from inna.paper.figures import DECAYS, network_note
from inna.paper.protocol import (
    ADAPTIVE_GRID,
    DAMPINGS,
    DECAY_POWERS,
    FIGURE_4_DAMPINGS,
    NON_ADAPTIVE_GRID,
    QUICK,
    SCALES,
    Scale,
    contenders,
    scale_of,
)
from inna.paper.verdicts import Verdict

if TYPE_CHECKING:
    from inna.paper.reproduction import Reproduction

__all__ = [
    "NUMBERS_HEADS",
    "lead",
    "numbers_lines",
    "numbers_note",
    "paper_words",
    "protocol_words",
    "rules",
    "scale_name",
    "tally",
]

NUMBERS_HEADS = (
    "",
    "log₁₀ training loss, epoch {epoch}",
    "the paper, epoch {epoch}",
    f"the paper, epoch {PAPER_EPOCHS}",
    "test accuracy, epoch {epoch}",
    "the paper, epoch {epoch}",
    f"the paper, epoch {PAPER_EPOCHS}",
)


def scale_name(study: Study) -> str:
    """Which of the protocol's scales the study has; empty where it is none of them."""
    images = split_subset(study.dataset)[1]
    for name in ("quick", *SCALES):
        with suppress(ValueError):
            scale = scale_of(name, study.model)
            if (scale.epochs, scale.seeds, scale.images) == (study.epochs, study.seeds, images):
                return name
    return ""


def lead(reproduction: Reproduction) -> str:
    """What was run, in two sentences."""
    summary = reproduction.summary
    if summary is None:
        return "INNA on the paper’s toy function; Figures 2 to 4 were not run here."
    study, rows = summary.study, summary.rows()
    scale = scale_name(study)
    lost = sum(not finished(result) for _, result in rows)
    missing = sum(len(entry.missing) for entry in summary.entries if entry.pending)
    said = (
        f"{plain(study.model)} on {plain(study.dataset)}, {count(study.epochs, 'epoch')} (the paper: {PAPER_EPOCHS}), "
        f"{seeds(study.seeds)}{f', scale {scale}' if scale else ''}. "
        f"{count(len(rows), 'run')}, {lost or 'none'} diverged"
    )
    return f"{said}; {count(missing, 'final run')} still to come." if missing else f"{said}."


def tally(verdicts: Sequence[Verdict]) -> str:
    """How many hold.

    >>> tally([])
    'Of 0 claims 0 hold, 0 do not, and 0 lack runs.'
    """
    outcomes = [verdict.outcome for verdict in verdicts]
    return (
        f"Of {count(len(outcomes), 'claim')} {outcomes.count('holds')} hold, {outcomes.count('does not hold')} do not, "
        f"and {outcomes.count('not enough runs')} lack runs."
    )


def paper_words(verdict: Verdict) -> str:
    """What the rule of the verdict says of the paper's own curves."""
    if verdict.source == "beyond the paper":
        return "The paper does not compare with it."
    if verdict.paper is None and verdict.paper_end is None:
        return "There are no curves of the paper to lay the rule to here."
    here = f"at {verdict.when} it {verdict.paper}" if verdict.paper else f"at {verdict.when} they do not say"
    end = f"; at epoch {PAPER_EPOCHS} it {verdict.paper_end}" if verdict.paper_end else ""
    return f"The same rule on the paper’s curves: {here}{end}."


def numbers_lines(summary: Summary) -> list[list[str]]:
    """A line a contender, under `NUMBERS_HEADS`: ours at the last epoch, the paper's there and at its end."""
    study, paper = summary.study, PaperCurves(summary.study.dataset)
    lines = []
    for entry in summary.entries:
        label = entry.label
        figure = 2 if label in FOUR else 4 if label in DECAYS else 3
        line = [label]
        for quantity in (LOSS, ACCURACY):
            rows = OurRows(summary, [label])
            ours = rows.value(label, quantity, study.epochs, figure) if rows.seeds else None
            here, end = (paper.value(label, quantity, epoch, figure) for epoch in (study.epochs, PAPER_EPOCHS))
            line += [DASH if value is None else value.words(quantity) for value in (ours, here, end)]
        if entry.diverged:
            line[1] += f" ({count(len(entry.diverged), 'seed')} diverged)"
        lines.append(line)
    return lines


def numbers_note(summary: Summary) -> str:
    """What the table of numbers shows."""
    note = "Mean [worst, best] over the final seeds; a run that diverged counts with its values before training."
    if summary.study.dataset in PAPER_DATASETS:
        note += f" The paper’s numbers are read off its figures, which have five seeds. {network_note(summary)}"
    return note.rstrip()


def rules() -> list[str]:
    """How verdicts come about, a paragraph each."""
    written = (
        f"The rules and their constants were written down before the runs, and set so that the paper’s own curves at "
        f"epoch {PAPER_EPOCHS} meet them wherever its text and its figures agree. Each is applied to the rows and, at "
        "the same epoch, to the paper’s digitised curves: a short run is held against the paper’s run at that length."
    )
    better = (
        f"A claim needs {claims.MIN_SEEDS} final seeds that all its optimizers have. A training loss is judged by "
        "log₁₀ of its mean over the seeds, an accuracy by its mean; a run that diverged counts with the values that it "
        f"had before training. One is better than the other where it is so by at least {claims.LOSS_MARGIN:g} in log₁₀ "
        f"loss or {claims.ACCURACY_MARGIN:g} in accuracy, and on more than half of the seeds."
    )
    words = (
        f"“Not crucial”: the four (α, β) end within {claims.LOSS_RANGE:g} in log₁₀ loss and {claims.ACCURACY_RANGE:g} "
        f"in accuracy. “A good default”: at most {claims.DEFAULT_LOSS:g} above the lowest log₁₀ loss of the four, and "
        f"at most {claims.ACCURACY_RANGE:g} below their highest accuracy. Neither holds where all four are at chance "
        "(added later; no verdict changed). "
        f"“Early”: after epoch {claims.EARLY_EPOCH}. "
        f"“At chance”: a training loss of at least {CHANCE_SHARE:g} ln C with C classes. “INNA”, without (α, β): the "
        "damping of the four with the lowest training loss at the last epoch; test data takes no part in that choice."
    )
    return [written, better, words]


def protocol_words() -> list[str]:
    """What is run, and what is taken where the paper does not say, a paragraph each."""
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
        "initial velocity −∇J(θ₀), the gradient being that of the first batch; γ₀/√(k+1) over iterations k for INNA "
        "and SGD; AdaGrad and Adam without a schedule; γ₀ by the training loss after "
        f"{paper.tuning_epochs} epochs; {paper.epochs} epochs from {len(paper.seeds)} initialisations, which all "
        "optimizers share; in Figure 4 γ₀(k+1)^−q with q = "
        f"{enumerate_words([f'1/{1 / q:g}' for q in DECAY_POWERS])}. Beyond it: heavy ball (with INNA’s schedule), "
        "AdamW and INNAprop."
    )
    taken = (
        f"The paper does not say, and taken is here: the grid of γ₀, {enumerate_words(steps)}, extended by half a "
        f"decade where the best lies on its edge, {MAX_EXTENSIONS} times at most, and tried on a seed of its own "
        f"({TUNING_SEED}); Figure 4’s (α, β), {dampings[-1]}, with γ₀ tuned anew for each q; the layers of the Network "
        "in Network, which are those of its author’s Keras networks of 2019; the variance of the normal law of the "
        "weights, 2/fan_in, with biases of zero; which 50,000 images of MNIST, the first; pixels divided by 255 and "
        "nothing else; for everything else of an optimizer its default."
    )
    lengths = (
        f"Scales: {'; '.join(f'{name}, {_length(scale)}' for name, scale in SCALES.items())}; quick, to see that "
        "everything works, by network: "
        f"{'; '.join(f'{model}, {_length(scale)}' for model, scale in QUICK.items())}."
    )
    return [stated, taken, lengths]


def _length(scale: Scale) -> str:
    images = f", {scale.images:,} images" if scale.images else ""
    return (
        f"{count(scale.epochs, 'epoch')}, tuning over {scale.tuning_epochs}, {count(len(scale.seeds), 'seed')}{images}"
    )
