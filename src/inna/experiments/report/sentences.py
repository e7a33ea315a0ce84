"""The sentences of a report and the decimals of its numbers.

They are the same in the page and in the terminal.
"""

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
)
from inna.experiments.report.difference_words import interval_words, mean_words
from inna.experiments.rows.results import history, number
from inna.experiments.rows.run import Metric, Schedule
from inna.experiments.statistics.intervals import CONFIDENCE, Spread
from inna.experiments.statistics.seed_rule import seeds_sentence
from inna.experiments.statistics.summary import NEAR, UNEVEN, Entry, Summary
from inna.experiments.study.halving import rungs
from inna.experiments.study.seed_looks import looks
from inna.experiments.study.study import Study

__all__ = [
    "WIDTH_NAME",
    "difference_places",
    "headline",
    "initial_loss",
    "margin_places",
    "measure_name",
    "measure_places",
    "method_notes",
    "near_best_name",
    "spread_places",
    "survivors_sentence",
    "timing_warning",
    "verdict",
    "warnings_of",
]

WIDTH_NAME = "Width of good γ (decades)"


def measure_name(measure: Metric) -> str:
    """Return the name of a measure.

    >>> measure_name(Metric("test_accuracy", "max")), measure_name(Metric("train_loss", "min"))
    ('test accuracy', 'training loss')
    """
    if measure.name == "train_loss":
        return "training loss"
    return plain(measure.name.replace("_", " "))


def headline(summary: Summary, measure: Metric) -> tuple[tuple[str, ...], str]:
    """Return the labels of the best optimizers, and whether a lead is significant.

    There may be none, one, or several that tie.
    """
    winners = summary.winners(measure)
    name, n = measure_name(measure), len(summary.study.seeds)
    if not winners:
        if any(entry.pending for entry in summary.entries):
            return (), f"Final runs are missing: there is no winner on {name} yet."
        return (), f"No optimizer has a {name} on every seed: there is no winner."
    labels = tuple(plain(entry.label) for entry in winners)
    if len(labels) > 1:
        return labels, f"They tie: their means are equal ({count(n, 'seed')})."
    others = [entry for entry in summary.entries if entry is not winners[0] and entry.values(measure.name)]
    if not others:
        return labels, f"No other optimizer has a {name} to compare with."
    if n < 2:
        return labels, f"One seed allows no test of significance: the order on {name} may differ on another seed."
    rivals = [plain(entry.label) for entry in summary.rivals(measure)]
    if not rivals:
        beaten = "the other optimizer" if len(others) == 1 else f"all {len(others)} others"
        return labels, f"Its lead over {beaten} is significant ({n} seeds)."
    if len(rivals) == len(others) > 1:
        return labels, f"Its lead is not significant over any of the others ({n} seeds)."
    if len(rivals) > 3 and len(rivals) > len(others) / 2:
        beaten = enumerate_words([plain(entry.label) for entry in others if plain(entry.label) not in rivals])
        return labels, f"Its lead is significant over {beaten} only, of the {len(others)} others ({n} seeds)."
    return labels, f"Its lead over {enumerate_words(rivals, 'or')} is not significant ({n} seeds)."


def verdict(summary: Summary, entry: Entry, measure: Metric) -> str:
    """Return the difference of ``entry`` to the reference as a sentence.

    "" for the reference itself.
    """
    if entry is summary.reference:
        return ""
    name, label, reference = measure_name(measure), plain(entry.label), plain(summary.study.reference)
    difference = summary.differences(measure).get(entry.label)
    if difference is None:
        return f"{label} and {reference} have no trained seed in common to compare their {name}."
    if difference.low is None or difference.high is None:
        return f"{label} and {reference} have one seed in common on {name}, which allows no test of significance."
    places = decimals((), [difference.high - difference.low])
    interval = f"{difference.n} seeds ({percent(CONFIDENCE)} confidence interval {interval_words(difference, places)})."
    mean = mean_words(difference, places)
    if not difference.significant:
        return f"The difference of {label} to {reference} in {name} is not significant: {mean} over {interval}"
    better = (difference.mean < 0) == (measure.goal == "min")
    if not difference.ratio:
        mean = f"{'lower' if difference.mean < 0 else 'higher'} by {fixed(abs(difference.mean), places)}"
    return f"{label} has a {'better' if better else 'worse'} {name} than {reference}: {mean} over {interval}"


def warnings_of(summary: Summary, entry: Entry) -> list[str]:
    """Return the warnings about the numbers of ``entry``."""
    label, found = plain(entry.label), []
    if entry.choice is None:
        if entry.tuning:
            reason = "no tuning run trained" if summary.study.trials else "every tuning run diverged"
            found.append(f"{label}: {reason}, so there is no learning rate to compare.")
        else:
            found.append(f"{label}: no tuning run is done yet.")
        return found
    if entry.choice.edge:
        end = "smallest" if entry.choice.edge < 0 else "largest"
        found.append(
            f"{label}: the chosen learning rate γ = {short(entry.choice.lr)} is the {end} tried with its schedule; "
            f"a better one may be outside {'the range' if summary.study.trials else 'the grid'}."
        )
    if entry.diverged:
        found.append(
            f"{label}: {len(entry.diverged)} of {count(len(summary.study.seeds), 'final run')} diverged "
            f"({seeds(entry.diverged)}); its means are over the other seeds."
        )
    if entry.untrained:
        found.append(
            f"{label}: {len(entry.untrained)} of {count(len(summary.study.seeds), 'final run')} did not train "
            f"({seeds(entry.untrained)}): the loss stayed at that of a constant output. Its means are over the other "
            "seeds."
        )
    if entry.missing:
        found.append(f"{label}: {count(len(entry.missing), 'final run')} not done yet ({seeds(entry.missing)}).")
    for measure in summary.measures:
        lost = len(entry.finals) - len(entry.diverged) - len(entry.untrained) - len(entry.values(measure.name))
        if lost:
            found.append(f"{label}: {count(lost, 'finished run')} without a finite {measure_name(measure)}, skipped.")
        difference = summary.differences(measure).get(entry.label)
        if difference is not None and not math.isfinite(difference.mean):
            reference = plain(summary.study.reference)
            found.append(
                f"{label}: the difference to {reference} in {measure_name(measure)} is too large for a number."
            )
    return found


def timing_warning(summary: Summary) -> str:
    """Return which optimizers' seeds differ in time; "" if none's do."""
    uneven = [plain(entry.label) for entry in summary.entries if entry.uneven_seconds]
    if not uneven:
        return ""
    return (
        f"The seconds per epoch of {enumerate_words(uneven)} differ by more than {UNEVEN:g} times between seeds (was "
        "the machine busy?); medians are shown."
    )


def method_notes(summary: Summary) -> list[str]:
    """Return how the numbers are computed and what they assume, as paragraphs."""
    study, reference = summary.study, plain(summary.study.reference)
    tuning = (
        f"On each seed all optimizers start from the same initial weights. {_tuning_words(study)} Test data is not "
        f"used for this choice, and no tuning seed is used in the comparison. Final runs take "
        f"{count(study.epochs, 'epoch')} on {seeds(study.seeds)}."
    )
    tested = enumerate_words([str(look) for look in looks(study.seed_cap)]) if study.seed_cap else ""
    added = (
        f"{seeds_sentence(summary)} The lead is tested after {tested} seeds. Each test spends a share of the error "
        f"rate in proportion to the seeds that it adds, here {percent(study.error_share)}. P-values are divided by "
        "that share, so all tests together call a lead that is not there significant in at most "
        f"{percent(1 - CONFIDENCE)} of studies. Intervals are not corrected for this."
        if study.seed_cap
        else ""
    )
    numbers = (
        "Training loss is the mean over the whole training set, in evaluation mode, after the epoch. Numbers are mean "
        "[worst, best] over the final seeds; where ratios are compared, the mean is geometric. A diverged run has no "
        "number. A run did not train if its training loss ends less than 1\N{NO-BREAK SPACE}% below that of the best "
        "constant output. Both kinds are counted, listed and left out of means, and their optimizer cannot win."
    )
    intervals = (
        f"Differences to {reference} are paired by seed: the mean of the n differences, plus or minus the quantile of "
        f"Student’s t ({percent(CONFIDENCE)}, two-sided, n − 1 degrees of freedom) times their standard error. "
        "Measures that are better when smaller, such as losses, are compared as ratios if all values are positive: "
        "their logarithms are subtracted. This assumes that the differences are independent and normally distributed, "
        "which a handful of seeds cannot check. If they are all equal, the sign test decides."
    )
    chance = (
        f"“Significant” is corrected for multiple comparisons (Holm, level {percent(1 - CONFIDENCE)} per measure); "
        f"intervals are not. The others are compared with {reference}, which was chosen beforehand. The winner, and "
        "any other reference, is chosen after seeing the results: there all pairs of optimizers count."
    )
    compared = "tuning runs of full length on the first tuning seed" if study.trials else "tuning runs"
    costs = (
        f"“Epochs to {reference}’s best” is the first epoch after which the training loss is at most {reference}’s "
        f"lowest on the same seed. “{near_best_name(study)}” is the share of an optimizer’s {compared} whose training "
        f"loss ends within {percent(NEAR)} of its best: the larger it is, the less sensitive the optimizer is to "
        "learning rate (γ) and the schedule. The width of good γ is that of the learning rates around the best that "
        "train to at most twice its training loss, in decades: 1 from 0.01 to 0.1. Seconds per epoch and to a loss "
        "count training alone; the total time is that of whole runs."
    )
    untuned = (
        "Untuned runs have the default learning rate of the optimizer’s library, a constant schedule, and the default "
        "of every setting that is not given with the optimizer. They take the epochs and seeds of the final runs, and "
        "are not part of an optimizer’s total."
    )
    has_untuned = any(entry.untuned for entry in summary.entries)
    return [tuning, *filter(None, [added]), numbers, intervals, chance, *([untuned] if has_untuned else []), costs]


def near_best_name(study: Study) -> str:
    """Return the name of the share of tuning runs near the best."""
    return "Trials near best" if study.trials else "Grid near best"


def _tuning_words(study: Study) -> str:
    steps = {4: "quarters of a decade", 8: "eighths of a decade"}.get(study.refinement, "")
    if not study.trials:
        return (
            f"Tuning chooses the learning rate (γ) and the schedule with the lowest training loss after "
            f"{count(study.tuning_epochs, 'epoch')} on {seeds([study.tuning_seed])}."
            + (f" Around the best of each schedule learning rates are refined to {steps}." if study.refinement else "")
        )
    return (
        f"Tuning is a search with {count(study.trials, 'trial')} for each optimizer, at the same points of its search "
        f"space, over the learning rate (γ), the schedules and the settings that are not given. Trials are compared by "
        f"training loss after {enumerate_words([str(length) for length in rungs(study.tuning_epochs)])} epochs on "
        f"{seeds([study.tuning_seed])}; each time the better half of each schedule continues, up to a half of the "
        "epochs. Around the best of each schedule the learning rate is then refined to quarters, around the best of "
        f"all to eighths of a decade. The best of these train for {count(study.longest, 'epoch')}, on "
        f"{seeds(study.tuning_seeds[1:])}, too; the lowest mean over both seeds is chosen. Beside a learning rate that "
        f"fails to train it must also train on {seeds(study.spare_seeds)}."
    )


def survivors_sentence(entry: Entry, q: Schedule) -> str:
    """Return the learning rates that survived under ``q``, as a hint."""
    tried = {run.lr for run, _ in entry.tuning if run.decay == q}
    survivors = entry.survivors(q)
    if not survivors:
        return f"With the {schedule(q)} schedule none of {count(len(tried), 'learning rate')} survived tuning."
    if len(survivors) == len(tried):
        return f"With the {schedule(q)} schedule every learning rate survived tuning, up to {short(survivors[-1])}."
    broken = sorted(tried - set(survivors))
    if survivors[-1] < broken[0]:
        last, next_ = short(survivors[-1]), short(broken[0])
        return f"With the {schedule(q)} schedule learning rates up to {last} survived tuning; {next_} did not."
    listed = enumerate_words([short(lr) for lr in survivors])
    return f"With the {schedule(q)} schedule these learning rates survived tuning: {listed}."


def initial_loss(summary: Summary) -> float:
    """Return the training loss before training, the largest over the study's runs.

    NaN if no row contains it.
    """
    values = (number(history(result)[0].get("train_loss")) for _, result in summary.rows() if history(result))
    return max((value for value in values if math.isfinite(value)), default=math.nan)


def measure_places(summary: Summary, measure: Metric) -> int:
    """Return the decimals of a measure, the same everywhere in a report."""
    values = [summary.spread(entry, measure) for entry in summary.entries]
    return decimals((each.mean for each in values if each), (abs(each.worst - each.best) for each in values if each))


def spread_places(summary: Summary, measure: Metric, values: Spread) -> int:
    """Return the decimals of a mean and its ends.

    Of a geometric mean at most two digits of its own spread; the mean keeps two digits.
    """
    places, gap = measure_places(summary, measure), abs(values.worst - values.best)
    if not summary.ratios(measure) or not 0 < gap < math.inf or values.mean <= 0:
        return places
    return min(places, max(1 - math.floor(math.log10(min(gap, values.mean))), 0))


def difference_places(summary: Summary, measure: Metric) -> int:
    """Return the decimals of a measure's differences.

    Two digits of their middle interval, at most the measure's.
    """
    widths = sorted(width for width in _interval_widths(summary, measure) if 0 < width < math.inf)
    if not widths:
        return measure_places(summary, measure)
    return min(max(1 - math.floor(math.log10(widths[len(widths) // 2])), 0), measure_places(summary, measure))


def margin_places(summary: Summary, measure: Metric) -> int:
    """Return the decimals of differences that are written with a margin.

    Two digits of the middle one.
    """
    return decimals((), (width / 2 for width in _interval_widths(summary, measure)))


def _interval_widths(summary: Summary, measure: Metric) -> list[float]:
    return [
        difference.high - difference.low
        for difference in summary.differences(measure).values()
        if difference.low is not None and difference.high is not None
    ]
