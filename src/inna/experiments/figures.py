"""The figures of a report, in one grammar: interactive in the page, still in PNG and SVG.

`figures` turns a `Summary` into figures; each holds panels, and a panel draws itself for a theme, interactive or still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inna.experiments.drawing import (
    Channels,
    Drawing,
    Panel,
    Rows,
    configuration,
    log_axis,
    log_scale,
    names_axis,
    spread_tooltip,
    value_scale,
)
from inna.experiments.palette import Style, Theme, styles
from inna.experiments.rows import Run
from inna.experiments.statistics import Entry, Summary, finished, history, number, spread
from inna.experiments.study import Metric
from inna.experiments.wording import count, initial_loss, measure_name, plain, schedule

__all__ = ["MAX_POINTS", "Figure", "contender_styles", "figures", "interactive", "still"]

# More points than this in one panel are thinned, by whole epochs; the caption says so.
MAX_POINTS = 4000
# A tuning loss above this many times the loss before training is drawn in the strip above the axis.
CEILING = 3.0


@dataclass(frozen=True)
class Figure:
    """Panels with a common caption; ``name`` is a file's stem and an element's id, ``section`` a place in the page."""

    name: str
    section: str
    title: str
    caption: str
    panels: tuple[Panel, ...]


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
        points, step = _curve_points(summary, measure)
        if points:
            found.append(_curve_figure(summary, measure, points, step, _slug(measure, position)))
    if any(entry.tuning for entry in summary.entries):
        found.append(_tuning_figure(summary))
    if any(entry.reach for entry in summary.entries):
        found.append(_reach_figure(summary))
    return found


def still(figure: Figure, theme: Theme) -> dict[str, Any]:
    """The figure as a Vega-Lite specification with its own size, legend and data, to be saved as PNG or SVG."""
    import altair as alt

    drawings = [panel.draw(theme, False) for panel in figure.panels]
    panels = [
        drawing.chart.properties(title=panel.title or figure.title, width=400, height=panel.height)
        for panel, drawing in zip(figure.panels, drawings, strict=True)
    ]
    chart = alt.hconcat(*panels, spacing=28) if len(panels) > 1 else panels[0]
    specification: dict[str, Any] = chart.configure(**configuration(theme), background=theme.background).to_dict()
    return specification | {"datasets": {name: rows for drawing in drawings for name, rows in drawing.datasets.items()}}


def interactive(figure: Figure, panel: Panel, theme: Theme) -> tuple[dict[str, Any], dict[str, Rows]]:
    """A panel as a Vega-Lite specification that fills its place in the page, and its data sets by name."""
    drawing = panel.draw(theme, True)
    title = " – ".join(each for each in (figure.title, panel.title) if each)
    chart = drawing.chart.properties(
        width="container",
        height=panel.height,
        description=f"{title}. {figure.caption}",
        autosize={"type": "fit-x", "contains": "padding"},
        # Room for the half of the last label that stands beyond the axis.
        padding={"left": 2, "right": 14, "top": 5, "bottom": 2},
    ).configure(**configuration(theme), background="transparent")
    # The tests validate these specifications against Vega-Lite's schema; here it would take seconds.
    return chart.to_dict(validate=False), drawing.datasets


def contender_styles(summary: Summary) -> dict[str, Style]:
    """Of the contenders, in the order of the table."""
    chosen = styles(summary.study)
    return {entry.label: chosen[entry.label] for entry in summary.entries}


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


def _curve_points(summary: Summary, measure: Metric) -> tuple[Rows, int]:
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


def _breaks(summary: Summary, measure: Metric) -> Rows:
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


def _curve_figure(summary: Summary, measure: Metric, points: Rows, step: int, slug: str) -> Figure:
    breaks, domain = _breaks(summary, measure), _zoom(measure, points)
    caption = "Line: mean over the final seeds; band: best to worst."
    if breaks:
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
        panels=(_curve_panel(summary, measure, points, breaks, domain),),
    )


def _zoom(measure: Metric, points: Rows) -> tuple[float, float] | None:
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


def _curve_panel(
    summary: Summary, measure: Metric, points: Rows, breaks: Rows, domain: tuple[float, float] | None
) -> Panel:
    name = measure_name(measure)

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(contender_styles(summary), theme, interactive)
        limits = {"domain": domain} if domain else {}
        scale, kind = value_scale(measure, [row[end] for row in points for end in ("best", "worst")], **limits)
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

    return Panel("", draw, height=340)


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
