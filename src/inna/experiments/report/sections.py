"""The sections of a page that are words and numbers: who won, what to beware of, what diverged, how it was made."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import inna
from inna.experiments.charts.html import facts, line_key, scrolling_table, text
from inna.experiments.formatting import DASH, count, duration, fixed, plain, schedule, seeds, short
from inna.experiments.report.curves import styles
from inna.experiments.report.sentences import (
    headline,
    measure_name,
    measure_places,
    method_notes,
    survivors_sentence,
    verdict,
    warnings_of,
)
from inna.experiments.rows.results import divergence_sentence, finished
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import Entry, Summary

__all__ = [
    "cards",
    "diverged_runs",
    "entry_key",
    "footer",
    "lead",
    "method",
    "named_key",
    "provenance",
    "run_facts",
    "verdicts",
    "warnings_box",
]


def lead(summary: Summary) -> str:
    """The size of the study in two sentences."""
    study, rows = summary.study, summary.rows()
    lost = sum(not finished(result) for _, result in rows)
    seconds = math.fsum(entry.cost.seconds for entry in summary.entries)
    return (
        f"{count(len(study.contenders), 'optimizer')} train {plain(study.model)} for {count(study.epochs, 'epoch')}; "
        f"{count(len(study.seeds), 'seed')} decide{'s' if len(study.seeds) == 1 else ''}. "
        f"{count(len(rows), 'run')}, {lost or 'none'} of them diverged, {duration(seconds)} of computing."
    )


def cards(summary: Summary) -> str:
    """Who won on training loss and on the main metric, and what the seeds can tell of it."""
    return "".join(_card(summary, measure) for measure in summary.measures[:2])


def _card(summary: Summary, measure: Metric) -> str:
    name, sentence = headline(summary, measure)
    winner = summary.winner(measure)
    who, sentences = "<span>nobody</span>", [sentence]
    if winner is not None:
        values, places = spread(winner.values(measure.name).values(), measure.goal), measure_places(summary, measure)
        who = f"{entry_key(summary, winner)}<span>{text(name)}</span>"
        if values is not None:
            numbers = f"{fixed(values.mean, places)} [{fixed(values.worst, places)}, {fixed(values.best, places)}]"
            who += f'<span class="value">{numbers}</span>'
        sentences.append(verdict(summary, winner, measure))
    what = f"{'Lowest' if measure.goal == 'min' else 'Highest'} {measure_name(measure)}"
    said = "".join(f'<p class="said">{text(each)}</p>' for each in sentences if each)
    return f'<div class="card"><h2 class="what">{text(what)}</h2><p class="who">{who}</p>{said}</div>'


def warnings_box(summary: Summary, notes: Sequence[str] = ()) -> str:
    """``notes``, runs of different machines, and the warnings of each contender; nothing where there are none."""
    found = [
        *notes,
        *_mixed(summary, "hardware", "their timings do not compare"),
        *_mixed(summary, "versions", "their numbers may differ"),
        *(each for entry in summary.entries for each in warnings_of(summary, entry)),
    ]
    if not found:
        return ""
    items = "".join(f"<li>{text(each)}</li>" for each in found)
    return f'<div class="warnings" role="note"><strong>Before trusting the numbers</strong><ul>{items}</ul></div>'


def verdicts(summary: Summary) -> str:
    """A sentence a contender and measure: what the seeds tell against the reference."""
    sentences = [verdict(summary, entry, measure) for measure in summary.measures for entry in summary.entries]
    return "".join(f"<li>{text(sentence)}</li>" for sentence in sentences if sentence)


def diverged_runs(summary: Summary) -> str:
    """Every run that diverged, with the first bad step, and which gamma_0 survived."""
    parts = [_diverged(summary, entry) for entry in summary.entries]
    if not any(parts):
        return '<p class="note">No run diverged.</p>'
    note = "A step size that is too large is part of every grid; only a diverged final run speaks against an optimizer."
    return f'<p class="note">{note}</p><div class="stack">{"".join(parts)}</div>'


def _diverged(summary: Summary, entry: Entry) -> str:
    lost = [(run, result) for run, result in entry.runs() if not finished(result)]
    if not lost:
        return ""
    finals = {run for run, _ in entry.finals.values()}
    lines = [
        f"<tr><td>{'final' if run in finals else 'tuning'}, seed {run.seed}</td>"
        f'<td class="number">{short(run.lr)}</td><td>{text(schedule(run.q))}</td>'
        f'<td class="wide">{text(divergence_sentence(result))}</td></tr>'
        for run, result in lost
    ]
    hints = " ".join(survivors_sentence(entry, q) for q in sorted({run.q for run, _ in lost}))
    among = count(len(lost), "run") + (f", {len(entry.diverged)} final" if entry.diverged else "")
    table = scrolling_table(f"Diverged runs of {entry.label}", ["Run", "γ₀", "Schedule", "What happened"], lines, [1])
    return (
        f"<details{' open' if entry.diverged else ''}><summary>{named_key(summary, entry)} "
        f'<span class="badge">{among}</span> <span class="hint">{text(hints)}</span></summary>{table}</details>'
    )


def provenance(summary: Summary) -> str:
    """The command, the rows to take away, the settings, versions, hardware and optimizers."""
    return f"{run_facts(summary)}<h3>Optimizers</h3>{_contenders(summary)}"


def run_facts(summary: Summary) -> str:
    """The command, the rows to take away, the settings, versions and hardware."""
    study, rows = summary.study, summary.rows()
    settings = {
        "Task": study.dataset,
        "Network": study.model,
        "Parameters": _distinct(f"{result['parameters']:,}" for _, result in rows if "parameters" in result),
        "Batch size": study.batch_size or "the task’s own",
        "Device, precision": f"{study.device}, {study.precision}",
        "Threads a run": _distinct(result["threads"] for _, result in rows if "threads" in result),
        "Tuning": f"{count(study.tuning_epochs, 'epoch')}, {seeds([study.tuning_seed])}",
        "Final runs": f"{count(study.epochs, 'epoch')}, {seeds(study.seeds)}",
        "Reference": study.reference,
        "Metrics": ", ".join(f"{name} ({goal}imum is best)" for name, goal in study.metrics),
    }
    if study.source:
        settings["Digest of the task"] = study.source
    command = f"<h3>Command</h3><pre>{text(study.command)}</pre>" if study.command else ""
    name = "".join(c if c.isascii() and c.isalnum() else "-" for c in study.dataset)[:40].strip("-") or "study"
    return (
        f'{command}<p><button type="button" class="button" id="download" data-name="inna-{name}-rows.json">'
        f"Download the {count(len(rows), 'row')} (JSON)</button></p>"
        f'<div class="columns"><div><h3>Settings</h3>{facts(settings)}</div>'
        f"<div><h3>Versions</h3>{facts(_merged(summary, 'versions'))}"
        f"<h3>Hardware</h3>{facts(_merged(summary, 'hardware'))}</div></div>"
    )


def method(summary: Summary) -> str:
    """How the numbers came about."""
    return '<div class="method">' + "".join(f"<p>{text(note)}</p>" for note in method_notes(summary)) + "</div>"


def footer(summary: Summary) -> str:
    """Who made the page, from what, and when the last run finished."""
    rows = summary.rows()
    last = max((str(result["finished"]) for _, result in rows if result.get("finished")), default="")
    when = f", the last finished {last[:16].replace('T', ' ')} UTC" if last else ""
    return f"Made by inna {inna.__version__} from {count(len(rows), 'row')}{when}. One file, which loads nothing."


def _contenders(summary: Summary) -> str:
    lines = []
    for entry in summary.entries:
        rates = sorted({run.lr for run, _ in entry.tuning})
        cells = [
            f"<td>{text(entry.contender.optimizer)}</td>",
            f"<td>{text(_arguments(entry))}</td>",
            f'<td class="number">{len(rates)}</td>',
            f'<td class="number">{short(rates[0]) if rates else DASH}</td>',
            f'<td class="number">{short(rates[-1]) if rates else DASH}</td>',
            f"<td>{text(', '.join(schedule(q) for q in entry.contender.qs))}</td>",
        ]
        lines.append(f'<tr><th scope="row">{named_key(summary, entry)}</th>{"".join(cells)}</tr>')
    heads = ["Optimizer", "Name", "Arguments", "γ₀ tried", "from", "to", "Schedules"]
    return scrolling_table("Optimizers and their settings", heads, lines, numbers=[3, 4, 5])


def _arguments(entry: Entry) -> str:
    contender = entry.contender
    dampings = [("α", contender.alpha), ("β", contender.beta)]
    shown = [f"{name} = {value:g}" for name, value in dampings if value is not None]
    return ", ".join([*shown, *(f"{name} = {value}" for name, value in contender.settings)]) or DASH


def _mixed(summary: Summary, key: str, consequence: str) -> list[str]:
    documents = {json.dumps(result.get(key), sort_keys=True, default=str) for _, result in summary.rows()}
    return [f"The runs come from different {key}: {consequence}."] if len(documents) > 1 else []


def _merged(summary: Summary, key: str) -> dict[str, str]:
    """Name -> value as the rows say it; several values where they differ."""
    documents: list[Mapping[str, Any]] = [
        result[key] for _, result in summary.rows() if isinstance(result.get(key), Mapping)
    ]
    names = dict.fromkeys(name for document in documents for name in document)
    return {name: _distinct(document[name] for document in documents if name in document) for name in names}


def _distinct(values: Iterable[Any]) -> str:
    return " / ".join(dict.fromkeys(str(value) for value in values)) or DASH


def entry_key(summary: Summary, entry: Entry) -> str:
    """The `line_key` of a contender of a comparison."""
    return line_key(summary.entries.index(entry), styles(summary.study)[entry.label])


def named_key(summary: Summary, entry: Entry, after: str = "") -> str:
    """The contender's line and its name, with the markup ``after`` behind the name."""
    return f'<span class="name">{entry_key(summary, entry)}<span>{text(entry.label)}{after}</span></span>'
