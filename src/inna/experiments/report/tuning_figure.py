"""The figure of the tuning: training loss against the learning rate."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from inna.experiments.charts.drawing import Channels, Drawing, Figure, Panel, Rows, log_axis, log_scale
from inna.experiments.charts.themes import Theme
from inna.experiments.formatting import DASH, count, enumerate_words, schedule, seeds, setting_name, setting_value
from inna.experiments.report.curves import contender_styles
from inna.experiments.report.sentences import initial_loss
from inna.experiments.rows.results import Result, final_loss
from inna.experiments.rows.run import Run, Schedule
from inna.experiments.statistics.summary import TWICE, Entry, Summary
from inna.experiments.study.halving import rungs
from inna.experiments.study.study import Study, schedule_order

__all__ = [
    "CEILING",
    "tuning_figure",
]


# Tuning losses above this multiple of the loss before training are drawn in the strip above the axis.
CEILING = 3.0


def tuning_figure(summary: Summary) -> Figure:
    """Return the figure of the tuning runs, a panel per schedule.

    Of a search that of its trials.
    """
    qs = sorted({run.decay for entry in summary.entries for run, _ in entry.tuning}, key=schedule_order)
    start = initial_loss(summary)
    ends = [final_loss(result) for entry in summary.entries for _, result in _trials(summary, entry)]
    losses = [loss for loss in ends if math.isfinite(loss)]
    limits = [TWICE * final_loss(_chosen(entry)) for entry in summary.entries if entry.good_lrs]
    limit = CEILING * start if math.isfinite(start) and start > 0 else math.inf
    shown = [loss for loss in losses if loss <= limit] or [start if math.isfinite(start) else 1.0]
    caption = _caption(summary.study)
    if limits:
        caption += " A thick bar spans the learning rates whose loss is at most twice the chosen one’s."
    strip = len(losses) < len(ends) or max(losses, default=0.0) > max(shown)
    domain = min(shown), max([*shown, *(each for each in limits if each <= limit and math.isfinite(each))])
    if strip:
        caption += " In the strip above the axis: × diverged, ▲ ended above the axis."
    return Figure(
        name="tuning",
        section="tuning",
        title="Learning-rate sensitivity",
        caption=caption,
        panels=tuple(_tuning_panel(summary, q, qs, domain, strip) for q in qs),
    )


def _caption(study: Study) -> str:
    if not study.trials:
        return (
            f"Training loss after {count(study.tuning_epochs, 'tuning epoch')} against the learning rate (γ); a ring "
            "marks the chosen one."
        )
    lengths = enumerate_words([str(length) for length in rungs(study.tuning_epochs)], "or")
    return (
        f"Training loss of every trial against the learning rate (γ) where its training ended, after {lengths} epochs "
        f"on {seeds([study.tuning_seed])}: the larger the mark, the longer. Trials of few epochs are compared with "
        "others of the same length only. A ring marks the chosen one; settings that were searched are in the tooltip."
    )


def _trials(summary: Summary, entry: Entry) -> list[tuple[Run, Result]]:
    """Return the tuning runs to draw.

    Of a search the longest of each trial, up to the tuning epochs, on the first tuning seed.
    """
    if not summary.study.trials:
        return list(entry.tuning)
    longest: dict[Run, tuple[Run, Result]] = {}
    for run, result in sorted(entry.tuning, key=lambda item: item[0].epochs):
        if run.seed == summary.study.tuning_seed and run.epochs <= summary.study.tuning_epochs:
            longest[run.trajectory] = run, result
    return [item for item in entry.tuning if item in longest.values()]


def _chosen(entry: Entry) -> Result:
    """Return the result of the chosen tuning run; empty without one."""
    return next((result for run, result in entry.neighbours if entry.choice and run == entry.choice.run), {})


def _tuning_panel(
    summary: Summary, q: Schedule, qs: Sequence[Schedule], domain: tuple[float, float], with_strip: bool
) -> Panel:
    low, ceiling = domain
    log = low > 0
    # Each optimizer has its own line in the strip above the axis: marks do not cover each other.
    height = math.log(ceiling) - math.log(low) if log and ceiling > low else 1.0

    def above(share: float) -> float:
        """Return the value at this share of the axis above its ceiling.

        At most the largest float.
        """
        return min(ceiling * math.exp(min(height * share, 700.0)), sys.float_info.max) if log else ceiling

    strip = {entry.label: above(0.028 * (position + 1.5)) for position, entry in enumerate(summary.entries)}
    rows: Rows = []
    for entry in summary.entries:
        for run, result in _trials(summary, entry):
            if run.decay == q:
                rows.append(_tuning_row(entry, run, result, ceiling, strip[entry.label]))
    done = [row for row in rows if row["state"] == "done"]
    chosen = [row for row in done if row["chosen"]]
    lost = [row for row in rows if row["state"] != "done"]
    good: Rows = [
        {
            "contender": entry.label,
            "low": entry.good_lrs[0],
            "high": entry.good_lrs[1],
            "limit": TWICE * final_loss(_chosen(entry)),
            "width": f"{entry.lr_width:.2g} decades",
        }
        for entry in summary.entries
        if entry.good_lrs and entry.choice and entry.choice.decay == q
    ]
    good = [row for row in good if row["limit"] <= ceiling and row["low"] < row["high"]]
    rates = [run.lr for entry in summary.entries for run, _ in entry.tuning]
    title = f"Schedule: {schedule(q)}" if len(qs) > 1 else ""
    search = bool(summary.study.trials)
    top = max(strip.values()) if with_strip else ceiling
    ends = [low * 0.8, min(top * 1.05, sys.float_info.max)] if log else [low, top]

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(contender_styles(summary), theme, interactive)
        scale, kind = log_scale([low], domain=ends, nice=False)
        x = alt.X(
            "lr",
            type="quantitative",
            title="learning rate (γ, log)",
            scale=alt.Scale(type="log", domain=[min(rates) * 0.8, max(rates) * 1.25], nice=False),
            axis=log_axis(grid=False),
        )
        axis = log_axis()
        y = alt.Y("shown", type="quantitative", scale=scale, title="tuning loss" + kind, axis=axis)
        tooltip = [
            alt.Tooltip("contender", type="nominal", title="optimizer"),
            alt.Tooltip("lr", type="quantitative", title="learning rate (γ)", format=".3~g"),
            alt.Tooltip("loss", type="nominal", title="tuning loss"),
        ]
        size: Any = alt.SizeValue(45)
        if search:
            tooltip += [
                alt.Tooltip("settings", type="nominal", title="settings"),
                alt.Tooltip("epochs", type="quantitative", title="epochs"),
            ]
            lengths = rungs(summary.study.tuning_epochs)
            sizes = alt.Scale(domain=list(lengths), range=[10, 18, 32, 58, 110][-len(lengths) :])
            size = alt.Size("epochs", type="ordinal", scale=sizes, legend=None)
        line = (
            channels.data([row for row in done if row["neighbour"]] if search else done)
            .mark_line(strokeWidth=2)
            .encode(x=x, y=y, color=channels.color("shape"), strokeDash=channels.dash(), opacity=channels.opacity())
        )
        points = (
            channels.data(done)
            .mark_point(filled=True)
            .encode(
                x=x,
                y=y,
                size=size,
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
        widths = (
            channels.data(good)
            .mark_rule(strokeWidth=5, strokeCap="butt")
            .encode(
                x=alt.X("low", type="quantitative"),
                x2=alt.X2("high"),
                y=alt.Y("limit", type="quantitative"),
                color=channels.color("shape"),
                opacity=channels.opacity(0.55),
                tooltip=[
                    alt.Tooltip("contender", type="nominal", title="optimizer"),
                    alt.Tooltip("width", type="nominal", title="width of good γ"),
                    alt.Tooltip("low", type="quantitative", title="from γ", format=".3~g"),
                    alt.Tooltip("high", type="quantitative", title="to γ", format=".3~g"),
                ],
            )
        )
        marks = [widths] if good else []
        for state, shape, angle in (("diverged", "cross", 45), ("above", "triangle-up", 0)):
            marks.append(
                channels.data([row for row in lost if row["state"] == state])
                .mark_point(filled=True, size=45, shape=shape, angle=angle)
                .encode(x=x, y=y, color=channels.color("shape"), opacity=channels.opacity(), tooltip=tooltip)
            )
        rule = (
            channels.fixed([{"shown": above(0.02)}])
            .mark_rule(color=theme.muted, opacity=0.5 if lost else 0)
            .encode(y=y)
        )
        return channels.finish(rule, line, points, rings, *marks)

    return Panel(title, draw, height=320, legend=True)


def _tuning_row(entry: Entry, run: Run, result: Mapping[str, Any], ceiling: float, strip: float) -> dict[str, Any]:
    loss = final_loss(result)
    if math.isinf(loss):
        state, reading = "diverged", "diverged"
    else:
        state, reading = ("done" if loss <= ceiling else "above"), f"{loss:.4g}"
    return {
        "contender": entry.label,
        "lr": run.lr,
        "loss": reading,
        "shown": loss if state == "done" else strip,
        "state": state,
        "chosen": entry.choice is not None and run == entry.choice.run,
        "epochs": run.epochs,
        "neighbour": any(run == other for other, _ in entry.neighbours),
        "settings": ", ".join(
            f"{setting_name(each.name)} = {setting_value(run.arguments[each.name])}"
            for each in entry.contender.space
            if each.name in run.arguments
        )
        or DASH,
    }
