"""Learning curves of a study as figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from inna.experiments.charts.curves import curve_panel
from inna.experiments.charts.drawing import Figure, Rows
from inna.experiments.charts.themes import Style, assign
from inna.experiments.formatting import slug
from inna.experiments.report.sentences import measure_name
from inna.experiments.rows.results import Result, finished, history, number, trained
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import Summary
from inna.experiments.study.study import Study

__all__ = [
    "MAX_POINTS",
    "breaks",
    "contender_styles",
    "curve_figure",
    "curve_points",
    "guard_figures",
    "styles",
    "zoom",
]


# Panels with more points show only every n-th epoch; the caption states it.
MAX_POINTS = 4000


def contender_styles(summary: Summary) -> dict[str, Style]:
    """Return the styles of the optimizers, in the order of the table."""
    chosen = styles(summary.study)
    return {entry.label: chosen[entry.label] for entry in summary.entries}


def curve_points(summary: Summary, measure: Metric, *, as_compared: bool = True) -> tuple[Rows, int]:
    """Return mean, best and worst of every step-th epoch, and the step.

    Args:
        summary: of the study.
        measure: what is drawn.
        as_compared: over the runs that trained, the mean geometric where ratios are compared. Else over all that
            finished, the mean arithmetic.
    """
    step = max(1, math.ceil(len(summary.entries) * (summary.study.epochs + 1) / MAX_POINTS))
    rows: Rows = []
    geometric = as_compared and summary.ratios(measure)
    counts = trained if as_compared else finished
    for entry in summary.entries:
        by_epoch: dict[int, list[float]] = {}
        drawn = [result for _, result in entry.finals.values() if counts(result)]
        for result in drawn:
            for measured in history(result):
                by_epoch.setdefault(int(measured["epoch"]), []).append(number(measured.get(measure.name)))
        elsewhere = _steps_and_seconds(drawn, summary.study.epochs)
        for epoch, values in sorted(by_epoch.items()):
            on_grid = epoch % step == 0 or epoch == summary.study.epochs
            known = [value for value in values if math.isfinite(value)]
            values_there = spread(known, measure.goal, geometric=geometric and min(known, default=0.0) > 0)
            if on_grid and values_there is not None:
                rows.append(
                    {
                        "contender": entry.label,
                        "epoch": epoch,
                        "mean": values_there.mean,
                        "best": values_there.best,
                        "worst": values_there.worst,
                        **elsewhere.get(epoch, {}),
                    }
                )
    return rows, step


def _steps_and_seconds(results: Sequence[Result], epochs: int) -> dict[int, dict[str, float]]:
    """Return epoch -> the mean steps and seconds of training until then."""
    found: dict[int, dict[str, float]] = {}
    steps = [number(result.get("iterations")) for result in results]
    seconds = [list(accumulate(number(each.get("seconds")) for each in history(result)[1:])) for result in results]
    for epoch in range(epochs + 1):
        found[epoch] = {"step": epoch / epochs * math.fsum(steps) / len(steps)} if steps else {}
        spent = [0.0 if epoch == 0 else each[epoch - 1] for each in seconds if len(each) >= epoch]
        if spent:
            found[epoch]["seconds"] = math.fsum(spent) / len(spent)
    return {
        epoch: {unit: value for unit, value in each.items() if math.isfinite(value)} for epoch, each in found.items()
    }


def breaks(summary: Summary, measure: Metric) -> Rows:
    """Return the last measured point of every diverged final run."""
    rows: Rows = []
    for entry in summary.entries:
        for seed in entry.diverged:
            known = [
                (int(epoch["epoch"]), number(epoch.get(measure.name)))
                for epoch in history(entry.finals[seed][1])
                if math.isfinite(number(epoch.get(measure.name)))
            ]
            if known:
                rows.append({"contender": entry.label, "seed": seed, "epoch": known[-1][0], "mean": known[-1][1]})
    return rows


def curve_figure(summary: Summary, measure: Metric, points: Rows, step: int, slug: str) -> Figure:
    """Return the figure of the curves that `curve_points` gave."""
    broken, domain = breaks(summary, measure), zoom(measure, points)
    caption = "Line: mean over the final seeds; band: best to worst."
    if any(entry.untrained for entry in summary.entries):
        caption += " Seeds that did not train are left out."
    if broken:
        caption += " ×: a seed diverged after this epoch; mean and band are over the other seeds."
    if step > 1:
        caption += f" One epoch in {step} is drawn; the download contains all."
    if domain:
        caption += " The first epochs are outside the axis."
    return Figure(
        name=f"curves-{slug}",
        section="curves",
        title=measure_name(measure).capitalize(),
        caption=caption,
        panels=(
            curve_panel(
                contender_styles(summary),
                measure_name(measure),
                points,
                log=measure.name.endswith("_loss"),
                breaks=broken,
                domain=domain,
            ),
        ),
    )


def guard_figures(summary: Summary) -> list[Figure]:
    """Return the figures of the guard; none if no final run has one.

    They are the share of steps that it shortened, and the learning rate after it.
    """
    found = []
    for name, title, reading in (
        (
            "guarded_share",
            "share of steps shortened so far",
            "Near 1, the learning rate (γ) is far above what the loss allows.",
        ),
        ("last_lr", "learning rate after the guard", "That of the last step of each epoch."),
    ):
        points, step = curve_points(summary, Metric(name, "max"), as_compared=False)
        points = [row for row in points if row["epoch"] > 0]  # before the first step both are 0
        if points:
            panel = curve_panel(contender_styles(summary), title, points, log=name == "last_lr")
            caption = f"{reading} Line: mean over the final seeds; band: lowest to highest."
            if step > 1:
                caption += f" One epoch in {step} is drawn; the download contains all."
            found.append(Figure(f"guard-{slug(name)}", "curves", title.capitalize(), caption, (panel,)))
    return found


def zoom(measure: Metric, points: Rows) -> tuple[float, float] | None:
    """Return the ends of an axis without the first epochs, or None for all.

    The first epochs would squeeze all others.

    The axis excludes values worse than four fifths of the means and than every final value, if these take at least
    three tenths of the range and others remain apart.
    """
    if measure.name.endswith("_loss"):
        return None
    values = [row[end] for row in points for end in ("best", "worst")]
    last = max(row["epoch"] for row in points)
    ends = [row["worst"] for row in points if row["epoch"] == last]
    worst_first = sorted((row["mean"] for row in points), reverse=measure.goal == "min")
    limit, low, high = worst_first[len(worst_first) // 5], min(values), max(values)
    limit = min(limit, *ends) if measure.goal == "max" else max(limit, *ends)
    hidden = limit - low if measure.goal == "max" else high - limit
    if hidden < 0.3 * (high - low) or math.isclose(hidden, high - low):
        return None
    margin = 0.03 * (high - low - hidden)
    return (limit, high + margin) if measure.goal == "max" else (low - margin, limit)


def styles(study: Study) -> dict[str, Style]:
    """Return label -> style."""
    return assign([(contender.label, contender.optimizer) for contender in study.contenders])
