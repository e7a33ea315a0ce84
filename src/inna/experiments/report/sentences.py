"""The words and numbers of a report, the same in the page and in the terminal: plain sentences, aligned decimals."""

from __future__ import annotations

import math

from inna.experiments.formatting import (
    count,
    decimals,
    enumerate_words,
    fixed,
    percent,
    plain,
    schedule,
    seeds,
    short,
    signed,
)
from inna.experiments.rows.results import finished, history, number
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import CONFIDENCE, Difference, false_alarm_rate, spread
from inna.experiments.statistics.summary import NEAR, Entry, Summary

__all__ = [
    "comparison_word",
    "difference_places",
    "headline",
    "initial_loss",
    "margin_places",
    "measure_name",
    "measure_places",
    "method_notes",
    "survivors_sentence",
    "verdict",
    "warnings_of",
]


def measure_name(measure: Metric) -> str:
    """The key of a measure in words.

    >>> measure_name(Metric("test_accuracy", "max")), measure_name(Metric("train_loss", "min"))
    ('test accuracy', 'training loss')
    """
    if measure.name == "train_loss":
        return "training loss"
    return plain(measure.name.replace("_", " "))


def headline(summary: Summary, measure: Metric) -> tuple[str, str]:
    """Who won on ``measure``, and what the seeds can tell of it, as a name (empty: nobody) and a sentence."""
    winner = summary.winner(measure)
    name, n = measure_name(measure), len(summary.study.seeds)
    if winner is None:
        if any(entry.pending for entry in summary.entries):
            return "", f"Final runs are still to come, so nobody has won on {name} yet."
        return "", f"No optimizer has a {name} on every seed, so nobody wins."
    label = plain(winner.label)
    others = [entry for entry in summary.entries if entry is not winner and entry.values(measure.name)]
    if not others:
        return label, f"No other optimizer has a {name} to compare with."
    if n < 2:
        return label, f"One seed cannot tell chance from merit: the order on {name} may differ on another."
    rivals = [plain(entry.label) for entry in summary.rivals(measure)]
    if not rivals:
        beaten = "the other one" if len(others) == 1 else f"all {len(others)} others"
        return label, f"The {n} seeds tell it apart from {beaten}."
    if len(rivals) == len(others) > 1:
        return label, f"The {n} seeds cannot tell it apart from any of the others."
    if len(rivals) > 3 and len(rivals) > len(others) / 2:
        told = [plain(entry.label) for entry in others if plain(entry.label) not in rivals]
        return label, f"Of the {len(others)} others, the {n} seeds tell it apart from {enumerate_words(told)} only."
    return label, f"The {n} seeds cannot tell it apart from {enumerate_words(rivals, 'or')}."


def verdict(summary: Summary, entry: Entry, measure: Metric) -> str:
    """What the seeds say of ``entry`` against the reference, as a sentence; empty for the reference itself."""
    if entry is summary.reference:
        return ""
    name, label, reference = measure_name(measure), plain(entry.label), plain(summary.study.reference)
    difference = summary.difference(entry, measure.name)
    if difference is None:
        return f"{label} and {reference} have no finished seed in common to compare their {name}."
    if difference.low is None or difference.high is None:
        return f"One seed in common cannot tell {label} from {reference} on {name}."
    places = decimals([difference.mean], [difference.high - difference.low])
    interval = f"{signed(difference.low, places)} to {signed(difference.high, places)}"
    if not difference.significant:
        return (
            f"{difference.n} seeds cannot tell {label} from {reference} on {name} "
            f"(difference {signed(difference.mean, places)}, {percent(CONFIDENCE)} interval {interval})."
        )
    better = (difference.mean < 0) == (measure.goal == "min")
    direction = "lower" if difference.mean < 0 else "higher"
    return (
        f"{label} has a {'better' if better else 'worse'} {name} than {reference}: {direction} by "
        f"{fixed(abs(difference.mean), places)} over {difference.n} seeds ({percent(CONFIDENCE)} interval {interval})."
    )


def comparison_word(difference: Difference | None, measure: Metric) -> str:
    """One of better, worse, cannot tell; empty where there is no interval."""
    if difference is None or difference.low is None:
        return ""
    if not difference.significant:
        return "cannot tell"
    return "better" if (difference.mean < 0) == (measure.goal == "min") else "worse"


def warnings_of(summary: Summary, entry: Entry) -> list[str]:
    """What a reader must know before trusting the line of ``entry``."""
    label, found = plain(entry.label), []
    if entry.choice is None:
        if entry.tuning:
            found.append(f"{label}: every tuning run diverged, so there is no step size to compare.")
        else:
            found.append(f"{label}: no tuning run is there yet.")
        return found
    if entry.choice.edge:
        end = "smallest" if entry.choice.edge < 0 else "largest"
        found.append(
            f"{label}: the chosen γ₀ = {short(entry.choice.lr)} is the {end} tried with its schedule; "
            "a better one may lie beyond."
        )
    if entry.diverged:
        found.append(
            f"{label}: {len(entry.diverged)} of {count(len(summary.study.seeds), 'final run')} diverged "
            f"({seeds(entry.diverged)}); its means are over the others."
        )
    if entry.missing:
        found.append(f"{label}: {count(len(entry.missing), 'final run')} not there yet ({seeds(entry.missing)}).")
    for measure in summary.measures:
        lost = len(entry.finals) - len(entry.diverged) - len(entry.values(measure.name))
        if lost:
            found.append(f"{label}: {count(lost, 'finished run')} without a finite {measure_name(measure)}, left out.")
    return found


def method_notes(summary: Summary) -> list[str]:
    """How the numbers came about and how far they carry, a paragraph each."""
    study, reference = summary.study, plain(summary.study.reference)
    comparisons = max(len(study.contenders) - 1, 1)
    corrected = 1 - (1 - CONFIDENCE) / comparisons
    tuning = (
        f"On each seed all optimizers start from the same initial weights. Their γ₀ and schedule are those with the "
        f"least training loss after {count(study.tuning_epochs, 'epoch')} on {seeds([study.tuning_seed])}; test data "
        f"takes no part in the choice, and that seed takes no part in the comparison. The final runs take "
        f"{count(study.epochs, 'epoch')} on {seeds(study.seeds)}."
    )
    numbers = (
        "Training loss is the mean over the whole training set, in evaluation mode, after the epoch. Numbers are mean "
        "[worst, best] over the final seeds. A run that diverged has no number: it is counted and listed, and an "
        "optimizer with such a run cannot win."
    )
    intervals = (
        f"Differences to {reference} are paired by seed: the mean of the n differences, plus or minus the quantile of "
        f"Student’s t ({percent(CONFIDENCE)}, two-sided, n − 1 degrees of freedom) times their standard error. This "
        "takes the differences for independent draws of one normal distribution, which a handful of seeds cannot check."
    )
    chance = (
        f"Every interval is for its own pair. With {count(comparisons, 'comparison')} a column, if all optimizers were "
        f"equal and the comparisons independent, at least one interval would leave zero out in "
        f"{percent(false_alarm_rate(comparisons))} of studies; against that, demand intervals at "
        f"{100 * corrected:.3g}\N{NO-BREAK SPACE}% (Bonferroni). A winner was picked by looking: that flatters it."
    )
    costs = (
        f"“Epochs to {reference}’s best” is the first epoch after which the training loss is at most the least that "
        f"{reference} reaches on the same seed. “Grid near best” is the share of an optimizer’s own tuning runs whose "
        f"training loss ends within {percent(NEAR)} of its best: the larger, the less γ₀ and schedule matter. "
        "Seconds of an epoch or to a loss are of training alone; the time spent is that of whole runs."
    )
    return [tuning, numbers, intervals, chance, costs]


def survivors_sentence(entry: Entry, q: float) -> str:
    """Which gamma_0 of the grid survived with the decay ``q``: the hint for the next try."""
    tried = [run for run, _ in entry.tuning if run.q == q]
    survivors = entry.survivors(q)
    if not survivors:
        return f"With the {schedule(q)} schedule none of the {count(len(tried), 'value')} of γ₀ tried survived tuning."
    if len(survivors) == len(tried):
        return f"With the {schedule(q)} schedule every γ₀ tried survived tuning, up to {short(survivors[-1])}."
    broken = sorted(run.lr for run, result in entry.tuning if run.q == q and not finished(result))
    if survivors[-1] < broken[0]:
        last, next_ = short(survivors[-1]), short(broken[0])
        return f"With the {schedule(q)} schedule γ₀ up to {last} survived tuning; {next_} did not."
    listed = enumerate_words([short(lr) for lr in survivors])
    return f"With the {schedule(q)} schedule these γ₀ survived tuning: {listed}."


def initial_loss(summary: Summary) -> float:
    """The training loss before training, the largest over the study's runs; NaN where no row says."""
    values = (number(history(result)[0].get("train_loss")) for _, result in summary.rows() if history(result))
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def measure_places(summary: Summary, measure: Metric) -> int:
    """The decimals in which a measure is shown all over a report."""
    values = [spread(entry.values(measure.name).values(), measure.goal) for entry in summary.entries]
    return decimals((each.mean for each in values if each), (abs(each.worst - each.best) for each in values if each))


def difference_places(summary: Summary, measure: Metric) -> int:
    """Return the decimals of a measure's differences: two digits of their middle interval, at most the measure's."""
    widths = sorted(width for width in _interval_widths(summary, measure) if width > 0)
    if not widths:
        return measure_places(summary, measure)
    return min(max(1 - math.floor(math.log10(widths[len(widths) // 2])), 0), measure_places(summary, measure))


def margin_places(summary: Summary, measure: Metric) -> int:
    """Return the decimals of a measure's differences where they are written with a margin: two digits of the middle."""
    return decimals((), (width / 2 for width in _interval_widths(summary, measure)))


def _interval_widths(summary: Summary, measure: Metric) -> list[float]:
    differences = [
        summary.difference(entry, measure.name) for entry in summary.entries if entry is not summary.reference
    ]
    return [
        difference.high - difference.low
        for difference in differences
        if difference is not None and difference.low is not None and difference.high is not None
    ]
