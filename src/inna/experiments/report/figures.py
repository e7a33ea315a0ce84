"""The figures of a report: interactive in the page, still in PNG and SVG.

`figures` turns a `Summary` into figures of panels. A panel draws itself for a theme, interactive or still.
"""

from __future__ import annotations

import math

from inna.experiments.charts.drawing import (
    Channels,
    Drawing,
    Figure,
    Panel,
    Rows,
    log_axis,
    names_axis,
    spread_tooltip,
    value_scale,
)
from inna.experiments.charts.themes import Theme
from inna.experiments.formatting import plain, slug
from inna.experiments.report.curves import contender_styles, curve_figure, curve_points, guard_figures
from inna.experiments.report.sentences import measure_name
from inna.experiments.report.tuning_figure import tuning_figure
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.intervals import spread
from inna.experiments.statistics.summary import Summary

__all__ = [
    "figures",
]


def figures(summary: Summary) -> list[Figure]:
    """Return the figures that the rows allow, in the order of the page."""
    reference = plain(summary.study.reference)
    found = [
        Figure(
            name=f"final-{_name(measure, position)}",
            section="summary",
            title=f"Final {measure_name(measure)}",
            caption=f"Each symbol is a seed, the bar their mean, the dashed line {reference}’s mean."
            + (" ▷ or ◁ at the edge: diverged or did not train." if _lost(summary) else ""),
            panels=(_final_panel(summary, measure),),
        )
        for position, measure in enumerate(summary.measures[:2])
        if any(entry.values(measure.name) for entry in summary.entries)
    ]
    for position, measure in enumerate([*summary.measures[:2], Metric("test_loss", "min"), *summary.measures[2:]]):
        points, step = curve_points(summary, measure)
        if points:
            found.append(curve_figure(summary, measure, points, step, _name(measure, position)))
    found += guard_figures(summary)
    if any(entry.tuning for entry in summary.entries):
        found.append(tuning_figure(summary))
    if any(entry.reach for entry in summary.entries):
        found.append(_reach_figure(summary))
    return found


def _lost(summary: Summary) -> bool:
    """Return whether any final run diverged or did not train."""
    return any(entry.diverged or entry.untrained for entry in summary.entries)


def _final_panel(summary: Summary, measure: Metric) -> Panel:
    rows: Rows = [
        {"contender": entry.label, "seed": seed, "value": value}
        for entry in summary.entries
        for seed, value in entry.values(measure.name).items()
    ]
    means: Rows = [
        {"contender": entry.label, "mean": values.mean, "best": values.best, "worst": values.worst}
        for entry in summary.entries
        if (values := summary.spread(entry, measure)) is not None
    ]
    reference = [row for row in means if row["contender"] == summary.study.reference]
    name = measure_name(measure)
    edge = _edge(measure, [row["value"] for row in rows])
    lost: Rows = [
        {"contender": entry.label, "seed": seed, "value": edge, "reading": reading}
        for entry in summary.entries
        for seeds, reading in ((entry.diverged, "diverged"), (entry.untrained, "did not train"))
        for seed in seeds
    ]

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(contender_styles(summary), theme, interactive)
        scale, kind = value_scale(measure, [row["value"] for row in (*rows, *lost)], padding=12)
        axis = log_axis() if kind else alt.Axis(tickCount=6)
        x = alt.X("value", type="quantitative", scale=scale, title=name + kind, axis=axis)
        y = alt.Y("contender", type="nominal", sort=channels.labels, title=None, axis=names_axis())
        seeds = (
            channels.data(rows)
            .mark_point(filled=True, size=60)
            .encode(
                x=x,
                y=y,
                color=channels.color(),
                shape=channels.shape(),
                opacity=channels.opacity(0.75),
                tooltip=[
                    alt.Tooltip("contender", type="nominal", title="optimizer"),
                    alt.Tooltip("seed", type="nominal"),
                    alt.Tooltip("value", type="quantitative", title=name, format=".4~g"),
                ],
            )
        )
        mean = (
            channels.data(means)
            .mark_tick(thickness=2.5, size=20)
            .encode(
                x=alt.X("mean", type="quantitative", scale=scale),
                y=y,
                color=channels.color(),
                opacity=channels.opacity(),
                tooltip=spread_tooltip(name),
            )
        )
        rule = (
            channels.fixed(reference)
            .mark_rule(strokeDash=[3, 3], color=theme.muted, opacity=0.7)
            .encode(x=alt.X("mean", type="quantitative", scale=scale))
        )
        beyond = (
            channels.data(lost)
            .mark_point(filled=False, size=70, strokeWidth=1.6)
            .encode(
                x=x,
                y=y,
                color=channels.color(),
                shape=alt.ShapeValue("triangle-right" if measure.goal == "min" else "triangle-left"),
                opacity=channels.opacity(),
                tooltip=[
                    alt.Tooltip("contender", type="nominal", title="optimizer"),
                    alt.Tooltip("seed", type="nominal"),
                    alt.Tooltip("reading", type="nominal", title=name),
                ],
            )
        )
        return channels.finish(rule, mean, seeds, *([beyond] if lost else []))

    return Panel("", draw, height=30 * len(summary.entries))


def _edge(measure: Metric, values: list[float]) -> float:
    """Return where seeds without a number are drawn: beyond the worst value."""
    low, high = min(values), max(values)
    if measure.name.endswith("_loss") and low > 0:
        return high * max(math.pow(high / low, 0.08), 1.2)
    margin = 0.08 * (high - low) or 0.01 * abs(high) or 1.0
    return high + margin if measure.goal == "min" else low - margin


def _reach_figure(summary: Summary) -> Figure:
    reference = plain(summary.study.reference)
    return Figure(
        name="time-to-reference",
        section="time",
        title=f"Time to {reference}’s best training loss",
        caption=f"Each symbol is when a seed first has at most {reference}’s lowest training loss on that seed, the "
        "bar the mean of the seeds that reach it. ▷: not reached.",
        panels=(_reach_panel(summary, "epochs"), _reach_panel(summary, "seconds")),
    )


def _reach_panel(summary: Summary, unit: str) -> Panel:
    known = [
        (entry.label, seed, getattr(reach, unit)) for entry in summary.entries for seed, reach in entry.reach.items()
    ]
    values = [value for _, _, value in known if value is not None and math.isfinite(value)]
    end = float(summary.study.epochs) if unit == "epochs" else max(values, default=1.0)
    beyond = end * 1.08
    rows: Rows = [
        {
            "contender": label,
            "seed": seed,
            "value": beyond if value is None else value,
            "reading": "not reached" if value is None else f"{value:.4g}",
            "reached": value is not None,
        }
        for label, seed, value in known
        if value is None or math.isfinite(value)
    ]
    means: Rows = []
    for entry in summary.entries:
        reached = spread((value for label, _, value in known if label == entry.label and value is not None), "min")
        if reached is not None and math.isfinite(reached.mean):
            means.append({"contender": entry.label, "mean": reached.mean, "low": reached.best, "high": reached.worst})

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(contender_styles(summary), theme, interactive)
        scale = alt.Scale(domain=[0, beyond * 1.02], nice=False)
        title = "epochs" if unit == "epochs" else "seconds of training"
        x = alt.X("value", type="quantitative", scale=scale, title=title, axis=alt.Axis(tickMinStep=1, tickCount=6))
        y = alt.Y("contender", type="nominal", sort=channels.labels, title=None, axis=names_axis(grid=False))
        tooltip = [
            alt.Tooltip("contender", type="nominal", title="optimizer"),
            alt.Tooltip("seed", type="nominal"),
            alt.Tooltip("reading", type="nominal", title=title),
        ]
        mean = alt.X("mean", type="quantitative", scale=scale)
        bars = (
            channels.data(means)
            .mark_bar(height=7, cornerRadius=3)
            .encode(x=mean, y=y, color=channels.color(), opacity=channels.opacity(0.35))
        )
        ticks = (
            channels.data(means)
            .mark_tick(thickness=2.5, size=20)
            .encode(x=mean, y=y, color=channels.color(), opacity=channels.opacity())
        )
        reached = (
            channels.data([row for row in rows if row["reached"]])
            .mark_point(filled=True, size=60)
            .encode(
                x=x,
                y=y,
                color=channels.color(),
                shape=channels.shape(),
                opacity=channels.opacity(0.8),
                tooltip=tooltip,
            )
        )
        missed = (
            channels.data([row for row in rows if not row["reached"]])
            .mark_point(filled=False, size=70, strokeWidth=1.6, shape="triangle-right")
            .encode(x=x, y=y, color=channels.color(), opacity=channels.opacity(), tooltip=tooltip)
        )
        return channels.finish(bars, ticks, reached, missed)

    return Panel(f"In {unit}", draw, height=30 * len(summary.entries))


def _name(measure: Metric, position: int) -> str:
    """Return the letters and digits of the measure for a file name.

    Its position, if there are none.
    """
    name = "training-loss" if measure.name == "train_loss" else measure.name
    part = slug(name, squeeze=True).lower()
    return part if part not in ("", "test") else f"measure-{position}"
