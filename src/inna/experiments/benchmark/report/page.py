"""The page of a benchmark: the sentence, the profiles, the tasks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import inna
from inna.experiments.benchmark.judged import MEASURES, Judged, judge
from inna.experiments.benchmark.read import Benchmark, open_benchmark
from inna.experiments.benchmark.report.figures import figures, styles
from inna.experiments.benchmark.report.words import (
    MEASURE_NAMES,
    TRACK_NAMES,
    Table,
    inna_sentence,
    lead,
    leave_one_out_table,
    method,
    others_table,
    overview_table,
    suite_table,
    task_table,
    times,
    verdict_sentence,
)
from inna.experiments.benchmark.suite import TRACKS
from inna.experiments.charts.page import chart_page
from inna.experiments.formatting import count, enumerate_words
from inna.experiments.rows.results import Result
from inna.files import remove_abandoned, write_whole

__all__ = ["PAGE", "build_page", "write_page"]

PAGE = "benchmark.html"


class Card(NamedTuple):
    """The first of a track by a measure."""

    what: str
    label: str
    value: str
    sentences: list[str]


def write_page(benchmark: Benchmark | str | Path) -> tuple[Path, Judged]:
    """Write benchmark.html into the folder of a benchmark.

    Args:
        benchmark: the folder, or what `open_benchmark` read from it.

    Returns:
        The path of the page, and the verdicts.

    Raises:
        FileNotFoundError, ValueError, DamagedRowError: as `open_benchmark`.
    """
    if not isinstance(benchmark, Benchmark):
        benchmark = open_benchmark(benchmark)
    judged = judge(benchmark)
    remove_abandoned(benchmark.folder)
    path = benchmark.folder / PAGE
    write_whole(path, build_page(judged).encode())
    return path, judged


def build_page(judged: Judged) -> str:
    """Return the page as HTML."""
    others = [judge(each) for each in judged.benchmark.added]
    beside = _known(others_table(judged, others, track, measure) for track in TRACKS for measure in MEASURES)
    sections = {"profiles": "Profiles", "tasks": "Tasks", "robust": "Without one task"}
    return chart_page(
        "experiments/benchmark/report/benchmark.html",
        title=f"Benchmark of {count(len(judged.labels), 'optimizer')}",
        styles=styles(judged),
        figures=figures(judged),
        heading="Which optimizer stands where, over several tasks?",
        lead=lead(judged),
        sections={
            **sections,
            **({"others": "Results of others"} if beside else {}),
            "setup": "Setup",
            "method": "Method",
        },
        cards=_cards(judged),
        warnings=_warnings(judged),
        overview=overview_table(judged),
        tables={track: _known(task_table(judged, track, measure) for measure in MEASURES) for track in TRACKS},
        track_names=TRACK_NAMES,
        robust=_known(leave_one_out_table(judged, track, measure) for track in TRACKS for measure in MEASURES),
        beside=beside,
        suite=suite_table(judged),
        facts=_facts(judged),
        method=method(judged),
        footer=f"Made by inna {inna.__version__} from {count(len(_results(judged)), 'row')}; self-contained.",
    )


def _cards(judged: Judged) -> list[Card]:
    cards = []
    for measure in ("steps", "loss"):
        for track in TRACKS:
            verdict = judged.verdicts.get((track, measure))
            if verdict is not None:
                first = verdict.standings[0]
                sentences = [verdict_sentence(judged, track, measure), inna_sentence(judged, track, measure)]
                what = f"{TRACK_NAMES[track]}: {MEASURE_NAMES[measure]}"
                cards.append(Card(what, first.label, times(first.ratio), [each for each in sentences if each]))
    return cards


def _warnings(judged: Judged) -> list[str]:
    benchmark = judged.benchmark
    notes = []
    if missing := benchmark.missing(benchmark.begun):
        notes.append(f"Runs are missing, so these do not count: {enumerate_words(missing)}.")
    if benchmark.suite.quick:
        notes.append("This is a quick run: fewer tasks, trials and seeds than the whole suite.")
    for track in benchmark.results.values():
        for task, results in track.items():
            notes += [f"{task.name}: {note}" for note in results.notes]
    return list(dict.fromkeys(notes))


def _facts(judged: Judged) -> dict[str, str]:
    results = _results(judged)
    command = next((each.study.command for track in judged.tracks.values() for each in track.values()), "")
    facts = {"Command": command, "Seeds": ", ".join(map(str, judged.benchmark.suite.seeds))}
    for kind in ("versions", "hardware"):
        for name in dict.fromkeys(name for result in results for name in result.get(kind, ())):
            values = dict.fromkeys(str(result[kind][name]) for result in results if name in result.get(kind, ()))
            facts[name] = ", ".join(values)
    return {name: value for name, value in facts.items() if value}


def _results(judged: Judged) -> list[Result]:
    return [
        result
        for track in judged.benchmark.results.values()
        for each in track.values()
        for _, result in each.summary.rows()
    ]


def _known(tables: Iterable[Table | None]) -> list[Table]:
    return [table for table in tables if table is not None]
