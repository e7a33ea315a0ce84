"""Self-contained HTML pages.

Jinja2 templates with their style, scripts and data inline.

The content-security policy allows exactly the scripts and the style of the page, by their SHA-256. It forbids code
from strings (Vega runs its expression interpreter), style attributes and connections. Charts are specified once per
theme and share their data; charts.js draws those of the reader's theme.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import inna
from inna.experiments.charts.drawing import FONT, Figure, interactive
from inna.experiments.charts.library import charting_library
from inna.experiments.charts.themes import BOTH, DARK, LIGHT, Style, Theme, in_theme
from inna.experiments.formatting import plain

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["chart_page", "key_style", "page", "resource", "theme_style"]

_PICTURE = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'><rect width='32' height='32' rx='7' fill='#0072b2'/>"
    "<path d='M5 6c4 22 8 4 12 14s6 3 10 5' fill='none' stroke='#fff' stroke-width='3.4' stroke-linecap='round'/></svg>"
)
_ICON = f"data:image/svg+xml,{quote(_PICTURE)}"


def page(
    template: str, *, title: str, style: str, scripts: Sequence[str], data: Mapping[str, Any], **context: Any
) -> str:
    """Render a page.

    Args:
        template: path below the package inna; it extends experiments/charts/page.html.
        title: of the window, as plain text.
        style: CSS.
        scripts: JavaScript, run in this order after the body.
        data: id -> value; the scripts find it as JSON in an element of this id.
        context: variables of the template. Every string is escaped.
    """
    from markupsafe import Markup

    return (
        _environment()
        .get_template(template)
        .render(
            policy=_policy(scripts, style),
            version=inna.__version__,
            title=title,
            icon=_ICON,
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            data=data,
            **context,
        )
    )


def chart_page(
    template: str,
    *,
    title: str,
    styles: Mapping[str, Style],
    figures: Sequence[Figure],
    scripts: Sequence[str] = (),
    data: Mapping[str, Any] | None = None,
    **context: Any,
) -> str:
    """Render a `page` with charts.

    Args:
        template: as for `page`; it places the figures with the macros of experiments/charts/macros.html.
        title: as for `page`.
        styles: label -> style, in the order of the legend.
        figures: the figures to draw.
        scripts: further scripts, run after the charting library.
        data: further data of the scripts.
        context: further variables of the template.
    """
    return page(
        template,
        title=title,
        style=_chart_style(styles, figures),
        scripts=[charting_library(), resource("experiments/charts/charts.js"), *scripts],
        data={"figures": _specifications(figures), **(data or {})},
        styles=styles,
        families=_families(styles),
        positions={label: position for position, label in enumerate(styles)},
        figures=figures,
        **context,
    )


def resource(path: str) -> str:
    """Read a text file of the package; ``path`` is relative to the package inna."""
    return resources.files(inna).joinpath(path).read_text(encoding="utf-8")


def theme_style(styles: Mapping[str, Style]) -> str:
    """Return the font and the colours of page and optimizers as CSS.

    The optimizers' are --c0, --c1 and so on, for light and for dark pages.
    """

    def variables(theme: Theme) -> str:
        colors = {f"c{position}": style.color(theme) for position, style in enumerate(styles.values())}
        colors |= {name: getattr(theme, name) for name in ("background", "text", "muted", "line")}
        return ":root{" + "".join(f"--{name}:{color};" for name, color in colors.items()) + "}"

    return f":root{{--font:{FONT};}}{variables(LIGHT)}@media (prefers-color-scheme:dark){{{variables(DARK)}}}\n"


def key_style(count: int) -> str:
    """Return the classes c0, c1, ... of the optimizers' keys as CSS.

    There are ``count`` of them.
    """
    return "".join(f".c{position}{{stroke:var(--c{position});}}" for position in range(count))


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("inna", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(str(value)),
    )
    environment.policies["json.dumps_kwargs"] = {
        "separators": (",", ":"),
        "ensure_ascii": False,
        "allow_nan": False,
    }
    return environment


def _policy(scripts: Sequence[str], style: str) -> str:
    """Return the content-security policy for these inline scripts and this style.

    It allows nothing else.
    """
    return (
        f"default-src 'none'; script-src {' '.join(_source_hash(script) for script in scripts)}; "
        f"style-src {_source_hash(style)}; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _source_hash(source: str) -> str:
    """Return the source expression of a policy that allows one script or style.

    >>> _source_hash("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _families(styles: Mapping[str, Style]) -> list[tuple[str, list[str]]]:
    """Return the labels by family.

    A family is at the place of its first label; an optimizer without one is alone.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for label, style in styles.items():
        found.setdefault(style.family or f"alone {label}", (style.family, []))[1].append(label)
    return list(found.values())


def _chart_style(styles: Mapping[str, Style], figures: Iterable[Figure]) -> str:
    # Reserving each chart's height avoids a jump when it is drawn. A style attribute would need unsafe-inline.
    places = "".join(
        f"#{figure.panel_id(position)}{{min-height:{panel.height + 45}px;}}"
        for figure in figures
        for position, panel in enumerate(figure.panels)
    )
    return f"{theme_style(styles)}{resource('experiments/charts/page.css')}{key_style(len(styles))}{places}"


def _specifications(figures: Iterable[Figure]) -> dict[str, Any]:
    """Return panel id -> theme -> specification, and what they share.

    Their common data sets, and the axes to choose.
    """
    from altair.utils.schemapi import debug_mode

    panels: dict[str, dict[str, Any]] = {}
    datasets: dict[str, Any] = {}
    axes: dict[str, Any] = {}
    # Altair would validate each part of each chart, which takes longer than the rest. The tests validate the charts.
    with debug_mode(False):
        for figure in figures:
            for position, panel in enumerate(figure.panels):
                # Drawing takes most of the time: once for both themes.
                drawing = panel.draw(BOTH, True)
                specification, data = interactive(figure, panel, BOTH, drawing)
                text = json.dumps(specification)
                if len(drawing.axes) > 1:
                    axes[figure.panel_id(position)] = drawing.axes
                panels[figure.panel_id(position)] = {
                    theme.name: json.loads(in_theme(text, theme)) for theme in (LIGHT, DARK)
                }
                datasets |= data
    return {"panels": panels, "datasets": datasets, "axes": axes}
