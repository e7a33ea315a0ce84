"""The paper's figures drawn from the results.

Figures 2 to 4 have the paper's layout and show its own curves with circles. One more figure shows the optimizers that
the paper does not have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from inna.experiments.charts.curves import curve_panel
from inna.experiments.charts.drawing import Channels, Drawing, Figure, Panel, Rows
from inna.experiments.charts.themes import Style, Theme
from inna.experiments.formatting import enumerate_words, plain, slug
from inna.experiments.report.curves import breaks, curve_points, styles, zoom
from inna.experiments.rows.results import history, number
from inna.experiments.rows.run import Metric
from inna.experiments.statistics.summary import TRAIN_LOSS, Entry, Summary
from inna.paper.curves import BEST_IN_FIGURE_3, PAPER_EPOCHS, paper_curve
from inna.paper.descents import Descent, by_label, initial_speeds
from inna.paper.evidence import ACCURACY, LOSS, Quantity, best_damping, log10_loss
from inna.paper.protocol import BEYOND, DECAYS, FOUR
from inna.paper.words import network_note, sampled_loss_note, with_width
from inna.theory.figure1 import PAPER_DIPS

__all__ = [
    "PLANE",
    "figure1_figures",
    "reproduction_figures",
]

QUARTER = DECAYS[1]


class _Side(NamedTuple):
    """One panel of a figure: a quantity, the optimizers' labels, and a title."""

    quantity: Quantity
    labels: Sequence[str]
    title: str
    unit: str = "epoch"


def _loss_and_accuracy(labels: Sequence[str], unit: str = "epoch") -> list[_Side]:
    return [_Side(LOSS, labels, "Training loss", unit), _Side(ACCURACY, labels, "Test accuracy", unit)]


def reproduction_figures(summary: Summary) -> list[Figure]:
    """Return Figures 2 to 4 and those beyond the paper, if they have final runs."""
    best = best_damping(summary)
    inna_best = [best] if best else []
    beyond = [entry.label for entry in summary.entries if entry.label in BEYOND and entry.finals]
    found = [
        _figure(
            summary,
            2,
            "figure-2",
            "Figure 2: INNA at four (α, β)",
            _loss_and_accuracy(FOUR),
        ),
        _figure(
            summary,
            3,
            "figure-3",
            "Figure 3: INNA, SGD, AdaGrad and Adam",
            _loss_and_accuracy([*inna_best, "SGD", "AdaGrad", "Adam"]),
        ),
        _figure(
            summary,
            4,
            "figure-4",
            "Figure 4: slower decays γ₀(k+1)^−q of the learning rate",
            [_Side(LOSS, DECAYS, "INNA at four q"), _Side(LOSS, [QUARTER, "Adam"], "INNA at q = 1/4, and Adam")],
        ),
        _figure(
            summary,
            0,
            "beyond",
            f"Beyond the paper: {enumerate_words(beyond)}",
            _loss_and_accuracy([*inna_best, *beyond]) if beyond else [],
        ),
        _figure(
            summary,
            0,
            "seconds",
            "Over the seconds of training",
            _loss_and_accuracy([*inna_best, QUARTER, "SGD", "AdaGrad", "Adam", *beyond], "seconds"),
        ),
    ]
    return [figure for figure in found if figure is not None]


class _Drawn(NamedTuple):
    """A panel, and what it contains for the caption of its figure."""

    panel: Panel
    beside: bool
    broken: bool
    zoomed: bool


def _figure(summary: Summary, figure: int, name: str, title: str, sides: Sequence[_Side]) -> Figure | None:
    # One set of styles for all panels: beside each other in a picture they share a legend.
    members = {label for side in sides for label in side.labels}
    parts = [part for side in sides if (part := _panel(summary, figure, side, members)) is not None]
    if not parts:
        return None
    caption = "Line: mean over the final seeds (the loss is averaged, then its logarithm taken); band: best to worst."
    caption = f"{caption} {sampled_loss_note(summary)}".rstrip()
    if any(part.beside for part in parts):
        caption += (
            f" Thin with circles: the paper’s mean, digitised every five epochs. {network_note(summary)}".rstrip()
        )
        theirs = BEST_IN_FIGURE_3[summary.study.dataset]
        if figure == 3 and best_damping(summary) != theirs:
            caption += f" Its curve of INNA is {theirs}."
        if figure == 4:
            caption += " It does not state (α, β) for this figure."
    if any(part.broken for part in parts):
        caption += " ×: a seed diverged after this epoch; mean and band are over the other seeds."
    lost = [entry.label for entry in summary.entries if entry.label in members and _all_diverged(entry)]
    if lost:
        caption += f" Not drawn, since every seed diverged: {enumerate_words(lost)}."
    if any(side.unit == "seconds" for side in sides):
        caption += " Each epoch takes the time of the optimizer’s fastest, without evaluation."
    if any(part.zoomed for part in parts):
        caption += " The first epochs are outside the accuracy axis."
    panels = tuple(part.panel for part in parts)
    title = with_width(title, summary)
    return Figure(name=name, section=name.replace("-", ""), title=title, caption=caption, panels=panels)


def _all_diverged(entry: Entry) -> bool:
    return bool(entry.finals) and len(entry.diverged) == len(entry.finals)


def _panel(summary: Summary, figure: int, side: _Side, members: set[str]) -> _Drawn | None:
    """Return the panel, if any of its optimizers has a curve."""
    measure = TRAIN_LOSS if side.quantity == LOSS else Metric(ACCURACY, "max")
    known, _ = curve_points(summary, measure, as_compared=False)
    points = [_scaled(row, side.quantity) for row in known if row["contender"] in side.labels]
    if not points:
        return None
    if side.unit == "seconds":
        # Where other programs share the machine, runs of the same work last up to twice as long.
        times = {entry.label: _epoch_seconds(entry) for entry in summary.entries}
        points = [row | {"seconds": row["epoch"] * times[row["contender"]]} for row in points]
        if not all(math.isfinite(row["seconds"]) for row in points):
            return None
    there = {entry.label for entry in summary.entries if entry.label in members and entry.finals}
    chosen = {label: style for label, style in styles(summary.study).items() if label in there}
    broken = [_scaled(row, side.quantity) for row in breaks(summary, measure) if row["contender"] in side.labels]
    beside = _paper_rows(summary, figure, side, {row["contender"] for row in points})
    domain = zoom(measure, points + [row | {"best": row["mean"], "worst": row["mean"]} for row in beside])
    panel = curve_panel(
        chosen,
        "log10 of the training loss" if side.quantity == LOSS else "test accuracy",
        points,
        breaks=broken,
        beside=beside,
        domain=domain,
        title=side.title,
        note=f"thin, circles: the paper’s mean. {network_note(summary)}".rstrip() if beside else "",
        unit=side.unit,
    )
    return _Drawn(panel, bool(beside), bool(broken), domain is not None)


def _epoch_seconds(entry: Entry) -> float:
    """Return the time of the fastest epoch of the final runs.

    Of those at chance, too; NaN without any.
    """
    epochs = (each for _, result in entry.finals.values() for each in history(result)[1:])
    known = [seconds for each in epochs if math.isfinite(seconds := number(each.get("seconds")))]
    return min(known, default=math.nan)


def _scaled(row: Mapping[str, Any], quantity: Quantity) -> dict[str, Any]:
    """Return the row with log₁₀ of its losses."""
    if quantity != LOSS:
        return dict(row)
    return {key: log10_loss(value) if key in ("mean", "best", "worst") else value for key, value in row.items()}


def _paper_rows(summary: Summary, figure: int, side: _Side, shown: set[str]) -> Rows:
    """Return the paper's curves up to our last epoch.

    Its INNA of Figure 3 is paired with our best damping.
    """
    dataset, last = summary.study.dataset, min(summary.study.epochs, PAPER_EPOCHS)
    best = best_damping(summary)
    rows: Rows = []
    for label in side.labels:
        theirs = BEST_IN_FIGURE_3.get(dataset, "") if figure == 3 and label == best else label
        # Adam beside q = 1/4 in Figure 4 is the Adam of Figure 3.
        source = 3 if figure == 4 and label == "Adam" else figure
        curve = paper_curve(source, dataset, side.quantity, theirs) if figure else None
        if curve is None or label not in shown:
            continue
        for epoch in sorted({*(each for each in curve.epochs if each <= last), last}):
            mean = curve.at(epoch).mean
            if mean is not None:
                rows.append({"contender": label, "epoch": epoch, "mean": mean, "curve": f"the paper’s {theirs}"})
    return rows


# The part of the plane that Figure 1 shows: the ranges of θ₁ and θ₂. A descent that leaves it is cut off.
PLANE = ((-2.0, 2.0), (-0.5, 2.5))

_STYLES = (
    Style("#d55e00", "#ff8b3d", (1, 0), "circle"),
    Style("#0072b2", "#3fb2f2", (1, 0), "square"),
    Style("#008a65", "#1fc796", (1, 0), "diamond"),
)


def figure1_figures(descents: Sequence[Descent]) -> list[Figure]:
    """Return Figure 1 for each label of ``descents``: the paths, and log₁₀ J."""
    figures = []
    for label, members in by_label(descents).items():
        panels = dict(zip(PAPER_DIPS, members, strict=False))
        styles = {each.name: style for each, style in zip(members, _STYLES, strict=False)}
        meaning = {
            "caption": "with the settings that the paper states",
            "recovered": "with the settings that give the published curves",
        }.get(label, f"with {plain(label)} settings")
        figures.append(
            Figure(
                name=f"figure-1-{slug(label)}",
                section="figure1",
                title=f"Figure 1, {meaning}",
                caption="INNA on J(θ) = 100(θ₂ − |θ₁|)² + |1 − θ₁| from (−1, 1.5), γ = 1e-4, initial speed "
                f"{initial_speeds(members)}. Dotted: the valley; the star is the minimum. Triangles: dips of the "
                "paper’s curves.",
                panels=(*(_path_panel(*each, styles) for each in panels.items()), _loss_panel(panels, styles)),
            )
        )
    return figures


def _path_panel(panel: str, descent: Descent, styles: Mapping[str, Style]) -> Panel:
    # Points are drawn in this order; otherwise a line follows x.
    rows: Rows = [
        {"contender": descent.name, "order": k, "x": x, "y": y}
        for k, x, y in zip(descent.iteration, descent.theta1, descent.theta2, strict=True)
    ]
    (left, right), (bottom, top) = PLANE
    away = not (left <= rows[-1]["x"] <= right and bottom <= rows[-1]["y"] <= top)
    # Points far outside would give an SVG path absurd coordinates.
    rows = [row for row in rows if abs(row["x"]) < 4 * right and abs(row["y"]) < 4 * top]
    title = f"({panel}) α = {descent.alpha:g}, β = {descent.beta:g}" + (", ends outside" if away else "")

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(styles, theme, interactive)
        x = alt.X(
            "x", type="quantitative", title="θ1", scale=alt.Scale(domain=[left, right]), axis=alt.Axis(tickCount=5)
        )
        y = alt.Y(
            "y", type="quantitative", title="θ2", scale=alt.Scale(domain=[bottom, top]), axis=alt.Axis(tickCount=5)
        )
        valley = (
            channels.fixed([{"x": side, "y": abs(side)} for side in (left, 0.0, right)])
            .mark_line(strokeDash=[2, 3], color=theme.muted, clip=True)
            .encode(x=x, y=y)
        )
        path = (
            channels.data(rows)
            .mark_line(strokeWidth=1.4, clip=True)
            .encode(x=x, y=y, order=alt.Order("order", type="quantitative"), color=channels.color())
        )
        start = channels.fixed([{"x": -1.0, "y": 1.5}]).mark_point(filled=True, size=60, color=theme.text)
        end = channels.fixed([{"x": 1.0, "y": 1.0}]).mark_point(
            shape="M0,.5L.6,.8L.5,.1L1,-.3L.3,-.4L0,-1L-.3,-.4L-1,-.3L-.5,.1L-.6,.8L0,.5Z",
            filled=True,
            size=90,
            color=theme.text,
            opacity=1,
        )
        return channels.finish(valley, path, start.encode(x=x, y=y), end.encode(x=x, y=y))

    return Panel(title, draw, height=260, width=260)


def _loss_panel(panels: Mapping[str, Descent], styles: Mapping[str, Style]) -> Panel:
    rows: Rows = [
        {"contender": each.name, "iteration": k, "value": value}
        for each in panels.values()
        for k, value in zip(each.iteration, each.log10_loss, strict=True)
    ]
    highest = max((row["value"] for row in rows), default=0.0)
    dips: Rows = [
        {"contender": each.name, "iteration": k, "value": highest + 0.4}
        for panel, each in panels.items()
        for k in PAPER_DIPS[panel]
    ]

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(styles, theme, interactive)
        x = alt.X(
            "iteration", type="quantitative", title="iteration", axis=alt.Axis(grid=False, tickCount=5, format="~s")
        )
        y = alt.Y("value", type="quantitative", title="log10 J", axis=alt.Axis(tickCount=6))
        line = (
            channels.data(rows)
            .mark_line(strokeWidth=1.4)
            .encode(
                x=x,
                y=y,
                color=channels.color("stroke"),
                tooltip=[
                    alt.Tooltip("contender", type="nominal", title="(α, β)"),
                    alt.Tooltip("iteration", type="quantitative"),
                    alt.Tooltip("value", type="quantitative", title="log10 J", format=".4~g"),
                ],
            )
        )
        marks = (
            channels.data(dips)
            .mark_point(shape="triangle-down", filled=True, size=60, opacity=1)
            .encode(
                x=x,
                y=y,
                color=channels.color("stroke"),
                tooltip=[
                    alt.Tooltip("contender", type="nominal", title="(α, β)"),
                    alt.Tooltip("iteration", type="quantitative", title="the paper’s dip", format=","),
                ],
            )
        )
        return channels.finish(line, marks)

    return Panel("(d) log10 J", draw, height=260, width=300, legend=True, note="triangles: dips of the paper’s curves")
