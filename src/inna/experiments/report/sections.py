"""The sections of a page without charts.

Winners, warnings, diverged runs, and where the rows come from.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import inna
from inna.experiments.formatting import (
    DASH,
    count,
    duration,
    fixed,
    plain,
    schedule,
    seeds,
    setting_name,
    setting_value,
    short,
    slug,
)
from inna.experiments.report.sentences import (
    headline,
    measure_name,
    measure_places,
    spread_places,
    survivors_sentence,
    timing_warning,
    verdict,
    warnings_of,
)
from inna.experiments.rows.results import divergence_sentence, finished
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.summary import Entry, Summary
from inna.experiments.study.optimizer_names import settings_of
from inna.experiments.study.search_space import LEARNING_RATE
from inna.experiments.study.study import schedule_order
from inna.experiments.tasks.data_file import is_data_file

__all__ = [
    "Card",
    "DivergedRun",
    "DivergedRuns",
    "OptimizerFacts",
    "RunFacts",
    "cards",
    "diverged_runs",
    "footer",
    "lead",
    "optimizer_facts",
    "run_facts",
    "verdicts",
    "warnings",
]


class Card(NamedTuple):
    """The winners on one measure; ``labels`` and ``value`` are empty without one."""

    what: str
    labels: tuple[str, ...]
    value: str
    sentences: list[str]


class DivergedRun(NamedTuple):
    """One diverged run in words."""

    role: str
    lr: str
    schedule: str
    sentence: str


class DivergedRuns(NamedTuple):
    """The diverged runs of one optimizer; ``finals`` of them are final runs."""

    label: str
    finals: int
    among: str
    hint: str
    runs: list[DivergedRun]


class RunFacts(NamedTuple):
    """The origin of the rows: command, settings, versions, hardware.

    ``file_name`` is that of the download.
    """

    command: str
    file_name: str
    rows: str
    settings: Mapping[str, Any]
    versions: Mapping[str, str]
    hardware: Mapping[str, str]


class OptimizerFacts(NamedTuple):
    """The settings of one optimizer, and the learning rates that were tried."""

    label: str
    name: str
    settings: str
    tried: int
    smallest: str
    largest: str
    schedules: str


def lead(summary: Summary) -> str:
    """Return the size of the study."""
    study, rows = summary.study, summary.rows()
    lost = sum(not finished(result) for _, result in rows)
    seconds = math.fsum(entry.cost.seconds for entry in summary.entries)
    untrained = sum(len(entry.untrained) for entry in summary.entries)
    flat = f", {count(untrained, 'final run')} did not train" if untrained else ""
    return (
        f"{count(len(study.contenders), 'optimizer')}, {plain(study.model)}, {count(study.epochs, 'epoch')}, "
        f"{count(len(study.seeds), 'seed')}{f' of at most {study.seed_cap}' if study.seed_cap else ''}. "
        f"{count(len(rows), 'run')}, {lost or 'none'} of them diverged{flat}, {duration(seconds)} of computing."
    )


def cards(summary: Summary) -> list[Card]:
    """Return the winners on training loss and on the main metric."""
    return [_card(summary, measure) for measure in summary.measures[:2]]


def _card(summary: Summary, measure: Metric) -> Card:
    _, sentence = headline(summary, measure)
    winners = summary.winners(measure)
    value, sentences = "", [sentence]
    for winner in winners:
        values = summary.spread(winner, measure)
        places = measure_places(summary, measure) if values is None else spread_places(summary, measure, values)
        if values is not None and len(winners) == 1:
            value = f"{fixed(values.mean, places)} [{fixed(values.worst, places)}, {fixed(values.best, places)}]"
        elif values is not None:
            value = fixed(values.mean, places)
        sentences.append(verdict(summary, winner, measure))
    what = f"{'Lowest' if measure.goal == 'min' else 'Highest'} {measure_name(measure)}"
    return Card(what, tuple(winner.label for winner in winners), value, [each for each in sentences if each])


def warnings(summary: Summary, notes: Sequence[str] = ()) -> list[str]:
    """Return ``notes``, the runs of other machines, and the optimizers' warnings."""
    return [
        *notes,
        *_mixed(summary, "hardware", "their timings cannot be compared"),
        *_mixed(summary, "versions", "their numbers may differ"),
        *filter(None, [timing_warning(summary)]),
        *(each for entry in summary.entries for each in warnings_of(summary, entry)),
    ]


def verdicts(summary: Summary) -> list[str]:
    """Return a sentence per measure and optimizer: its difference to the reference."""
    sentences = [verdict(summary, entry, measure) for measure in summary.measures for entry in summary.entries]
    return [sentence for sentence in sentences if sentence]


def diverged_runs(summary: Summary) -> list[DivergedRuns]:
    """Return the diverged runs by optimizer, with the learning rates that survived."""
    return [
        _diverged(entry) for entry in summary.entries if any(not finished(result) for _, result in entry.all_runs())
    ]


def _diverged(entry: Entry) -> DivergedRuns:
    lost = [(run, result) for run, result in entry.all_runs() if not finished(result)]
    finals = {run for run, _ in entry.finals.values()}
    tuning = {run for run, _ in entry.tuning}
    return DivergedRuns(
        label=entry.label,
        finals=len(entry.diverged),
        among=count(len(lost), "run") + (f", {len(entry.diverged)} final" if entry.diverged else ""),
        hint=" ".join(survivors_sentence(entry, q) for q in sorted({run.decay for run, _ in lost}, key=schedule_order)),
        runs=[
            DivergedRun(
                f"{'final' if run in finals else 'tuning' if run in tuning else 'untuned'}, seed {run.seed}",
                short(run.lr),
                schedule(run.decay),
                divergence_sentence(result),
            )
            for run, result in lost
        ],
    )


def run_facts(summary: Summary) -> RunFacts:
    """Return the command, settings, versions and hardware of the runs."""
    study, rows = summary.study, summary.rows()
    settings = {
        "Task": study.dataset,
        "Network": study.model,
        "Parameters": _distinct(f"{result['parameters']:,}" for _, result in rows if "parameters" in result),
        "Batch size": study.batch_size or "set by the task",
        "Device, precision": f"{study.device}, {study.precision}",
        "Threads per run": _distinct(result["threads"] for _, result in rows if "threads" in result),
        "Tuning": f"{count(study.tuning_epochs, 'epoch')}, {seeds(study.tuning_seeds)}"
        + (f", {study.trials} trials" if study.trials else ""),
        "Final runs": f"{count(study.epochs, 'epoch')}, {seeds(study.seeds)}",
        "Reference": study.reference,
        "Metrics": ", ".join(f"{name} ({goal}imum is best)" for name, goal in study.metrics),
    }
    if study.loss_samples:
        settings["Training loss"] = f"the first {study.loss_samples:,} samples; all after the last epoch"
    if study.source:
        settings["Digest of the data" if is_data_file(study.dataset) else "Digest of the task"] = study.source
    return RunFacts(
        command=study.command,
        file_name=f"inna-{slug(study.dataset).strip('-') or 'study'}-rows.json",
        rows=count(len(rows), "row"),
        settings=settings,
        versions=_merged(summary, "versions"),
        hardware=_merged(summary, "hardware"),
    )


def optimizer_facts(summary: Summary) -> list[OptimizerFacts]:
    """Return the settings of each optimizer."""
    facts = []
    for entry in summary.entries:
        rates = sorted({run.lr for run, _ in entry.tuning})
        facts.append(
            OptimizerFacts(
                label=entry.label,
                name=entry.contender.optimizer,
                settings=_settings(summary, entry),
                tried=len(rates),
                smallest=short(rates[0]) if rates else DASH,
                largest=short(rates[-1]) if rates else DASH,
                schedules=", ".join(schedule(q) for q in entry.contender.qs),
            )
        )
    return facts


def footer(summary: Summary) -> str:
    """Return the version, the number of rows, and when the last run finished."""
    rows = summary.rows()
    last = max((str(result["finished"]) for _, result in rows if result.get("finished")), default="")
    when = f", the last finished {last[:16].replace('T', ' ')} UTC" if last else ""
    return f"Made by inna {inna.__version__} from {count(len(rows), 'row')}{when}. This file is self-contained."


def _settings(summary: Summary, entry: Entry) -> str:
    """Return every setting, chosen, given or the library's default.

    Those that were searched with their ranges.
    """
    contender = entry.contender
    run = entry.choice.run if entry.choice else summary.study.tuning_run(contender, contender.grid[0], contender.qs[0])
    ranges = {each.name: f" (from {each.low:g} to {each.high:g})" for each in contender.space}
    settings = ({LEARNING_RATE: run.lr} if LEARNING_RATE in ranges else {}) | settings_of(run)
    shown = [f"{setting_name(name)} = {setting_value(value)}{ranges.get(name, '')}" for name, value in settings.items()]
    return ", ".join(shown) or DASH


def _mixed(summary: Summary, key: str, consequence: str) -> list[str]:
    documents = {json.dumps(result.get(key), sort_keys=True, default=str) for _, result in summary.rows()}
    return [f"The runs come from different {key}: {consequence}."] if len(documents) > 1 else []


def _merged(summary: Summary, key: str) -> dict[str, str]:
    """Return name -> value over all rows; several values where rows differ."""
    documents: list[Mapping[str, Any]] = [
        result[key] for _, result in summary.rows() if isinstance(result.get(key), Mapping)
    ]
    names = dict.fromkeys(name for document in documents for name in document)
    return {name: _distinct(document[name] for document in documents if name in document) for name in names}


def _distinct(values: Iterable[Any]) -> str:
    return " / ".join(dict.fromkeys(str(value) for value in values)) or DASH
