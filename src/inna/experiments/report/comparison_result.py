"""A finished comparison, as Python and notebooks get it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inna.checks import did_you_mean
from inna.experiments.charts.drawing import still
from inna.experiments.charts.themes import LIGHT
from inna.experiments.formatting import enumerate_words
from inna.experiments.report.curves import curve_figure, curve_points
from inna.experiments.report.page import build_page
from inna.experiments.report.recipe import recipe
from inna.experiments.report.results_table import lines, records
from inna.experiments.report.sentences import measure_name
from inna.experiments.report.terminal import print_table, sentences
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.read import Results
from inna.experiments.statistics.summary import TRAIN_LOSS, Summary
from inna.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "report_document"]

PAGE_WIDTH = 100


def report_document(results: Results) -> dict[str, Any]:
    """Return the table of a report and its sentences as plain values, for JSON."""
    study, summary = results.study, results.summary
    return {
        "dataset": study.dataset,
        "model": study.model,
        "reference": study.reference,
        "epochs": study.epochs,
        "seeds": list(study.seeds),
        "measures": {measure.name: measure.goal for measure in summary.measures},
        "optimizers": records(summary),
        "verdict": list(sentences(summary)),
        "notes": list(results.notes),
    }


@dataclass(frozen=True, repr=False, eq=False)
class Comparison:
    """The result of `inna.experiments.compare`.

    It prints as the table and the sentences of ``inna compare``; a notebook shows them as HTML.

    Attributes:
        results: the study, its rows and their statistics.
        rows: one line per run, as `inna.experiments.load_rows` returns them.
    """

    results: Results
    rows: pd.DataFrame

    @property
    def _summary(self) -> Summary:
        return self.results.summary

    @property
    def best(self) -> str:
        """The label of the optimizer with the lowest mean training loss.

        Several labels if their means are equal; "" if none trained on every seed. `verdict` says whether its lead is
        significant.
        """
        return enumerate_words([entry.label for entry in self._summary.winners(TRAIN_LOSS)])

    @property
    def verdict(self) -> str:
        """The sentences below the table: who leads, and whether the lead is significant."""
        return "\n".join(sentences(self._summary))

    @property
    def code(self) -> str:
        """Code that makes the best optimizer with its tuned settings.

        "" without a single best one.
        """
        winners = self._summary.winners(TRAIN_LOSS)
        found = recipe(self._summary, winners[0]) if len(winners) == 1 else None
        return found.code if found else ""

    @property
    def table(self) -> pd.DataFrame:
        """One line per optimizer, the lowest training loss first.

        Means over the final seeds (``train_loss``, ``test_...``) with their worst and best, the chosen learning rate
        and schedule, and the cost.
        """
        import pandas as pd

        frame = pd.DataFrame(records(self._summary))
        return frame.sort_values("train_loss", kind="stable", na_position="last", ignore_index=True)

    def plot(self, measure: str = "train_loss") -> Any:
        """Return an Altair chart of the learning curves.

        Args:
            measure: "train_loss", "test_loss", or a metric of the task as "test_NAME".

        Raises:
            ValueError: there is no such measure, or no run has it.
        """
        import altair as alt

        known = {each.name: each for each in (*self._summary.measures, Metric("test_loss", "min"))}
        if measure not in known:
            raise ValueError(
                f"measure must be one of {', '.join(known)}; got {measure!r}{did_you_mean(measure, list(known))}"
            )
        points, step = curve_points(self._summary, known[measure])
        if not points:
            raise ValueError(f"no run has a finite {measure_name(known[measure])}")
        figure = curve_figure(self._summary, known[measure], points, step, "plot")
        return alt.Chart.from_dict(still(figure, LIGHT))

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the page with tables, curves and rows, and return its path.

        Args:
            path: the file, or an existing folder for report.html in it.
        """
        path = Path(path)
        if path.is_dir():
            path = path / "report.html"
        write_whole(path, build_page(self.results).encode())
        return path

    def __repr__(self) -> str:
        from rich.console import Console

        text = io.StringIO()
        print_table(self._summary, Console(file=text, width=PAGE_WIDTH))
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        measures = self._summary.measures[:2]
        heads = ["optimizer", *map(measure_name, measures), "learning rate (γ)", "schedule", "seconds per epoch"]
        order = {label: place for place, label in enumerate(self.table["optimizer"])}
        body = []
        for line in sorted(lines(self._summary), key=lambda each: order[each.label]):
            cells = [f"{cell.mean} {cell.ends}".rstrip() for cell in line.measures[: len(measures)]]
            cells = [line.label, *cells, line.tuned.lr, line.tuned.schedule, line.cost.seconds_per_epoch]
            body.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
        head = "".join(f"<th>{escape(each)}</th>" for each in heads)
        rows = "".join(f"<tr>{each}</tr>" for each in body)
        words = "".join(f"<p>{escape(each)}</p>" for each in sentences(self._summary))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{words}"
