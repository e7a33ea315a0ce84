"""Curves over the epochs: mean over the seeds, best and worst as a band, what diverged, and others' curves beside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from inna.experiments.charts.drawing import (
    Channels,
    Drawing,
    Figure,
    Panel,
    Rows,
    log_axis,
    log_scale,
    spread_tooltip,
)
from inna.experiments.charts.themes import Style, Theme, styles
from inna.experiments.report.sentences import measure_name
from inna.experiments.statistics.summary import Summary, finished, history, number, spread
from inna.experiments.study.study import Metric

__all__ = ["MAX_POINTS", "breaks", "contender_styles", "curve_figure", "curve_panel", "curve_points", "zoom"]

# More points than this in one panel are thinned, by whole epochs; the caption says so.
MAX_POINTS = 4000


def contender_styles(summary: Summary) -> dict[str, Style]:
    """Of the contenders, in the order of the table."""
    chosen = styles(summary.study)
    return {entry.label: chosen[entry.label] for entry in summary.entries}


def curve_points(summary: Summary, measure: Metric) -> tuple[Rows, int]:
    """Mean, best and worst an epoch over the final runs that finished, and which epochs are drawn (every step-th)."""
    step = max(1, math.ceil(len(summary.entries) * (summary.study.epochs + 1) / MAX_POINTS))
    rows: Rows = []
    for entry in summary.entries:
        by_epoch: dict[int, list[float]] = {}
        for _, result in entry.finals.values():
            if finished(result):
                for measured in history(result):
                    by_epoch.setdefault(int(measured["epoch"]), []).append(number(measured.get(measure.name)))
        for epoch, values in sorted(by_epoch.items()):
            drawn = epoch % step == 0 or epoch == summary.study.epochs
            values_there = spread((value for value in values if math.isfinite(value)), measure.goal)
            if drawn and values_there is not None:
                rows.append(
                    {
                        "contender": entry.label,
                        "epoch": epoch,
                        "mean": values_there.mean,
                        "best": values_there.best,
                        "worst": values_there.worst,
                    }
                )
    return rows, step


def breaks(summary: Summary, measure: Metric) -> Rows:
    """The last measured point of every final run that diverged."""
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
    broken, domain = breaks(summary, measure), zoom(measure, points)
    caption = "Line: mean over the final seeds; band: best to worst."
    if broken:
        caption += " ×: after this epoch a seed diverged; mean and band are over the others."
    if step > 1:
        caption += f" One epoch in {step} is drawn; the download holds them all."
    if domain:
        caption += " The first epochs lie outside the axis."
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


def zoom(measure: Metric, points: Rows) -> tuple[float, float] | None:
    """Ends of the axis of a metric whose first epochs would squeeze all others; None where the whole range is shown.

    Left out is what is worse than four fifths of the means and than every final value, as long as that is at least
    three tenths of the range.
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
    if hidden < 0.3 * (high - low):
        return None
    margin = 0.03 * (high - low - hidden)
    return (limit, high + margin) if measure.goal == "max" else (low - margin, limit)


def curve_panel(
    styles: Mapping[str, Style],
    name: str,
    points: Rows,
    *,
    log: bool = False,
    breaks: Rows | None = None,
    beside: Rows | None = None,
    domain: tuple[float, float] | None = None,
    title: str = "",
    note: str = "",
) -> Panel:
    """A panel of curves over the epochs: line the mean, band best to worst.

    Args:
        styles: who is drawn, and how.
        name: of what the curves show, for the axis.
        points: rows of contender, epoch, mean, best and worst.
        log: whether the axis is logarithmic.
        breaks: rows of contender, seed, epoch and mean: where a seed diverged.
        beside: rows of contender, epoch, mean and said: another's curves, dashed and thin; ``said`` tells whose.
        domain: the ends of the axis, where it shows less than everything.
        title, note: of the panel.
    """

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(styles, theme, interactive)
        limits: dict[str, Any] = {"domain": domain} if domain else {}
        values = [row[end] for row in points for end in ("best", "worst")]
        scale, kind = log_scale(values, nice=False, **limits) if log else (alt.Scale(zero=False, **limits), "")
        last = max(row["epoch"] for row in points)
        # A few epochs are named each: ticks between them would be rounded to labels that stand there twice.
        ticks = {"values": list(range(last + 1))} if last < 10 else {"tickMinStep": 1}
        x = alt.X(
            "epoch",
            type="quantitative",
            title="epoch",
            scale=alt.Scale(domain=[0, last], nice=False),
            axis=alt.Axis(grid=False, format="d", **ticks),
        )
        axis = log_axis() if kind else alt.Axis(tickCount=6)
        mean = alt.Y("mean", type="quantitative", scale=scale, title=name + kind, axis=axis)
        base = channels.data(points).encode(x=x, color=channels.color("stroke"))
        band = base.mark_area(stroke=None, clip=True).encode(
            y=alt.Y("best", type="quantitative", scale=scale), y2="worst", opacity=channels.opacity(0.1)
        )
        line = base.mark_line(strokeWidth=2, strokeJoin="round", clip=True).encode(
            y=mean, strokeDash=channels.dash("stroke"), opacity=channels.opacity()
        )
        layers = [band, line]
        if beside:
            layers.append(
                channels.data(beside)
                .mark_line(strokeWidth=1.5, strokeDash=[5, 3], strokeJoin="round", clip=True)
                .encode(
                    x=x,
                    y=mean,
                    color=channels.color("stroke"),
                    opacity=channels.opacity(0.85),
                    tooltip=[
                        alt.Tooltip("said", type="nominal", title="curve"),
                        alt.Tooltip("epoch", type="quantitative"),
                        alt.Tooltip("mean", type="quantitative", title=f"{name}, mean", format=".4~g"),
                    ],
                )
            )
        if breaks:
            layers.append(
                channels.data(breaks)
                .mark_point(shape="cross", angle=45, size=90, filled=True, opacity=1, clip=domain is not None)
                .encode(
                    x=x,
                    y=mean,
                    color=channels.color("stroke"),
                    tooltip=[
                        alt.Tooltip("contender", type="nominal", title="optimizer"),
                        alt.Tooltip("seed", type="nominal", title="diverged seed"),
                        alt.Tooltip("epoch", type="quantitative", title="last whole epoch"),
                    ],
                )
            )
        if interactive:
            near = alt.selection_point(name="near", on="pointerover", nearest=True, empty=False, clear="pointerout")
            layers.append(
                base.mark_point(filled=True, size=70, stroke=theme.background, strokeWidth=1, clip=domain is not None)
                .encode(
                    y=mean,
                    opacity=alt.condition(near, alt.value(1), alt.value(0)),
                    tooltip=[
                        alt.Tooltip("contender", type="nominal", title="optimizer"),
                        alt.Tooltip("epoch", type="quantitative"),
                        *spread_tooltip(name)[1:],
                    ],
                )
                .add_params(near)
            )
        return channels.finish(*layers)

    return Panel(title, draw, height=340, note=note)
