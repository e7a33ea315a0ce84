"""The figures of a report, in one grammar: interactive in the page, still in PNG and SVG.

`figures` turns a `Summary` into figures; each holds panels, and a panel draws itself for a theme, interactive or still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from inna.experiments.charts.curves import contender_styles, curve_figure, curve_points
from inna.experiments.charts.drawing import (
    Channels,
    Drawing,
    Figure,
    Panel,
    Rows,
    log_axis,
    log_scale,
    names_axis,
    spread_tooltip,
    value_scale,
)
from inna.experiments.charts.themes import Theme
from inna.experiments.report.sentences import count, initial_loss, measure_name, plain, schedule
from inna.experiments.rows.row_files import Run
from inna.experiments.statistics.summary import Entry, Summary, finished, number, spread
from inna.experiments.study.study import Metric

__all__ = ["figures"]

# A tuning loss above this many times the loss before training is drawn in the strip above the axis.
CEILING = 3.0


def figures(summary: Summary) -> list[Figure]:
    """Every figure that the rows allow, in the order of the page."""
    found = [
        Figure(
            name=f"final-{_slug(measure, position)}",
            section="summary",
            title=f"Final {measure_name(measure)}",
            caption=f"A symbol a seed, the line their mean; dashed, the mean of {plain(summary.study.reference)}.",
            panels=(_final_panel(summary, measure),),
        )
        for position, measure in enumerate(summary.measures[:2])
        if any(entry.values(measure.name) for entry in summary.entries)
    ]
    for position, measure in enumerate([*summary.measures[:2], Metric("test_loss", "min"), *summary.measures[2:]]):
        points, step = curve_points(summary, measure)
        if points:
            found.append(curve_figure(summary, measure, points, step, _slug(measure, position)))
    if any(entry.tuning for entry in summary.entries):
        found.append(_tuning_figure(summary))
    if any(entry.reach for entry in summary.entries):
        found.append(_reach_figure(summary))
    return found


def _final_panel(summary: Summary, measure: Metric) -> Panel:
    rows: Rows = [
        {"contender": entry.label, "seed": seed, "value": value}
        for entry in summary.entries
        for seed, value in entry.values(measure.name).items()
    ]
    means: Rows = [
        {"contender": entry.label, "mean": values.mean, "best": values.best, "worst": values.worst}
        for entry in summary.entries
        if (values := spread(entry.values(measure.name).values(), measure.goal)) is not None
    ]
    reference = [row for row in means if row["contender"] == summary.study.reference]
    name = measure_name(measure)

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(contender_styles(summary), theme, interactive)
        scale, kind = value_scale(measure, [row["value"] for row in rows], padding=12)
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
        return channels.finish(rule, mean, seeds)

    return Panel("", draw, height=30 * len(summary.entries))


def _tuning_figure(summary: Summary) -> Figure:
    qs = sorted({run.q for entry in summary.entries for run, _ in entry.tuning})
    start = initial_loss(summary)
    losses = [
        number(result.get("train_loss"))
        for entry in summary.entries
        for _, result in entry.tuning
        if finished(result) and math.isfinite(number(result.get("train_loss")))
    ]
    limit = CEILING * start if math.isfinite(start) and start > 0 else math.inf
    shown = [loss for loss in losses if loss <= limit] or [start if math.isfinite(start) else 1.0]
    caption = (
        f"Training loss after {count(summary.study.tuning_epochs, 'tuning epoch')} against γ₀; a ring marks the chosen."
    )
    strip = len(losses) < sum(len(entry.tuning) for entry in summary.entries) or max(losses, default=0.0) > max(shown)
    if strip:
        caption += " In the strip on top: × diverged, ▲ ended above the axis."
    return Figure(
        name="tuning",
        section="tuning",
        title="How much the step size matters",
        caption=caption,
        panels=tuple(_tuning_panel(summary, q, qs, (min(shown), max(shown)), strip) for q in qs),
    )


def _tuning_panel(
    summary: Summary, q: float, qs: Sequence[float], domain: tuple[float, float], with_strip: bool
) -> Panel:
    low, ceiling = domain
    log = low > 0
    # The strip above the axis gives each contender a line of its own, so that no mark covers another.
    height = math.log(ceiling / low) if log and ceiling > low else 1.0
    strip = {
        entry.label: ceiling * math.exp(height * 0.028 * (position + 1.5)) if log else ceiling
        for position, entry in enumerate(summary.entries)
    }
    rows: Rows = []
    for entry in summary.entries:
        for run, result in entry.tuning:
            if run.q == q:
                rows.append(_tuning_row(entry, run, result, ceiling, strip[entry.label]))
    done = [row for row in rows if row["state"] == "done"]
    chosen = [row for row in done if row["chosen"]]
    lost = [row for row in rows if row["state"] != "done"]
    rates = [run.lr for entry in summary.entries for run, _ in entry.tuning]
    title = f"Schedule: {schedule(q)}" if len(qs) > 1 else ""
    top = max(strip.values()) if with_strip else ceiling

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(contender_styles(summary), theme, interactive)
        scale, kind = log_scale([low], domain=[low * 0.8 if log else low, top * 1.05 if log else top], nice=False)
        x = alt.X(
            "lr",
            type="quantitative",
            title="initial step size (log)",
            scale=alt.Scale(type="log", domain=[min(rates) * 0.8, max(rates) * 1.25], nice=False),
            axis=log_axis(grid=False),
        )
        axis = log_axis()
        y = alt.Y("shown", type="quantitative", scale=scale, title="tuning loss" + kind, axis=axis)
        tooltip = [
            alt.Tooltip("contender", type="nominal", title="optimizer"),
            alt.Tooltip("lr", type="quantitative", title="γ₀", format=".3~g"),
            alt.Tooltip("loss", type="nominal", title="tuning loss"),
        ]
        line = (
            channels.data(done)
            .mark_line(strokeWidth=2)
            .encode(x=x, y=y, color=channels.color("shape"), strokeDash=channels.dash(), opacity=channels.opacity())
        )
        points = (
            channels.data(done)
            .mark_point(filled=True, size=45)
            .encode(
                x=x,
                y=y,
                color=channels.color("shape"),
                shape=channels.shape("shape"),
                opacity=channels.opacity(),
                tooltip=tooltip,
            )
        )
        rings = (
            channels.data(chosen)
            .mark_point(filled=False, size=260, strokeWidth=2)
            .encode(x=x, y=y, color=channels.color("shape"), opacity=channels.opacity(), tooltip=tooltip)
        )
        marks = []
        for state, shape, angle in (("diverged", "cross", 45), ("above", "triangle-up", 0)):
            marks.append(
                channels.data([row for row in lost if row["state"] == state])
                .mark_point(filled=True, size=45, shape=shape, angle=angle)
                .encode(x=x, y=y, color=channels.color("shape"), opacity=channels.opacity(), tooltip=tooltip)
            )
        rule = (
            channels.fixed([{"shown": ceiling * (math.exp(height * 0.02) if log else 1)}])
            .mark_rule(color=theme.muted, opacity=0.5 if lost else 0)
            .encode(y=y)
        )
        return channels.finish(rule, line, points, rings, *marks)

    return Panel(title, draw, height=320)


def _tuning_row(entry: Entry, run: Run, result: Mapping[str, Any], ceiling: float, strip: float) -> dict[str, Any]:
    loss = number(result.get("train_loss"))
    if not finished(result) or not math.isfinite(loss):
        state, said = "diverged", "diverged"
    else:
        state, said = ("done" if loss <= ceiling else "above"), f"{loss:.4g}"
    return {
        "contender": entry.label,
        "lr": run.lr,
        "loss": said,
        "shown": loss if state == "done" else strip,
        "state": state,
        "chosen": entry.choice is not None and (run.lr, run.q) == (entry.choice.lr, entry.choice.q),
    }


def _reach_figure(summary: Summary) -> Figure:
    reference = plain(summary.study.reference)
    return Figure(
        name="time-to-reference",
        section="time",
        title=f"Time to {reference}’s best training loss",
        caption=f"When each seed first has the least training loss that {reference} reaches on that seed; the line is "
        "the mean of those that do. ▷: not reached.",
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
            "said": "not reached" if value is None else f"{value:.4g}",
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
            alt.Tooltip("said", type="nominal", title=title),
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


def _slug(measure: Metric, position: int) -> str:
    """A file name's part: the measure's letters and digits, or its position where it has none."""
    name = "training-loss" if measure.name == "train_loss" else measure.name
    slug = "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in name).split())[:40].lower()
    return slug if slug not in ("", "test") else f"measure-{position}"
