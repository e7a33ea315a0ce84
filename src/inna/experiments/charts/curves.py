"""Curves over the epochs.

Mean over the seeds, best and worst as a band, diverged seeds, curves to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inna.experiments.charts.drawing import (
    Channels,
    Drawing,
    Panel,
    Rows,
    log_axis,
    log_scale,
    spread_tooltip,
)
from inna.experiments.charts.themes import Style, Theme

__all__ = [
    "curve_panel",
]


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
    """Return a panel of curves over the epochs: a mean, and a band of all seeds.

    Args:
        styles: label -> style of the curves.
        name: of the quantity, for the axis.
        points: rows of contender, epoch, mean, best and worst.
        log: whether the axis is logarithmic.
        breaks: rows of contender, seed, epoch and mean at which a seed diverged.
        beside: rows of contender, epoch, mean and curve for thin dashed curves; ``curve`` is their tooltip.
        domain: the ends of the axis, if it does not show the whole range.
        title: of the panel.
        note: below the title.
    """

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(styles, theme, interactive)
        limits: dict[str, Any] = {"domain": domain} if domain else {}
        values = [row[end] for row in points for end in ("best", "worst")]
        scale, kind = log_scale(values, nice=False, **limits) if log else (alt.Scale(zero=False, **limits), "")
        last = max(row["epoch"] for row in points)
        # Few epochs have a tick each: ticks between them would be rounded to repeated labels.
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
                        alt.Tooltip("curve", type="nominal", title="curve"),
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
                        alt.Tooltip("epoch", type="quantitative", title="last complete epoch"),
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
