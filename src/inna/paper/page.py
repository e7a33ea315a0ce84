"""The page of a reproduction: the verdicts, the paper's figures redrawn, its numbers beside ours."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from string import Template

import inna
from inna.experiments.charts.html import line_key, scrolling_table, text
from inna.experiments.charts.page import (
    figure_markup,
    legend,
    navigation,
    page_with_charts,
    resource,
)
from inna.experiments.formatting import slug
from inna.experiments.report.sections import footer, run_facts, warnings_box
from inna.experiments.rows.documents import row_document
from inna.experiments.statistics.summary import Summary
from inna.files import write_whole
from inna.paper.figures import protocol_styles
from inna.paper.reproduction import Reproduction, read_reproduction
from inna.paper.verdicts import Verdict
from inna.paper.words import (
    NUMBERS_HEADS,
    lead,
    numbers_lines,
    numbers_note,
    paper_words,
    rules,
    tally,
)

__all__ = [
    "PAGE",
    "build_reproduction_page",
    "write_reproduction",
]

SECTIONS = {
    "figure1": "Figure 1: a valley with kinks",
    "figure2": "Figure 2: the four (α, β)",
    "figure3": "Figure 3: INNA, SGD, AdaGrad and Adam",
    "figure4": "Figure 4: slower decays",
    "beyond": "Beyond the paper",
}
BADGES = {"holds": "good", "does not hold": "bad", "not enough runs": "open"}


def build_reproduction_page(reproduction: Reproduction, *, has_report: bool) -> str:
    """The page as HTML; with ``has_report`` it points to report.html beside it, which shows tuning and times."""
    summary, drawn = reproduction.summary, reproduction.figures
    styles = protocol_styles(summary.study) if summary else {}
    shown = {figure.section for figure in drawn}
    sections = {
        "verdicts": "Verdicts",
        **{name: title.split(":")[0] for name, title in SECTIONS.items() if name in shown},
        **({"numbers": "Numbers"} if summary else {}),
        "settings": "How it was made",
        "method": "How it is judged",
    }
    subject = f"{summary.study.dataset}, {summary.study.model}" if summary else "Figure 1"
    body = Template(resource("page.html", "inna.paper")).substitute(
        heading=text(f"{subject}: do the paper’s claims hold?"),
        lead=text(lead(summary)),
        navigation=navigation(sections),
        warnings=warnings_box(summary, reproduction.notes) if summary else "",
        verdicts=_verdicts(reproduction),
        legend=legend(styles),
        figures_markup="".join(
            f'<section id="{name}"><h2>{text(title)}</h2>'
            f"{figure_markup(drawn, name, titled=name == 'figure1')}</section>"
            for name, title in SECTIONS.items()
            if name in shown
        ),
        numbers=_numbers(summary) if summary else "",
        settings=_settings(summary, has_report),
        method="".join(f"<p>{text(rule)}</p>" for rule in rules()),
        footer=text(footer(summary) if summary else f"Made by inna {inna.__version__}. One file, which loads nothing."),
    )
    return page_with_charts(
        f"{subject}: the paper’s experiments, run again",
        body,
        styles,
        drawn,
        scripts=[resource("page.js", "inna.experiments.report")],
        data={
            "rows": {
                "study": dataclasses.asdict(summary.study) if summary else None,
                "rows": [row_document(*row) for row in summary.rows()] if summary else [],
                "figure1": [dataclasses.asdict(descent) for descent in reproduction.descents],
            },
        },
    )


def _verdicts(reproduction: Reproduction) -> str:
    parts = []
    groups: list[tuple[str, Sequence[Verdict]]] = [("On the rows of this folder", reproduction.verdicts)]
    for when in dict.fromkeys(verdict.when for verdict in reproduction.figure1_verdicts):
        members = [verdict for verdict in reproduction.figure1_verdicts if verdict.when == when]
        groups.append((f"On Figure 1, {when}", members))
    for title, verdicts in groups:
        if verdicts:
            items = "".join(_verdict(verdict) for verdict in verdicts)
            parts.append(
                f'<h3>{text(title)}</h3><p class="note">{text(tally(verdicts))}</p>'
                f'<div class="stack claims">{items}</div>'
            )
    return "".join(parts)


def _verdict(verdict: Verdict) -> str:
    lines = [
        f'<tr><th scope="row">{text(number.what)}</th><td class="number">{text(number.ours or "–")}</td>'
        f'<td class="number">{text(number.paper)}</td></tr>'
        for number in verdict.numbers
    ]
    table = scrolling_table(f"Numbers of: {verdict.statement}", ["", "here", "the paper"], lines, numbers=[1, 2])
    paper = f", where by the same rule the paper’s curves say: {verdict.paper}" if verdict.paper else ""
    return (
        f'<details id="claim-{text(verdict.name)}-{slug(verdict.when, squeeze=True)}"><summary>'
        f'<span class="badge {BADGES[verdict.outcome]}">{text(verdict.outcome)}</span> '
        f'<span class="claim">{text(verdict.statement)}</span> '
        f'<span class="hint">{text(verdict.source)}; judged at {text(verdict.when)}{text(paper)}</span></summary>'
        f"<p>{text(verdict.sentence)}</p>{table if lines else ''}"
        f'<p class="note">{text(paper_words(verdict))}</p></details>'
    )


def _numbers(summary: Summary) -> str:
    styles = protocol_styles(summary.study)
    positions = {label: position for position, label in enumerate(styles)}
    lines = [
        f'<tr><th scope="row"><span class="name">{line_key(positions[label], styles[label])}<span>{text(label)}</span>'
        f"</span></th>{''.join(_cell(cell) for cell in cells)}</tr>"
        for label, *cells in numbers_lines(summary)
    ]
    heads = [head.format(epoch=summary.study.epochs) for head in NUMBERS_HEADS]
    table = scrolling_table("Numbers", heads, lines, numbers=range(1, len(heads)))
    return f'<section id="numbers"><h2>Numbers</h2><p class="note">{text(numbers_note(summary))}</p>{table}</section>'


def _cell(words: str) -> str:
    mean, *rest = words.split(" ", 1)
    small = f"<small>{text(rest[0])}</small>" if rest else ""
    return f'<td class="number">{text(mean)}{small}</td>'


def _settings(summary: Summary | None, has_report: bool) -> str:
    if summary is None:
        return (
            '<p class="note">inna reproduce fig1</p><p><button type="button" class="button" id="download" '
            'data-name="inna-figure-1.json">Download the descents (JSON)</button></p>'
        )
    link = (
        '<p>Step sizes, times and diverged runs are in <a href="report.html">report.html</a> beside this page.</p>'
        if has_report
        else ""
    )
    return link + run_facts(summary)


PAGE = "reproduction.html"


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
    path = reproduction.folder / PAGE
    write_whole(path, build_reproduction_page(reproduction, has_report=reproduction.summary is not None).encode())
    return path
