"""The page of a report: one file with its charts, its JavaScript and its rows, under a strict content-security policy.

The policy allows exactly the two scripts and the style that are in the page, by their SHA-256; no evaluation of
strings as code (Vega runs its expression interpreter), no style attributes, no connection. Charts are specified once
a theme and share their data; the page's own script (page.js) draws those of the reader's theme.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources
from string import Template
from typing import Any
from urllib.parse import quote

import inna
from inna.experiments.drawing import FONT, vega_lite_version
from inna.experiments.figures import Figure, figures, interactive
from inna.experiments.markup import json_data, line_key, source_hash, text
from inna.experiments.page_sections import (
    cards,
    diverged_runs,
    footer,
    lead,
    method,
    provenance,
    verdicts,
    warnings_box,
)
from inna.experiments.palette import DARK, LIGHT, Theme, styles
from inna.experiments.results_table import results_heads, results_lines
from inna.experiments.rows import row_document
from inna.experiments.statistics import CONFIDENCE, Entry, Summary, finished
from inna.experiments.wording import count, percent

__all__ = ["build_page"]

ICON = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='7' fill='#0072b2'/>"
    "<path d='M5 6c4 22 8 4 12 14s6 3 10 5' fill='none' stroke='#fff' stroke-width='3.4' stroke-linecap='round'/></svg>"
)


def build_page(summary: Summary, notes: Sequence[str] = ()) -> str:
    """The page as HTML; ``notes`` are warnings about the rows themselves, shown first."""
    study, rows, drawn = summary.study, summary.rows(), figures(summary)
    library, script, style = _library(), _resource("page.js"), _style(summary, drawn)
    policy = (
        f"default-src 'none'; script-src {source_hash(library)} {source_hash(script)}; "
        f"style-src {source_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )
    lost = sum(not finished(result) for _, result in rows)
    sections = {
        "results": "Results",
        "curves": "Curves",
        "tuning": "Step sizes",
        "time": "Time",
        "diverged": f"Diverged runs ({lost})",
        "settings": "How it was made",
        "method": "Method",
    }
    return Template(_resource("page.html")).substitute(
        policy=text(policy),
        version=text(inna.__version__),
        title=text(f"{study.dataset}, {study.model}: {count(len(study.contenders), 'optimizer')} compared"),
        icon=f"data:image/svg+xml,{quote(ICON)}",
        style=style,
        heading=text(f"{study.dataset}: which optimizer trains best?"),
        lead=text(lead(summary)),
        navigation="".join(f'<a href="#{name}">{text(title)}</a>' for name, title in sections.items()),
        cards=cards(summary),
        summary_figures=_figures(drawn, "summary", titled=True),
        warnings=warnings_box(summary, notes),
        reference=text(study.reference),
        confidence=text(percent(CONFIDENCE)),
        heads=results_heads(summary),
        lines=results_lines(summary),
        verdicts=verdicts(summary),
        legend="".join(_legend_button(summary, entry) for entry in summary.entries),
        curves=_figures(drawn, "curves", titled=True) or _absent("No final run is done yet."),
        tuning=_figures(drawn, "tuning") or _absent("No tuning run is done yet."),
        time=_figures(drawn, "time") or _absent("The reference has no finished final run yet."),
        diverged=diverged_runs(summary),
        settings=provenance(summary),
        method=method(summary),
        footer=text(footer(summary)),
        figures=json_data(_specifications(drawn)),
        rows=json_data({"study": dataclasses.asdict(study), "rows": [row_document(*row) for row in rows]}),
        library=library,
        script=script,
    )


def _resource(name: str) -> str:
    return resources.files("inna.experiments").joinpath(name).read_text(encoding="utf-8")


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that can stand inline, with the line ends a browser hashes."""
    import vl_convert

    source = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version())
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in source.lower() or "<!--" in source:
        raise RuntimeError("the bundle of vl-convert cannot stand inline: it contains a script or comment mark")
    return source


def _style(summary: Summary, drawn: Iterable[Figure]) -> str:
    chosen = styles(summary.study)

    def variables(theme: Theme) -> str:
        colors = {f"c{position}": chosen[entry.label].color(theme) for position, entry in enumerate(summary.entries)}
        colors |= {name: getattr(theme, name) for name in ("background", "text", "muted", "line")}
        return ":root{" + "".join(f"--{name}:{color};" for name, color in colors.items()) + "}"

    keys = "".join(f".c{position}{{stroke:var(--c{position});}}" for position in range(len(summary.entries)))
    # A chart's place is kept before it is drawn, so that nothing jumps; a style attribute would need unsafe-inline.
    places = "".join(
        f"#{_panel_id(figure, position)}{{min-height:{panel.height + 45}px;}}"
        for figure in drawn
        for position, panel in enumerate(figure.panels)
    )
    return (
        f":root{{--font:{FONT};}}{variables(LIGHT)}@media (prefers-color-scheme:dark){{{variables(DARK)}}}\n"
        f"{_resource('page.css')}{keys}{places}"
    )


def _panel_id(figure: Figure, position: int) -> str:
    return f"chart-{figure.name}-{position}"


def _specifications(drawn: Iterable[Figure]) -> dict[str, Any]:
    """Panel id -> theme -> specification, and the data sets they share by name."""
    panels: dict[str, dict[str, Any]] = {}
    datasets: dict[str, Any] = {}
    for figure in drawn:
        for position, panel in enumerate(figure.panels):
            for theme in (LIGHT, DARK):
                specification, data = interactive(figure, panel, theme)
                panels.setdefault(_panel_id(figure, position), {})[theme.name] = specification
                datasets |= data
    return {"panels": panels, "datasets": datasets}


def _figures(drawn: Iterable[Figure], section: str, *, titled: bool = False) -> str:
    """The figures of a section; a caption that several share stands once, under the first."""
    chosen = [figure for figure in drawn if figure.section == section]
    captions = [figure.caption for figure in chosen]
    parts = []
    for place, figure in enumerate(chosen):
        title = f"<h3>{text(figure.title)}</h3>" if titled else ""
        panels = "".join(
            "<div>"
            + (f'<p class="panel-title">{text(panel.title)}</p>' if panel.title else "")
            + f'<div class="chart" id="{_panel_id(figure, position)}"></div></div>'
            for position, panel in enumerate(figure.panels)
        )
        grid = f'<div class="grid">{panels}</div>' if len(figure.panels) > 1 else panels
        caption = "" if figure.caption in captions[:place] else f"<figcaption>{text(figure.caption)}</figcaption>"
        parts.append(f"<figure>{title}{grid}{caption}</figure>")
    return "".join(parts)


def _legend_button(summary: Summary, entry: Entry) -> str:
    label = text(entry.label)
    return (
        f'<button type="button" aria-pressed="true" data-contender="{label}" title="{label}">'
        f"{line_key(summary, entry)}<span>{label}</span></button>"
    )


def _absent(sentence: str) -> str:
    return f'<p class="note">{text(sentence)}</p>'
