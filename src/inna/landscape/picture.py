"""Figures of a landscape.

Contours with the paths, and loss and energy over the iterations below.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inna.experiments.charts.drawing import Channels, Drawing, Figure, Panel, Rows, configuration
from inna.experiments.charts.themes import Style, Theme, assign
from inna.experiments.formatting import count, enumerate_words, short
from inna.landscape.paths import Path
from inna.landscape.scenes import Frame, Scene
from inna.landscape.thinning import Thinned, extremes, thin

__all__ = ["Picture", "figure", "path_summaries", "still"]

Floats = NDArray[np.float64]

# The largest distance of an iterate from its line, as a fraction of the frame: about a quarter of a pixel.
TOLERANCE = 4e-4
VERTICES = 4_000
# Curves show the first, last, smallest and largest value of each of this many stretches.
STRETCHES = 300
# Smaller differences to the minimum are rounding errors.
FLOOR = 1e-16
LEVELS = 16
GRID = 301
# Pixels of a still picture.
WIDTH = 860
SPACING = 40


@dataclass(frozen=True, eq=False)
class Picture:
    """A scene with paths from one start.

    Attributes:
        scene: the landscape.
        frame: the part of the plane to draw.
        paths: one per optimizer.
        steps: iterations asked for.
        q: power of the schedule γ(k + 1)^-q.
    """

    scene: Scene
    frame: Frame
    paths: Sequence[Path]
    steps: int
    q: float = 0.0

    @property
    def styles(self) -> dict[str, Style]:
        """Label -> style of each path."""
        return assign([(path.optimizer.label, path.optimizer.kind) for path in self.paths])

    def thinned(self) -> list[Thinned]:
        """Return the paths as few vertices."""
        return [thin(path.theta, self.frame, TOLERANCE, VERTICES) for path in self.paths]


def path_summaries(picture: Picture) -> list[tuple[str, str, str]]:
    """Return label, settings and result of each path.

    Its last point, and when it left the frame or diverged.
    """
    lines = []
    for path in picture.paths:
        left = path.left_at(picture.frame)
        if path.diverged_at is not None:
            end = f"diverged: no finite loss from iteration {path.diverged_at} on"
        else:
            x, y = path.theta[-1]
            end = f"J = {short(path.value[-1])} at ({short(x)}, {short(y)}) after {len(path.theta) - 1} iterations"
        if left is not None:
            end += f"; left the frame at iteration {left}"
        lines.append((path.optimizer.label, path.optimizer.description, end))
    return lines


def figure(picture: Picture) -> Figure:
    """Return the figure: plane, loss and energy, with a caption.

    The caption states how they were thinned.
    """
    thinned = picture.thinned()
    panels = [_plane(picture, thinned), _series(picture, "loss", "J", [path.value for path in picture.paths])]
    energies = [path.energy for path in picture.paths]
    if any(energy is not None for energy in energies):
        panels.append(_series(picture, "energy", "E / 2(1 + αβ)", energies))
    return Figure(
        name="landscape",
        section="landscape",
        title=picture.scene.objective.name,
        caption=_caption(picture, thinned),
        panels=tuple(panels),
    )


def still(picture: Picture, panels: Figure, theme: Theme) -> dict[str, Any]:
    """Return the figure as one Vega-Lite specification, for PNG and SVG.

    The plane is above the curves.
    """
    import altair as alt

    drawings = [panel.draw(theme, False) for panel in panels.panels]
    plane, *curves = (
        drawing.chart.properties(title=panel.title, height=panel.height)
        for panel, drawing in zip(panels.panels, drawings, strict=True)
    )
    # Below, the width is shared; the curves' axes and titles take about 70 pixels each.
    part = (WIDTH - (len(curves) - 1) * (SPACING + 70)) / len(curves)
    below = alt.hconcat(*(curve.properties(width=part) for curve in curves), spacing=SPACING)
    chart = alt.vconcat(plane.properties(width=WIDTH, title=panels.title), below, spacing=SPACING)
    chart = chart.configure(**configuration(theme), background=theme.background)
    specification: dict[str, Any] = chart.to_dict()
    return specification | {"datasets": {name: rows for drawing in drawings for name, rows in drawing.datasets.items()}}


def _caption(picture: Picture, thinned: Sequence[Thinned]) -> str:
    iterates = sum(len(path.theta) for path in picture.paths)
    vertices = sum(line.vertices for line in thinned)
    farthest = max(line.tolerance for line in thinned)
    schedule = "constant learning rates" if picture.q == 0 else f"learning rates times (k + 1)^-{picture.q:g}"
    words = [
        f"J = {picture.scene.objective.formula}.",
        f"{count(picture.steps, 'iteration')} on the exact gradient, {schedule}.",
        f"{iterates:,} iterates are drawn with {vertices:,} vertices.",
        f"No iterate in the frame is farther from its line than {100 * farthest:.2g} % of the frame’s size.",
        f"Loss and energy show the first, last, smallest and largest value of each of {STRETCHES} stretches.",
    ]
    crowded = [path.optimizer.label for path, line in zip(picture.paths, thinned, strict=True) if line.skipped]
    if crowded:
        named = enumerate_words(crowded)
        words.append(f"Only the beginning of {named} is drawn: the path crosses the edge of the frame too often.")
    if picture.scene.lowest is not None:
        words.append(f"Differences to the minimum under {FLOOR:g} are drawn at it.")
    else:
        words.append("They end where a path leaves the frame, because J is unbounded below.")
    return " ".join(words)


def _contours(picture: Picture) -> list[tuple[float, Floats]]:
    """Return (height in [0, 1], vertices) of each line of equal J.

    The height is above the lowest level.
    """
    import contourpy

    frame = picture.frame
    x, y = np.linspace(frame.left, frame.right, GRID), np.linspace(frame.bottom, frame.top, GRID)
    heights = picture.scene.objective.value(np.stack(np.meshgrid(x, y), axis=-1))
    if picture.scene.lowest is not None:
        heights = heights - picture.scene.lowest
        low, high = np.quantile(heights, [0.003, 0.995])
        levels = np.geomspace(max(low, 1e-6 * high), high, LEVELS)
    else:
        levels = np.unique(np.quantile(heights, np.linspace(0, 1, LEVELS + 2)[1:-1]))
    generator = contourpy.contour_generator(x, y, heights)
    return [
        (place / len(levels), line)
        for place, level in enumerate(levels)
        for whole in generator.lines(level)
        for line in thin(np.asarray(whole), frame, TOLERANCE, VERTICES).pieces
    ]


def _plane(picture: Picture, thinned: Sequence[Thinned]) -> Panel:
    frame, objective = picture.frame, picture.scene.objective
    contours: Rows = [
        {"line": number, "height": round(height, 3), "order": order, "x": _digits(x), "y": _digits(y)}
        for number, (height, line) in enumerate(_contours(picture))
        for order, (x, y) in enumerate(line)
    ]
    lines: Rows = []
    ends: Rows = []
    # INNA's path is the first; it is drawn last, on top of the others.
    for path, line in reversed(list(zip(picture.paths, thinned, strict=True))):
        label = path.optimizer.label
        lines += [
            {"contender": label, "piece": f"{label} {number}", "order": order, "x": _digits(x), "y": _digits(y)}
            for number, piece in enumerate(line.pieces)
            for order, (x, y) in enumerate(piece)
        ]
        x, y = path.theta[-1]
        if frame.left <= x <= frame.right and frame.bottom <= y <= frame.top:
            ends.append({"contender": label, "x": float(x), "y": float(y), "J": float(path.value[-1])})
    kinds = (
        ("minimiser", objective.minimisers),
        ("saddle", objective.saddles),
        ("spurious point", objective.spurious_points),
    )
    marks: Rows = [
        {"kind": kind, "x": float(x), "y": float(y)}
        for kind, points in kinds
        for x, y in points
        if frame.left <= x <= frame.right and frame.bottom <= y <= frame.top
    ]
    origin = picture.paths[0].theta[0]
    marks.append({"kind": "start", "x": float(origin[0]), "y": float(origin[1])})

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(picture.styles, theme, interactive)
        axis = alt.Axis(grid=False, tickCount=7, format="~g")
        across = alt.Scale(domain=[frame.left, frame.right], nice=False)
        along = alt.Scale(domain=[frame.bottom, frame.top], nice=False)
        x = alt.X("x", type="quantitative", title="θ1", scale=across, axis=axis)
        y = alt.Y("y", type="quantitative", title="θ2", scale=along, axis=axis)
        levels = (
            channels.fixed(contours)
            .mark_line(strokeWidth=1, color=theme.muted, clip=True)
            .encode(
                x=x,
                y=y,
                detail=alt.Detail("line", type="nominal"),
                order=alt.Order("order", type="quantitative"),
                opacity=alt.Opacity(
                    "height", type="quantitative", scale=alt.Scale(domain=[0, 1], range=[0.55, 0.2]), legend=None
                ),
            )
        )
        paths = (
            channels.data(lines)
            .mark_line(strokeWidth=1.8, clip=True)
            .encode(
                x=x,
                y=y,
                detail=alt.Detail("piece", type="nominal"),
                order=alt.Order("order", type="quantitative"),
                color=channels.color("stroke"),
                opacity=channels.opacity(0.9),
            )
        )
        points = (
            channels.fixed(marks)
            .mark_point(size=110, filled=True, stroke=theme.background, strokeWidth=1)
            .encode(
                x=x,
                y=y,
                color=alt.ColorValue(theme.text),
                shape=alt.Shape(
                    "kind",
                    type="nominal",
                    scale=alt.Scale(
                        domain=["start", "minimiser", "saddle", "spurious point"],
                        range=["circle", STAR, "cross", "triangle-down"],
                    ),
                    legend=None,
                ),
                tooltip=[
                    alt.Tooltip("kind", type="nominal"),
                    alt.Tooltip("x", type="quantitative", title="θ1", format=".6~g"),
                    alt.Tooltip("y", type="quantitative", title="θ2", format=".6~g"),
                ],
            )
        )
        last = (
            channels.data(ends)
            .mark_point(size=90, filled=True, stroke=theme.background, strokeWidth=1.5)
            .encode(
                x=x,
                y=y,
                color=channels.color(),
                opacity=channels.opacity(),
                tooltip=[
                    alt.Tooltip("contender", type="nominal", title="last iterate of"),
                    alt.Tooltip("x", type="quantitative", title="θ1", format=".6~g"),
                    alt.Tooltip("y", type="quantitative", title="θ2", format=".6~g"),
                    alt.Tooltip("J", type="quantitative", format=".4~g"),
                ],
            )
        )
        return channels.finish(levels, paths, points, last)

    width, height = frame.size
    return Panel("", draw, height=round(min(max(WIDTH * height / width, 280), 560)))


def _series(picture: Picture, title: str, symbol: str, series: Sequence[Floats | None]) -> Panel:
    """Return the panel of loss or energy.

    The height above the minimum, if there is one, on a logarithmic scale.
    """
    lowest = picture.scene.lowest
    rows: Rows = []
    for path, values in reversed(list(zip(picture.paths, series, strict=True))):
        if values is None:
            continue
        heights = values if lowest is None else np.maximum(values - lowest, FLOOR)
        if lowest is None:
            heights = heights[: path.left_at(picture.frame)]
        rows += [
            {"contender": path.optimizer.label, "iteration": int(k), "value": _digits(heights[k])}
            for k in extremes(heights, STRETCHES)
            if math.isfinite(heights[k])
        ]

    def draw(theme: Theme, interactive: bool) -> Drawing:
        import altair as alt

        channels = Channels(picture.styles, theme, interactive)
        if lowest is None:
            scale, axis, name = alt.Scale(zero=False), alt.Axis(tickCount=6), symbol
        else:
            scale = alt.Scale(type="log", nice=False)
            axis = alt.Axis(format="~e", tickCount=6, labelOverlap="greedy", labelSeparation=10)
            name = f"{symbol} − min J (log)" if lowest else f"{symbol} (log)"
        chart = (
            channels.data(rows)
            .mark_line(strokeWidth=1.6, clip=True)
            .encode(
                x=alt.X("iteration", type="quantitative", title="iteration", axis=alt.Axis(grid=False, tickCount=6)),
                y=alt.Y("value", type="quantitative", title=name, scale=scale, axis=axis),
                color=channels.color(),
                opacity=channels.opacity(),
            )
        )
        return channels.finish(chart)

    return Panel(title, draw, height=240)


def _digits(value: float) -> float:
    """Round to six significant digits.

    That is finer than a pixel and halves the file.
    """
    return float(f"{value:.6g}")


STAR = "M0,-1L0.29,-0.4L0.95,-0.31L0.48,0.15L0.59,0.81L0,0.5L-0.59,0.81L-0.48,0.15L-0.95,-0.31L-0.29,-0.4Z"
