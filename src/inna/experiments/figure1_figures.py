"""Figure 1 drawn from its descents: the paths in the valley, and the loss over the iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inna.experiments.charts.drawing import Channels, Drawing, Figure, Panel, Rows
from inna.experiments.charts.themes import Style, Theme
from inna.experiments.report.sentences import plain
from inna.paper.curves import FIGURE_1_DIPS
from inna.paper.descents import Descent

__all__ = ["figure1_figures"]

# The part of the plane that Figure 1 shows: θ₁ from, to; θ₂ from, to. A descent that leaves it is cut off.
PLANE = ((-2.0, 2.0), (-0.5, 2.5))
_PANELS = "abc"
_STYLES = (
    Style("#d55e00", "#ff8b3d", (1, 0), "circle"),
    Style("#0072b2", "#3fb2f2", (1, 0), "square"),
    Style("#008a65", "#1fc796", (1, 0), "diamond"),
)


def figure1_figures(descents: Sequence[Descent]) -> list[Figure]:
    """Figure 1 for each label of ``descents``: the paths in the plane, and log₁₀ J over the iterations."""
    figures = []
    for label in dict.fromkeys(descent.label for descent in descents):
        # (a) has the small β, (b) and (c) the larger one with α ascending.
        members = sorted((each for each in descents if each.label == label), key=lambda each: (each.beta, each.alpha))
        styles = {each.name: style for each, style in zip(members, _STYLES, strict=False)}
        speed = " / ".join(dict.fromkeys(f"{each.initial_speed:g}" for each in members))
        meaning = {
            "caption": "with the settings that the paper states",
            "recovered": "with the settings that give the curves it shows",
        }.get(label, f"with {plain(label)} settings")
        figures.append(
            Figure(
                name=f"figure-1-{_slug(label)}",
                section="figure1",
                title=f"Figure 1, {meaning}",
                caption=f"INNA on J(θ) = 100(θ₂ − |θ₁|)² + |1 − θ₁| from (−1, 1.5), step 1e-4, initial speed {speed}. "
                "Dotted: the valley; the star is the minimum. Triangles: where the paper’s curves dip.",
                panels=(*(_path_panel(each, styles) for each in members), _loss_panel(members, styles)),
            )
        )
    return figures


def _path_panel(descent: Descent, styles: Mapping[str, Style]) -> Panel:
    # Its order of drawing, since a line follows x otherwise.
    rows: Rows = [
        {"contender": descent.name, "order": k, "x": x, "y": y}
        for k, x, y in zip(descent.iteration, descent.theta1, descent.theta2, strict=True)
    ]
    (left, right), (bottom, top) = PLANE
    away = not (left <= rows[-1]["x"] <= right and bottom <= rows[-1]["y"] <= top)
    # What is far outside would make the numbers of a path in SVG absurd.
    rows = [row for row in rows if abs(row["x"]) < 4 * right and abs(row["y"]) < 4 * top]
    panel = _PANELS[list(styles).index(descent.name)]
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


def _loss_panel(members: Sequence[Descent], styles: Mapping[str, Style]) -> Panel:
    rows: Rows = [
        {"contender": each.name, "iteration": k, "value": value}
        for each in members
        for k, value in zip(each.iteration, each.log10_loss, strict=True)
    ]
    highest = max((row["value"] for row in rows), default=0.0)
    dips: Rows = [
        {"contender": each.name, "iteration": k, "value": highest + 0.4}
        for each, theirs in zip(members, FIGURE_1_DIPS, strict=False)
        for k in theirs
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

    return Panel("(d) log10 J", draw, height=260, width=300, note="triangles: dips of the paper’s curves")


def _slug(label: str) -> str:
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in label)[:40]
