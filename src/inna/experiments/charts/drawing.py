"""Draw the panels of a figure.

Themes, scales, axes, and the encodings that all of them share.

An interactive panel follows parameters that the page sets: ``hidden`` (labels that are filtered out), ``focus`` (the
highlighted label; empty for none) and ``labels`` (whether lines have names at their ends). A still panel has its own
legend.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from inna.experiments.charts.themes import Style, Theme
from inna.experiments.rows.run import Metric

__all__ = [
    "FONT",
    "Channels",
    "Drawing",
    "Figure",
    "Panel",
    "configuration",
    "interactive",
    "log_axis",
    "log_scale",
    "names_axis",
    "spread_tooltip",
    "still",
    "value_scale",
    "vega_lite_version",
]

FONT = '-apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif'

Rows = list[dict[str, Any]]
# The parameters that the page sets, with their first values.
_READER: Mapping[str, Any] = MappingProxyType({"hidden": [], "focus": "", "labels": True})


def vega_lite_version() -> str:
    """Return the version of Vega-Lite that Altair writes, in vl-convert's words."""
    import altair as alt

    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


class Drawing(NamedTuple):
    """An Altair chart without size and configuration, and its named data sets.

    ``axes`` are encodings of x that a reader can choose, by the field that they show; the first is drawn.
    """

    chart: Any
    datasets: dict[str, Rows]
    axes: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Panel:
    """One coordinate system, drawn by ``draw(theme, interactive)``.

    ``note`` is shown below its title; ``legend`` is whether a picture of it needs one, since names are nowhere else.
    """

    title: str
    draw: Callable[[Theme, bool], Drawing]
    height: int = 300
    width: int = 400
    note: str = ""
    legend: bool = False


@dataclass(frozen=True)
class Figure:
    """Panels with a common caption.

    ``name`` is the stem of files and ids, ``section`` the place in the page.
    """

    name: str
    section: str
    title: str
    caption: str
    panels: tuple[Panel, ...]

    def panel_id(self, position: int) -> str:
        """Return the id of a panel's element in a page."""
        return f"chart-{self.name}-{position}"


def still(figure: Figure, theme: Theme) -> dict[str, Any]:
    """Return the figure as one Vega-Lite specification, for PNG and SVG.

    It has its own size, legend and data.
    """
    import altair as alt

    drawings = [panel.draw(theme, False) for panel in figure.panels]
    panels = [
        drawing.chart.properties(
            title=alt.TitleParams(panel.title or figure.title, subtitle=panel.note or alt.Undefined),
            width=panel.width,
            height=panel.height,
        )
        for panel, drawing in zip(figure.panels, drawings, strict=True)
    ]
    chart = alt.hconcat(*panels, spacing=28) if len(panels) > 1 else panels[0]
    specification: dict[str, Any] = chart.configure(**configuration(theme), background=theme.background).to_dict()
    return specification | {"datasets": {name: rows for drawing in drawings for name, rows in drawing.datasets.items()}}


def interactive(
    figure: Figure, panel: Panel, theme: Theme, drawing: Drawing | None = None
) -> tuple[dict[str, Any], dict[str, Rows]]:
    """Return a panel as a specification for the page, and its data sets by name.

    It fills its place in the page. ``drawing`` is the panel drawn in this theme; None draws it.
    """
    drawing = drawing or panel.draw(theme, True)
    title = " – ".join(each for each in (figure.title, panel.title) if each)
    # The tests validate these specifications against Vega-Lite's schema; here it would take seconds.
    specification: dict[str, Any] = drawing.chart.to_dict(validate=False)
    # Altair would copy the chart, and each of its layers, for every one of these.
    specification |= {
        "width": "container",
        "height": panel.height,
        "description": f"{title}. {figure.caption}",
        "autosize": {"type": "fit-x", "contains": "padding"},
        # Room for the half of the last label beyond the axis.
        "padding": {"left": 2, "right": 14, "top": 5, "bottom": 2},
        "usermeta": {"legend": panel.legend},
        "params": [
            *specification.get("params", []),
            *({"name": name, "value": value} for name, value in _READER.items()),
        ],
    }
    config = specification["config"]
    settings = configuration(theme)
    config |= settings | {"view": config.get("view", {}) | settings["view"], "background": "transparent"}
    return specification, drawing.datasets


def configuration(theme: Theme) -> dict[str, Any]:
    """Return the Vega settings of a theme."""
    quiet = {"labelColor": theme.muted, "titleColor": theme.muted, "labelFont": FONT, "titleFont": FONT}
    return {
        "font": FONT,
        "view": {"stroke": None},
        "axis": quiet
        | {
            "domainColor": theme.line,
            "gridColor": theme.line,
            "gridOpacity": 0.7,
            "tickColor": theme.line,
            "labelFlush": False,
            "labelFontSize": 11,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
        },
        "legend": quiet | {"labelColor": theme.text, "labelFontSize": 12, "labelLimit": 220, "symbolStrokeWidth": 2},
        "title": {
            "color": theme.text,
            "subtitleColor": theme.muted,
            "font": FONT,
            "subtitleFont": FONT,
            "fontSize": 14,
            "subtitleFontSize": 11,
            "anchor": "start",
            "offset": 12,
        },
        "text": {"color": theme.muted, "font": FONT, "fontSize": 11},
    }


class Channels:
    """The encodings that all panels share: style, hidden and highlighted labels."""

    def __init__(self, styles: Mapping[str, Style], theme: Theme, interactive: bool) -> None:
        self.interactive = interactive
        self.theme = theme
        self.labels = list(styles)
        self._styles = styles
        self._datasets: dict[str, Rows] = {}

    def fixed(self, rows: Rows) -> Any:
        """Return a chart of ``rows`` of finite numbers and texts that ignores the legend."""
        import altair as alt

        # The name is a hash of the content: layers, panels and themes share one copy.
        name = hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:12]
        self._datasets[name] = rows
        return alt.Chart(alt.NamedData(name=name))

    def data(self, rows: Rows) -> Any:
        """Return a chart of rows with a ``contender``, which the legend filters."""
        chart = self.fixed(rows)
        return chart.transform_filter("indexof(hidden, datum.contender) < 0") if self.interactive else chart

    def color(self, legend: str = "") -> Any:
        """Return the colour of an optimizer.

        ``legend`` is the symbol in the legend of a still figure, "stroke" or "shape".
        """
        return self._channel("Color", [self._styles[label].color(self.theme) for label in self.labels], legend)

    def dash(self, legend: str = "") -> Any:
        """Return the dash pattern, as `color`."""
        return self._channel("StrokeDash", [list(self._styles[label].dash) for label in self.labels], legend)

    def shape(self, legend: str = "") -> Any:
        """Return the symbol, as `color`."""
        return self._channel("Shape", [self._styles[label].shape for label in self.labels], legend)

    def opacity(self, full: float = 1.0) -> Any:
        """Return the opacity: ``full``, and less for labels without the focus."""
        import altair as alt

        if not self.interactive:
            return alt.OpacityValue(full)
        shown = {"test": "focus === '' || focus === datum.contender", "value": full}
        return alt.OpacityValue(0.12 * full, condition=shown)

    def finish(self, *layers: Any) -> Drawing:
        """Return the layers on top of each other."""
        import altair as alt

        return Drawing(alt.layer(*layers), self._datasets)

    def _channel(self, kind: str, values: Sequence[Any], legend: str) -> Any:
        import altair as alt

        key = None
        if legend and not self.interactive:
            key = alt.Legend(title=None, symbolOpacity=1, symbolSize=120, symbolStrokeWidth=0)
            if legend == "stroke":
                key = alt.Legend(title=None, symbolOpacity=1, symbolSize=500, symbolType="stroke")
        return getattr(alt, kind)(
            "contender", type="nominal", scale=alt.Scale(domain=self.labels, range=list(values)), legend=key
        )


def log_scale(values: Iterable[float], **settings: Any) -> tuple[Any, str]:
    """Return a logarithmic scale and its mark in an axis title.

    Symmetric where numbers are zero or negative.
    """
    import altair as alt

    sizes = [value for value in values if math.isfinite(value)]
    if all(value > 0 for value in sizes):
        return alt.Scale(type="log", **settings), " (log)"
    smallest = min((abs(value) for value in sizes if value != 0), default=1.0)
    return alt.Scale(type="symlog", constant=smallest, **settings), " (symmetric log)"


def value_scale(measure: Metric, values: Iterable[float], **settings: Any) -> tuple[Any, str]:
    """Return the scale of a measure and its mark in an axis title.

    Losses are logarithmic.
    """
    import altair as alt

    if measure.name.endswith("_loss"):
        return log_scale(values, nice=False, **settings)
    return alt.Scale(zero=False, **settings), ""


def names_axis(grid: bool = True) -> Any:
    """Return an axis of labels."""
    import altair as alt

    return alt.Axis(labelLimit=150, ticks=False, domain=False, labelPadding=8, grid=grid)


def log_axis(grid: bool = True) -> Any:
    """Return a logarithmic axis with lines and ticks only at its labels."""
    import altair as alt

    labelled = {"condition": {"test": "datum.label !== ''", "value": 0.7}, "value": 0}
    return alt.Axis(
        format="~g",
        tickCount=6,
        grid=grid,
        gridOpacity=labelled,
        tickOpacity=labelled,
        labelOverlap="greedy",
        labelSeparation=12,
    )


def spread_tooltip(name: str) -> list[Any]:
    """Return the tooltip of a mean, its best and its worst."""
    import altair as alt

    return [
        alt.Tooltip("contender", type="nominal", title="optimizer"),
        *(
            alt.Tooltip(end, type="quantitative", title=f"{name}, {end}", format=".4~g")
            for end in ("mean", "best", "worst")
        ),
    ]
