"""The page of a report: one file with its charts, its JavaScript and its rows."""

from __future__ import annotations

import dataclasses
from string import Template

from inna.experiments.charts.html import text
from inna.experiments.charts.page import (
    figure_markup,
    legend,
    navigation,
    page_with_charts,
    resource,
)
from inna.experiments.formatting import count, percent
from inna.experiments.report.curves import contender_styles
from inna.experiments.report.figures import figures
from inna.experiments.report.results_table import results_heads, results_lines
from inna.experiments.report.sections import (
    cards,
    diverged_runs,
    footer,
    lead,
    method,
    provenance,
    verdicts,
    warnings_box,
)
from inna.experiments.rows.documents import row_document
from inna.experiments.rows.results import finished
from inna.experiments.statistics.intervals import CONFIDENCE
from inna.experiments.statistics.read import Results

__all__ = ["build_page"]


def build_page(results: Results) -> str:
    """Return the page as HTML; the notes of ``results`` are shown first."""
    study, summary = results.study, results.summary
    rows, drawn = summary.rows(), figures(summary)
    styles = contender_styles(summary)
    lost = sum(not finished(result) for _, result in rows)
    sections = {
        "results": "Results",
        "curves": "Curves",
        "tuning": "Step sizes",
        "time": "Time",
        "diverged": f"Diverged runs ({lost})",
        "settings": "How it was made",
        "method": "Method",
    }
    body = Template(resource("page.html", "inna.experiments.report")).substitute(
        heading=text(f"{study.dataset}: which optimizer trains best?"),
        lead=text(lead(summary)),
        navigation=navigation(sections),
        cards=cards(summary),
        summary_figures=figure_markup(drawn, "summary", titled=True),
        warnings=warnings_box(summary, results.notes),
        reference=text(study.reference),
        confidence=text(percent(CONFIDENCE)),
        heads=results_heads(summary),
        lines=results_lines(summary),
        verdicts=verdicts(summary),
        legend=legend(styles),
        curves=figure_markup(drawn, "curves", titled=True) or _absent("No final run is done yet."),
        tuning=figure_markup(drawn, "tuning") or _absent("No tuning run is done yet."),
        time=figure_markup(drawn, "time") or _absent("The reference has no finished final run yet."),
        diverged=diverged_runs(summary),
        settings=provenance(summary),
        method=method(summary),
        footer=text(footer(summary)),
    )
    return page_with_charts(
        f"{study.dataset}, {study.model}: {count(len(study.contenders), 'optimizer')} compared",
        body,
        styles,
        drawn,
        scripts=[resource("page.js", "inna.experiments.report")],
        data={"rows": {"study": dataclasses.asdict(study), "rows": [row_document(*row) for row in rows]}},
    )


def _absent(sentence: str) -> str:
    return f'<p class="note">{text(sentence)}</p>'
