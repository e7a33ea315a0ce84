"""Curves over the epochs, steps or seconds.

Mean over the seeds, best and worst as a band, diverged seeds, curves to compare with, names at the ends of the lines.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
    "end_names",
    "names_at_the_ends",
    "spread_out",
]

_HEIGHT = 340
# Pixels between the names at the ends of lines.
_LINE = 14
_LONGEST_NAME = 26
# Key of the rows -> title of the axis, of what a reader can choose instead of epochs.
_UNITS = {"step": "step", "seconds": "seconds of training"}


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
    unit: str = "epoch",
) -> Panel:
    """Return a panel of curves over the epochs: a mean, and a band of all seeds.

    Args:
        styles: label -> style of the curves.
        name: of the quantity, for the axis.
        points: rows of contender, epoch, mean, best and worst; and of step and seconds, if all of them have these.
        log: whether the axis is logarithmic.
        breaks: rows of contender, seed, epoch and mean at which a seed diverged.
        beside: rows of contender, epoch, mean and curve for thin curves with circles; ``curve`` is their tooltip.
        domain: the ends of the axis, if it does not show the whole range.
        title: of the panel.
        note: below the title.
        unit: of the horizontal axis; "step" or "seconds" if all points have it. A reader can change that of epochs.
    """
    values = [row[end] for row in points for end in ("best", "worst")]
    values += [row["mean"] for row in (*(beside or ()), *(breaks or ()))]
    ends = domain or _ends(values, log)
    names = end_names(points, ends, log)

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        axes = {field: alt.X(**encoding) for field, encoding in _x_axes(points).items() if unit in ("epoch", field)}
        channels = Channels(styles, theme, interactive)
        scale, kind = log_scale(values, nice=False, domain=ends) if log else (alt.Scale(nice=False, domain=ends), "")
        x = axes[unit]
        axis = log_axis() if kind else alt.Axis(tickCount=6)
        mean = alt.Y("mean", type="quantitative", scale=scale, title=name + kind, axis=axis)
        base = channels.data(points).encode(x=x, color=channels.color("stroke"))
        band = base.mark_area(stroke=None, clip=True).encode(
            y=alt.Y("best", type="quantitative", scale=scale), y2=alt.Y2("worst"), opacity=channels.opacity(0.1)
        )
        line = base.mark_line(strokeWidth=2, strokeJoin="round", clip=True).encode(
            y=mean, strokeDash=channels.dash("stroke"), opacity=channels.opacity()
        )
        layers = [band, line]
        if beside:
            theirs = channels.data(beside).encode(x=x, y=mean, color=channels.color("stroke"))
            layers.append(theirs.mark_line(strokeWidth=1, clip=True).encode(opacity=channels.opacity(0.6)))
            layers.append(
                theirs.mark_point(filled=False, size=40, strokeWidth=1.4, clip=domain is not None).encode(
                    opacity=channels.opacity(0.9),
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
            layers += names_at_the_ends(channels, names, x, mean, scale)
            near = alt.selection_point(name="near", on="pointerover", nearest=True, empty=False, clear="pointerout")
            layers.append(
                base.mark_point(filled=True, size=70, stroke=theme.background, strokeWidth=1, clip=domain is not None)
                .encode(
                    y=mean,
                    opacity=alt.OpacityValue(**alt.condition(near, alt.value(1), alt.value(0))),
                    tooltip=[
                        alt.Tooltip("contender", type="nominal", title="optimizer"),
                        alt.Tooltip("epoch", type="quantitative"),
                        *spread_tooltip(name)[1:],
                    ],
                )
                .add_params(near)
            )
        return channels.finish(*layers)._replace(
            axes={unit: each.to_dict(validate=False) for unit, each in axes.items()}
        )

    return Panel(title, draw, height=_HEIGHT, note=note)


def _x_axes(points: Rows) -> dict[str, dict[str, Any]]:
    """Return unit -> arguments of its encoding, of the units that all points have."""
    import altair as alt

    last = max(row["epoch"] for row in points)
    # Few epochs have a tick each: ticks between them would be rounded to repeated labels.
    ticks = {"values": list(range(last + 1))} if last < 10 else {"tickMinStep": 1}
    found = {
        "epoch": {
            "title": "epoch",
            "scale": alt.Scale(domain=[0, last], nice=False),
            "axis": alt.Axis(grid=False, format="d", **ticks),
        }
    }
    for unit, title in _UNITS.items():
        if all(math.isfinite(row.get(unit, math.nan)) for row in points):
            end = max(row[unit] for row in points)
            found[unit] = {
                "title": title,
                "scale": alt.Scale(domain=[0, end], nice=False),
                "axis": alt.Axis(grid=False, format="~s" if unit == "step" else ".6~g", tickCount=8),
            }
    return {unit: {"shorthand": unit, "type": "quantitative"} | each for unit, each in found.items()}


def _ends(values: Sequence[float], log: bool) -> tuple[float, float]:
    """Return the ends of an axis that shows all values.

    With some room if it is linear.
    """
    low, high = min(values), max(values)
    if math.isclose(low, high):  # the logarithms of neighbouring floats can be equal
        return (low / 2, high * 2) if log and low > 0 else (low - 0.5, high + 0.5)
    room = 0.0 if log else 0.03 * (high - low)
    return low - room, high + room


def end_names(points: Rows, ends: tuple[float, float], log: bool) -> Rows:
    """Return rows of contender, name, mean and, where the name stands, place.

    Args:
        points: rows of contender, epoch and mean; those of the last epoch count.
        ends: of the axis.
        log: whether it is logarithmic.
    """
    last: dict[str, dict[str, Any]] = {}
    for row in points:
        if row["epoch"] >= last.get(row["contender"], row)["epoch"]:
            last[row["contender"]] = row
    level, value = _scale(ends, log)
    inside = {label: min(max(row["mean"], ends[0]), ends[1]) for label, row in last.items()}
    wanted = [(1 - level(mean)) * _HEIGHT for mean in inside.values()]
    places = spread_out(wanted, _LINE, _HEIGHT)
    return [
        last[label] | {"name": _shortened(label), "mean": mean, "place": value(1 - place / _HEIGHT)}
        for (label, mean), place in zip(inside.items(), places, strict=True)
    ]


def _scale(ends: tuple[float, float], log: bool) -> tuple[Callable[[float], float], Callable[[float], float]]:
    """Return value -> share of the axis and its inverse."""
    low, high = ends
    if log and low > 0:
        height = math.log(high) - math.log(low)
        return lambda v: (math.log(v) - math.log(low)) / height, lambda s: math.exp(math.log(low) + s * height)
    return lambda v: v / 2 / (high / 2 - low / 2) - low / 2 / (high / 2 - low / 2), lambda s: low * (1 - s) + high * s


def spread_out(wanted: Sequence[float], gap: float, length: float) -> list[float]:
    """Move places apart until they are ``gap`` from each other.

    Args:
        wanted: places on a line from 0 to ``length``, in any order.
        gap: the least distance; less where they would not fit.
        length: of the line.

    Returns:
        The places, in the order given, which minimize the sum of squared moves. They stay on the line.

    >>> spread_out([50.0, 10.0, 52.0], 10.0, 100.0)
    [46.0, 10.0, 56.0]
    """
    gap = min(gap, length / max(1, len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda k: wanted[k])
    # Without the gaps before each, the places must only not decrease: neighbours that do are pooled at their mean.
    blocks: list[tuple[float, int]] = []
    for rank, k in enumerate(order):
        blocks.append((wanted[k] - rank * gap, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (second, m), (first, n) = blocks.pop(), blocks.pop()
            blocks.append(((first * n + second * m) / (n + m), n + m))
    most = length - (len(wanted) - 1) * gap
    shifts = [min(max(mean, 0.0), most) for mean, size in blocks for _ in range(size)]
    places = [0.0] * len(wanted)
    for rank, k in enumerate(order):
        places[k] = shifts[rank] + rank * gap
    return places


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_NAME else f"{label[: _LONGEST_NAME - 1]}…"


def names_at_the_ends(channels: Channels, names: Rows, x: Any, mean: Any, scale: Any) -> list[Any]:
    """Return the names right of the plot, and lines to them.

    Args:
        channels: of the panel.
        names: as `end_names` returns them, with the field of ``x``.
        x, mean: the encodings of the lines' ends.
        scale: of the vertical axis.
    """
    import altair as alt

    shown = channels.data(names).transform_filter("labels")
    place = alt.Y("place", type="quantitative", scale=scale)
    end: Any = alt.XValue("width")  # type: ignore[no-untyped-call]
    beyond: Any = alt.X2Value(alt.ExprRef("width + 8"))  # type: ignore[no-untyped-call]
    line = shown.mark_rule(strokeWidth=1, strokeDash=[1, 2]).encode(
        x=x, x2=beyond, y=mean, y2=alt.Y2("place"), color=channels.color("stroke"), opacity=channels.opacity(0.6)
    )
    text = shown.mark_text(align="left", baseline="middle", dx=11).encode(
        x=end,
        y=place,
        text=alt.Text("name", type="nominal"),
        color=channels.color("stroke"),
        opacity=channels.opacity(),
    )
    return [line, text]
