"""The page of a comparison.

One file with its charts, its JavaScript and its rows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from inna.experiments.charts.page import chart_page, resource
from inna.experiments.formatting import count, percent
from inna.experiments.report.curves import contender_styles
from inna.experiments.report.figures import figures
from inna.experiments.report.recipe import Recipe, recipe
from inna.experiments.report.results_table import Line, comparisons, has_untuned, lines
from inna.experiments.report.sections import (
    cards,
    diverged_runs,
    footer,
    lead,
    optimizer_facts,
    run_facts,
    verdicts,
    warnings,
)
from inna.experiments.report.sentences import WIDTH_NAME, measure_name, method_notes
from inna.experiments.rows.documents import row_document
from inna.experiments.rows.results import finished
from inna.experiments.statistics.intervals import CONFIDENCE
from inna.experiments.statistics.read import Results
from inna.experiments.statistics.summary import Summary

__all__ = ["build_page"]


def build_page(results: Results) -> str:
    """Return the page as HTML; the notes of ``results`` are shown first."""
    study, summary = results.study, results.summary
    rows = summary.rows()
    lost = sum(not finished(result) for _, result in rows)
    return chart_page(
        "experiments/report/report.html",
        title=f"{study.dataset}, {study.model}: {count(len(study.contenders), 'optimizer')} compared",
        styles=contender_styles(summary),
        figures=figures(summary),
        scripts=[resource("experiments/report/page.js")],
        data={
            "comparisons": _comparisons(summary),
            "rows": {"study": dataclasses.asdict(study), "rows": [row_document(*row) for row in rows]},
        },
        heading=f"{study.dataset}: which optimizer trains best?",
        lead=lead(summary),
        sections={
            "results": "Results",
            "recipe": "Recipe",
            "curves": "Curves",
            "tuning": "Learning rates",
            "time": "Time",
            "diverged": f"Diverged runs ({lost})",
            "settings": "Setup",
            "method": "Method",
        },
        cards=cards(summary),
        recipes=_recipes(summary),
        warnings=warnings(summary, results.notes),
        reference=study.reference,
        labels=[entry.label for entry in summary.entries],
        ratios=any(summary.ratios(measure) for measure in summary.measures),
        confidence=percent(CONFIDENCE),
        heads=_heads(summary),
        lines=_sorted_lines(summary),
        verdicts=verdicts(summary),
        diverged=diverged_runs(summary),
        runs=run_facts(summary),
        optimizers=optimizer_facts(summary),
        method=method_notes(summary),
        footer=footer(summary),
    )


def _recipes(summary: Summary) -> list[tuple[Recipe, str]]:
    """Return the recipes, each with what its optimizer wins; the winners first."""
    won: dict[str, list[str]] = {}
    for card in cards(summary):
        for label in card.labels:
            won.setdefault(label, []).append(card.what.lower())
    found = [
        (each, " and ".join(won.get(entry.label, ()))) for entry in summary.entries if (each := recipe(summary, entry))
    ]
    return sorted(found, key=lambda pair: not pair[1])


def _comparisons(summary: Summary) -> dict[str, dict[str, list[Sequence[str | float | None]]]]:
    """Return reference -> label -> per measure.

    Mean, interval, comparison, and the number to sort by (None: none).
    """
    chosen = {entry.label: None if entry is summary.reference else entry for entry in summary.entries}
    return {
        reference: {
            label: [
                (cell.mean, cell.interval, cell.comparison, None if math.isnan(cell.value) else cell.value)
                for cell in (cells[label] for cells in per_measure)
            ]
            for label in per_measure[0]
        }
        for reference, entry in chosen.items()
        if (per_measure := [comparisons(summary, measure, entry) for measure in summary.measures])
    }


def _heads(summary: Summary) -> list[tuple[str, str, bool]]:
    """Return the heads of the table.

    Each with the direction of its first sorting, and whether it is shown on demand only.
    """
    reference = summary.study.reference
    heads = [("Optimizer", "ascending", False)]
    for position, measure in enumerate(summary.measures):
        first = "ascending" if measure.goal == "min" else "descending"
        heads.append((measure_name(measure).capitalize(), first, position > 1))
        heads.append(("Compared with the reference", first, position > 0))
    if has_untuned(summary):
        heads.append(("Training loss, untuned", "ascending", False))
    return [
        *heads,
        ("Learning rate (γ), schedule", "ascending", False),
        (f"Epochs to {reference}’s best", "ascending", True),
        (WIDTH_NAME, "descending", True),
        ("Seconds per epoch", "ascending", True),
        ("State B/param.", "ascending", True),
        ("Total epochs", "ascending", True),
    ]


def _sorted_lines(summary: Summary) -> list[Line]:
    """Return the lines by training loss, those without one last."""

    def mean_loss(line: Line) -> float:
        loss = line.measures[0].value
        return math.inf if math.isnan(loss) else loss

    return sorted(lines(summary), key=mean_loss)
