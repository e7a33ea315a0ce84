"""The page of a reproduction.

The verdicts, the paper's figures redrawn, its numbers beside ours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import inna
from inna.experiments.charts.page import chart_page, resource
from inna.experiments.formatting import slug
from inna.experiments.report.curves import contender_styles, curve_points
from inna.experiments.report.sections import footer, run_facts, warnings
from inna.experiments.rows.documents import row_document
from inna.experiments.statistics.summary import TRAIN_LOSS, Summary
from inna.files import remove_abandoned, write_whole
from inna.paper.curves import PAPER_EPOCHS
from inna.paper.reproduction import Reproduction, read_reproduction
from inna.paper.verdicts import Verdict
from inna.paper.words import (
    NUMBERS_HEADS,
    agreement,
    lead,
    numbers_lines,
    numbers_note,
    outcome_words,
    paper_words,
    rules,
    tally,
    with_width,
)

__all__ = [
    "PAGE",
    "build_reproduction_page",
    "write_reproduction",
]

PAGE = "reproduction.html"
SECTIONS = {
    "figure1": "Figure 1: a valley with kinks",
    "figure2": "Figure 2: the four (α, β)",
    "figure3": "Figure 3: INNA, SGD, AdaGrad and Adam",
    "figure4": "Figure 4: slower decays",
    "beyond": "Beyond the paper",
    "seconds": "Over seconds of training",
}
BADGES = {"holds": "good", "does not hold": "bad", "not enough runs": "open"}


class _Group(NamedTuple):
    """Verdicts that are judged on the same runs."""

    title: str
    when: str
    tally: str
    verdicts: Sequence[Verdict]
    ids: list[str]


def build_reproduction_page(reproduction: Reproduction, *, has_report: bool) -> str:
    """Return the page as HTML.

    With ``has_report`` it links to report.html beside it, which shows tuning and times.
    """
    summary, figures = reproduction.summary, reproduction.figures
    shown = {figure.section for figure in figures}
    figure_sections = {
        name: with_width(title, summary) if summary and name != "figure1" else title
        for name, title in SECTIONS.items()
        if name in shown
    }
    subject = f"{summary.study.dataset}, {summary.study.model}" if summary else "Figure 1"
    return chart_page(
        "paper/reproduction.html",
        title=f"{subject}: the paper’s experiments, run again",
        styles=contender_styles(summary) if summary else {},
        figures=figures,
        scripts=[resource("experiments/report/page.js")],
        data={
            "rows": {
                "study": dataclasses.asdict(summary.study) if summary else None,
                "rows": [row_document(*row) for row in summary.rows()] if summary else [],
                "figure1": [dataclasses.asdict(descent) for descent in reproduction.descents],
            },
        },
        heading=f"{subject}: do the paper’s claims hold?",
        lead=lead(summary),
        sections={
            "verdicts": "Verdicts",
            **{name: SECTIONS[name].split(":")[0] for name in figure_sections},
            **({"numbers": "Numbers"} if summary else {}),
            "settings": "Setup",
            "method": "How it is judged",
        },
        warnings=warnings(summary, reproduction.notes) if summary else [],
        verdicts=_groups(reproduction),
        badges=BADGES,
        paper_words=paper_words,
        outcome_words=outcome_words,
        agreement=agreement,
        last=PAPER_EPOCHS,
        figure_sections=figure_sections,
        drawn=_drawn(summary) if summary else [],
        numbers=_numbers(summary) if summary else None,
        has_report=has_report,
        runs=run_facts(summary) if summary else None,
        rules=rules(),
        footer=footer(summary) if summary else f"Made by inna {inna.__version__}. This file is self-contained.",
    )


def write_reproduction(reproduction: Reproduction | str | Path) -> Path:
    """Write reproduction.html from a folder and into it.

    Args:
        reproduction: the folder, or what `read_reproduction` read from it.

    Returns:
        The path of the page, which is written under a temporary name first, then renamed.

    Raises:
        FileNotFoundError, ValueError, DamagedRowError: as `read_reproduction`.
    """
    if not isinstance(reproduction, Reproduction):
        reproduction = read_reproduction(reproduction)
    remove_abandoned(reproduction.folder)
    path = reproduction.folder / PAGE
    write_whole(path, build_reproduction_page(reproduction, has_report=reproduction.summary is not None).encode())
    return path


def _groups(reproduction: Reproduction) -> list[_Group]:
    groups: list[tuple[str, Sequence[Verdict]]] = [("On the rows of this folder", reproduction.verdicts)]
    for when in dict.fromkeys(verdict.when for verdict in reproduction.figure1_verdicts):
        members = [verdict for verdict in reproduction.figure1_verdicts if verdict.when == when]
        groups.append((f"On Figure 1, {when}", members))
    return [
        _Group(title, _lengths(verdicts), tally(verdicts), verdicts, [_verdict_id(each) for each in verdicts])
        for title, verdicts in groups
        if verdicts
    ]


def _drawn(summary: Summary) -> list[str]:
    """Return the labels that have a curve."""
    points, _ = curve_points(summary, TRAIN_LOSS, as_compared=False)
    return list(dict.fromkeys(row["contender"] for row in points))


def _lengths(verdicts: Sequence[Verdict]) -> str:
    """Return when the verdicts are judged, for the head of a column."""
    epochs = list(dict.fromkeys(verdict.when for verdict in verdicts))
    return " or ".join([epochs[0], *(each.removeprefix("epoch ") for each in epochs[1:])])


def _verdict_id(verdict: Verdict) -> str:
    return f"claim-{verdict.name}-{slug(verdict.when, squeeze=True)}"


def _numbers(summary: Summary) -> dict[str, Any]:
    return {
        "note": numbers_note(summary),
        "heads": [head.format(epoch=summary.study.epochs) for head in NUMBERS_HEADS],
        "lines": numbers_lines(summary),
    }
