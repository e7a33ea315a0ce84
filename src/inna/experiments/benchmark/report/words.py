"""The verdict of a benchmark in sentences and tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from inna.experiments.benchmark.judged import Judged
from inna.experiments.benchmark.scores import PENALTY, SOLVED, final_loss_scores, steps_scores
from inna.experiments.benchmark.suite import SuiteTask
from inna.experiments.benchmark.targets import RULE, targets_of
from inna.experiments.benchmark.verdict import LEVEL, RESAMPLES, Standing, Verdict
from inna.experiments.formatting import DASH, count, percent, short
from inna.experiments.statistics.intervals import CONFIDENCE

__all__ = [
    "MEASURE_NAMES",
    "TRACK_NAMES",
    "Cell",
    "Table",
    "constants_table",
    "inna_sentence",
    "lead",
    "leave_one_out_table",
    "method",
    "others_table",
    "overview_table",
    "suite_table",
    "task_table",
    "times",
    "verdict_sentence",
]

TRACK_NAMES = {"tuned": "Tuned", "untuned": "Untuned"}
MEASURE_NAMES = {
    "steps": "steps to the target training loss",
    "loss": "final training loss",
    "test": "steps to the target on test data",
}
# With fewer, even a lead on every task has a p above LEVEL.
_FEWEST_TASKS = math.ceil(1 - math.log2(LEVEL))
_MEANS = {
    "steps": "needs the fewest steps to the target training losses",
    "loss": "ends with the lowest training losses",
    "test": "needs the fewest steps to the targets on test data",
}


class Cell(NamedTuple):
    """A cell of a table: text, small print, whether it is the best of its column."""

    text: str
    small: str = ""
    best: bool = False


class Table(NamedTuple):
    """A table: its title, its heads, and lines of a label and cells."""

    title: str
    heads: list[str]
    lines: list[tuple[str, list[Cell]]]


def times(ratio: float) -> str:
    """Format a ratio.

    >>> times(1.0), times(3.14159), times(1234.5)
    ('1.00×', '3.14×', '1230×')
    """
    return f"{ratio:.2f}×" if ratio < 10 else f"{float(f'{ratio:.3g}'):g}×"


def lead(judged: Judged) -> str:
    """Return the verdict in a sentence for each track, the tuned one first."""
    parts = [_short_sentence(judged, track) for track in TRACK_NAMES if (track, "steps") in judged.verdicts]
    return " ".join(parts) or "No task with targets is complete yet."


def _short_sentence(judged: Judged, track: str) -> str:
    verdict = judged.verdicts[track, "steps"]
    first = verdict.standings[0]
    sentence = f"{TRACK_NAMES[track]}, {first.label} needs the fewest steps to the target training losses"
    if verdict.lead is not None:
        sentence += f" (lead {'established' if verdict.lead.p <= LEVEL else 'not established'})"
    own = next((each for each in verdict.standings if each.label.startswith("INNA")), None)
    if own is None or own is first:
        return f"{sentence}."
    place = f"number {verdict.rank(own.label)} of {len(verdict.standings)}"
    return f"{sentence}; {own.label}, the best variant of INNA, is {place}."


def verdict_sentence(judged: Judged, track: str, measure: str) -> str:
    """Return who is first in a track by a measure, and how certainly.

    "" if it is not known.
    """
    verdict = judged.verdicts.get((track, measure))
    if verdict is None:
        return ""
    first, lead = verdict.standings[0], verdict.lead
    tasks = count(len(verdict.scores.tasks), "task")
    sentence = (
        f"{TRACK_NAMES[track]}, {first.label} {_MEANS[measure]} over {tasks}: {times(first.ratio)} those of the best "
        f"optimizer of each, in the geometric mean"
    )
    if lead is None:
        return f"{sentence}."
    share = f"It is first in {percent(first.best)} of the resamples"
    if lead.p <= LEVEL:
        return f"{sentence}. {share}, and its lead over every other is established (p at most {lead.p:.2f})."
    rival = verdict.standing(lead.rival)
    return (
        f"{sentence}. {share}, but its lead is not established: p = {lead.p:.2f} against {rival.label} with "
        f"{times(rival.ratio)}."
    )


def inna_sentence(judged: Judged, track: str, measure: str) -> str:
    """Return the place of the best variant of INNA.

    "" without one, or if it is first.
    """
    verdict = judged.verdicts.get((track, measure))
    own = [each for each in verdict.standings if each.label.startswith("INNA")] if verdict else []
    if verdict is None or not own or own[0] is verdict.standings[0]:
        return ""
    best = own[0]
    return (
        f"The best variant of INNA, {best.label}, is number {verdict.rank(best.label)} of {len(verdict.standings)} "
        f"with {times(best.ratio)} ({_interval(best)})."
    )


def overview_table(judged: Judged) -> Table | None:
    """Return every optimizer's mean ratios of steps and losses, in all tracks.

    None if nothing is known.
    """
    verdicts = {
        f"{TRACK_NAMES[track]}: {name}": judged.verdicts[track, measure]
        for track in TRACK_NAMES
        for measure, name in (("steps", "steps to the target"), ("loss", "final training loss"))
        if (track, measure) in judged.verdicts
    }
    if not verdicts:
        return None
    lines = []
    for label in dict.fromkeys(place.label for verdict in verdicts.values() for place in verdict.standings):
        cells = []
        for verdict in verdicts.values():
            if label in verdict.scores.labels:
                place = verdict.standing(label)
                cells.append(Cell(times(place.ratio), _interval(place), verdict.rank(label) == 1))
            else:
                cells.append(Cell(DASH))
        lines.append((label, cells))
    return Table("Mean ratios to the best of each task", ["Optimizer", *verdicts], lines)


def task_table(judged: Judged, track: str, measure: str) -> Table | None:
    """Return the scores task by task, the best mean ratio first.

    None if they are not known.
    """
    verdict = judged.verdicts.get((track, measure))
    if verdict is None:
        return None
    heads = ["Optimizer", "Mean ratio", "First in", *verdict.scores.tasks]
    lines = []
    for place in verdict.standings:
        cells = [
            Cell(times(place.ratio), _interval(place), place is verdict.standings[0]),
            Cell(percent(place.best)),
            *(_cell(verdict, task, place.label, measure) for task in verdict.scores.tasks),
        ]
        lines.append((place.label, cells))
    return Table(f"{TRACK_NAMES[track]}: {MEASURE_NAMES[measure]}", heads, lines)


def _cell(verdict: Verdict, task: str, label: str, measure: str) -> Cell:
    scores, ratio = verdict.scores, verdict.ratios[task][label]
    values, reached = scores.values[task, label], scores.reached[task, label]
    failed = len(reached) - sum(reached)
    if 2 * failed >= len(reached):
        reason = "not finished" if measure == "loss" else "not reached"
        return Cell(reason, f"{count(failed, 'seed')} of {len(reached)}")
    value = statistics.geometric_mean(values)
    shown = short(value) if measure == "loss" else f"{value:.1f}"
    lost = f", {failed} of {len(reached)} seeds not" if failed else ""
    return Cell(shown, f"{times(ratio)}{lost}", ratio < 1 + 1e-12)


def _interval(place: Standing) -> str:
    return f"{times(place.low)} to {times(place.high)}"


def leave_one_out_table(judged: Judged, track: str, measure: str) -> Table | None:
    """Return who is first, second and third when any one task is left out.

    None if it is not known.
    """
    verdict = judged.verdicts.get((track, measure))
    without = verdict.leave_one_out() if verdict else {}
    if verdict is None or not without:
        return None
    places = {"(all tasks)": verdict.standings, **without}
    return _first_places(f"{TRACK_NAMES[track]}: {MEASURE_NAMES[measure]}", "Without", places)


def constants_table(judged: Judged, track: str) -> Table | None:
    """Return who is first with other constants of the scores.

    These are the penalty of a target that is not reached, and the loss that counts as solved.

    None if it is not known.
    """
    summaries = judged.tracks[track]
    if (track, "steps") not in judged.verdicts or (track, "loss") not in judged.verdicts:
        return None
    places = {
        f"not reached: {penalty:g} × the epochs": Verdict(steps_scores(summaries, penalty=penalty)).standings
        for penalty in (1.0, PENALTY, 4.0, 10.0)
    }
    places |= {
        f"solved: {solved:g}": Verdict(final_loss_scores(summaries, solved=solved)).standings
        for solved in (1e-2, 1e-3, SOLVED, 0.0)
    }
    return _first_places(TRACK_NAMES[track], "With", places)


def _first_places(title: str, head: str, places: Mapping[str, Sequence[Standing]]) -> Table:
    """Return the first three of each of ``places``, and the best variant of INNA."""
    lines = []
    for name, standings in places.items():
        cells = [Cell(each.label, times(each.ratio)) for each in standings[:3]]
        cells += [Cell(DASH)] * (3 - len(cells))
        own = [(place, each) for place, each in enumerate(standings, 1) if each.label.startswith("INNA")]
        cells.append(Cell(f"{own[0][1].label}", f"number {own[0][0]}, {times(own[0][1].ratio)}") if own else Cell(DASH))
        lines.append((name, cells))
    return Table(title, [head, "First", "Second", "Third", "Best variant of INNA"], lines)


def others_table(judged: Judged, others: Sequence[Judged], track: str, measure: str) -> Table | None:
    """Return our mean ratios beside those of the results that were added.

    None without any.
    """
    verdicts = [(each.benchmark.name or "ours", each.verdicts.get((track, measure))) for each in (judged, *others)]
    known = [(name, verdict) for name, verdict in verdicts if verdict is not None]
    if len(known) < 2:
        return None
    labels = dict.fromkeys(place.label for _, verdict in known for place in verdict.standings)
    lines = []
    for label in labels:
        cells = []
        for _, verdict in known:
            if label in verdict.scores.labels:
                place = verdict.standing(label)
                cells.append(Cell(times(place.ratio), _interval(place), verdict.rank(label) == 1))
            else:
                cells.append(Cell(DASH))
        lines.append((label, cells))
    return Table(f"{TRACK_NAMES[track]}: {MEASURE_NAMES[measure]}", ["Optimizer", *(name for name, _ in known)], lines)


def suite_table(judged: Judged) -> Table:
    """Return the tasks with their budgets and targets."""
    lines = []
    for task in judged.benchmark.suite.tasks:
        summaries = [track[task] for track in judged.tracks.values() if task in track]
        results = [result for summary in summaries for _, result in summary.rows()]
        parameters = next((f"{result['parameters']:,}" for result in results if "parameters" in result), DASH)
        batch = str(summaries[0].study.batch_size or DASH) if summaries else DASH
        model = summaries[0].study.model if summaries else DASH
        lines.append(
            (task.name, [Cell(model), Cell(parameters), Cell(batch), Cell(str(task.epochs)), Cell(_targets(task))])
        )
    return Table("Tasks", ["Task", "Network", "Parameters", "Batch size", "Epochs", "Targets"], lines)


def _targets(task: SuiteTask) -> str:
    return ", ".join(f"{name} {short(value)}" for name, value in targets_of(task).items()) or "none"


def method(judged: Judged) -> list[str]:
    """Return how the verdict comes about, in paragraphs."""
    suite = judged.benchmark.suite
    tuned = (
        f"Tuned track: each optimizer has {count(suite.trials, 'trial')} of its search space and at most the epochs of "
        f"{count(suite.tuning, 'whole run')} for its search (successive halving, then the learning rate around the "
        "best), on seeds that the final runs do not use, by training loss. The learning rate falls linearly to zero; "
        "that of schedule-free AdamW, which has no schedule by design, is constant."
    )
    ratios = (
        "Ratio: an optimizer's score on a task, the geometric mean over the seeds, divided by the best optimizer's of "
        f"the track. A run that does not reach its target counts with {PENALTY:g} times its epochs in mean ratios, and "
        "at no ratio in profiles; one that diverged counts with the task's largest loss of initial weights, and a loss "
        f"below {SOLVED:g} of that as solved, so that all such are equal. Epochs are counted whole, up to the first "
        "that reaches the target: a measure that varies from epoch to epoch reaches it sooner. If no optimizer "
        "reaches it, all are equal on that task."
    )
    profiles = (
        "Profile: the share of the tasks on which the ratio is at most τ (E. Dolan and J. Moré, Mathematical "
        f"Programming 91, 2002). Bands and intervals contain {percent(CONFIDENCE)} of {RESAMPLES:,} resamples, which "
        "draw the tasks with replacement and the seeds of each with replacement, equal seeds for all optimizers. With "
        "few tasks they are wide, but not wide enough: over six tasks such an interval contains the true mean in 80 to "
        "87 of 100 simulated cases."
    )
    lead = (
        "Lead: the share of resamples only describes. A lead is judged by an exact test. Were two optimizers alike, "
        "their difference would be as likely to have either sign on each task; p is the share of all signs with a mean "
        f"difference as large. A lead is established if p is at most {LEVEL:g} against every other optimizer. On fewer "
        f"than {_FEWEST_TASKS} tasks none can be."
    )
    return [
        tuned,
        "Untuned track: one setting for all tasks, the defaults of each optimizer's library, at a constant rate.",
        f"Final runs: {count(len(suite.seeds), 'seed')}, the same weights and batches for all optimizers at a seed.",
        f"Targets: {RULE} They are constants of this version of inna.",
        ratios,
        profiles,
        lead,
    ]
