"""What every page with charts is made of: frame, policy, style, the charting library, figures, their specifications.

The policy allows exactly the scripts and the style that are in the page, by their SHA-256; no evaluation of strings as
code (Vega runs its expression interpreter), no style attributes, no connection. Charts are specified once a theme and
share their data; charts.js draws those of the reader's theme.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import quote

import inna
from inna.experiments.charts.drawing import FONT, Figure, interactive, vega_lite_version
from inna.experiments.charts.html import json_data, line_key, source_hash, text
from inna.experiments.charts.themes import DARK, LIGHT, Style, Theme

__all__ = [
    "figure_markup",
    "legend",
    "navigation",
    "page_with_charts",
    "panel_id",
    "resource",
    "theme_style",
    "whole_page",
]

_PICTURE = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='7' fill='#0072b2'/>"
    "<path d='M5 6c4 22 8 4 12 14s6 3 10 5' fill='none' stroke='#fff' stroke-width='3.4' stroke-linecap='round'/></svg>"
)
_ICON = f"data:image/svg+xml,{quote(_PICTURE)}"


def whole_page(title: str, body: str, *, style: str, scripts: Sequence[str], data: Mapping[str, Any]) -> str:
    """The HTML of a page, whose policy allows these scripts and this style.

    Args:
        title: of the window, as plain text.
        body: markup.
        style, scripts: CSS, and JavaScript that runs in this order after the body.
        data: what the scripts find as JSON in elements of these ids.
    """
    blocks = [
        f'<script type="application/json" id="{name}">{json_data(value)}</script>' for name, value in data.items()
    ]
    blocks += [f"<script>{script}</script>" for script in scripts]
    return Template(resource("page.html")).substitute(
        policy=text(_policy(scripts, style)),
        version=text(inna.__version__),
        title=text(title),
        icon=_ICON,
        style=style,
        body=body,
        blocks="".join(f"{block}\n" for block in blocks),
    )


def page_with_charts(
    title: str,
    body: str,
    styles: Mapping[str, Style],
    drawn: Sequence[Figure],
    *,
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
) -> str:
    """A `whole_page` whose ``body`` has the markup of figures, and what draws them; its own scripts run after that."""
    return whole_page(
        title,
        body,
        style=_chart_style(styles, drawn),
        scripts=[_charting_library(), resource("charts.js"), *scripts],
        data={"figures": _specifications(drawn), **(data or {})},
    )


def _policy(scripts: Sequence[str], style: str) -> str:
    """The content-security policy under which these inline scripts and this inline style run, and nothing else."""
    return (
        f"default-src 'none'; script-src {' '.join(source_hash(script) for script in scripts)}; "
        f"style-src {source_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def resource(name: str, package: str = "inna.experiments.charts") -> str:
    """A file that lies beside the modules of a package."""
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


@cache
def _charting_library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that can stand inline, with the line ends a browser hashes."""
    import vl_convert

    source = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version())
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in source.lower() or "<!--" in source:
        raise RuntimeError("the bundle of vl-convert cannot stand inline: it contains a script or comment mark")
    return source


def theme_style(styles: Mapping[str, Style]) -> str:
    """The font and, light and dark, the colours of the page and of the contenders: --c0, --c1 and so on."""

    def variables(theme: Theme) -> str:
        colors = {f"c{position}": style.color(theme) for position, style in enumerate(styles.values())}
        colors |= {name: getattr(theme, name) for name in ("background", "text", "muted", "line")}
        return ":root{" + "".join(f"--{name}:{color};" for name, color in colors.items()) + "}"

    return f":root{{--font:{FONT};}}{variables(LIGHT)}@media (prefers-color-scheme:dark){{{variables(DARK)}}}\n"


def _chart_style(styles: Mapping[str, Style], drawn: Iterable[Figure]) -> str:
    """The style of a page with these figures: page.css and what it takes for granted."""
    keys = "".join(f".c{position}{{stroke:var(--c{position});}}" for position in range(len(styles)))
    # A chart's place is kept before it is drawn, so that nothing jumps; a style attribute would need unsafe-inline.
    places = "".join(
        f"#{panel_id(figure, position)}{{min-height:{panel.height + 45}px;}}"
        for figure in drawn
        for position, panel in enumerate(figure.panels)
    )
    return f"{theme_style(styles)}{resource('page.css')}{keys}{places}"


def navigation(sections: Mapping[str, str]) -> str:
    """Links to the sections of the page: id -> title."""
    links = "".join(f'<a href="#{name}">{text(title)}</a>' for name, title in sections.items())
    return f'<nav aria-label="Sections">{links}</nav>'


def legend(styles: Mapping[str, Style]) -> str:
    """A button per contender, which charts.js lets hide and show its marks, and one that shows all again."""
    buttons = "".join(
        f'<button type="button" aria-pressed="true" data-contender="{text(label)}" title="{text(label)}">'
        f"{line_key(position, style)}<span>{text(label)}</span></button>"
        for position, (label, style) in enumerate(styles.items())
    )
    return (
        f'<div class="legend" role="toolbar" aria-label="Optimizers drawn in the charts">{buttons}'
        '<button type="button" class="all" id="show-all" disabled>show all</button></div>'
    )


def panel_id(figure: Figure, position: int) -> str:
    return f"chart-{figure.name}-{position}"


def _specifications(drawn: Iterable[Figure]) -> dict[str, Any]:
    """Panel id -> theme -> specification, and the data sets they share by name."""
    panels: dict[str, dict[str, Any]] = {}
    datasets: dict[str, Any] = {}
    for figure in drawn:
        for position, panel in enumerate(figure.panels):
            for theme in (LIGHT, DARK):
                specification, data = interactive(figure, panel, theme)
                panels.setdefault(panel_id(figure, position), {})[theme.name] = specification
                datasets |= data
    return {"panels": panels, "datasets": datasets}


def figure_markup(drawn: Iterable[Figure], section: str, *, titled: bool = False) -> str:
    """The figures of a section; a caption that several share stands once, under the first."""
    chosen = [figure for figure in drawn if figure.section == section]
    captions = [figure.caption for figure in chosen]
    parts = []
    for place, figure in enumerate(chosen):
        title = f"<h3>{text(figure.title)}</h3>" if titled else ""
        panels = "".join(
            "<div>"
            + (f'<p class="panel-title">{text(panel.title)}</p>' if panel.title else "")
            + f'<div class="chart" id="{panel_id(figure, position)}"></div></div>'
            for position, panel in enumerate(figure.panels)
        )
        grid = f'<div class="grid">{panels}</div>' if len(figure.panels) > 1 else panels
        caption = "" if figure.caption in captions[:place] else f"<figcaption>{text(figure.caption)}</figcaption>"
        parts.append(f"<figure>{title}{grid}{caption}</figure>")
    return "".join(parts)
