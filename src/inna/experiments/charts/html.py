"""Pieces of HTML: every name and sentence of a page goes through `text`, every data block through `json_data`."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from typing import Any

from inna.experiments.charts.themes import Style
from inna.experiments.formatting import plain

__all__ = [
    "facts",
    "json_data",
    "line_key",
    "scrolling_table",
    "source_hash",
    "text",
]


def text(value: Any) -> str:
    """``value`` as text of the page or of an attribute in double quotes.

    >>> text('<b onclick="x">')
    '&lt;b onclick=&quot;x&quot;&gt;'
    """
    return html.escape(plain(str(value)))


def json_data(value: Any) -> str:
    """JSON that can stand inside a script element: no "<" is left in it.

    >>> json_data({"name": "</script>"})
    '{"name":"\\\\u003c/script>"}'
    """
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def source_hash(source: str) -> str:
    """The source expression of a content-security policy that allows exactly this inline script or style.

    >>> source_hash("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def line_key(position: int, style: Style) -> str:
    """A small picture of a contender's line; its colour comes from the style sheet, which knows the theme."""
    dash = " ".join(str(length) for length in style.dash)
    return (
        f'<svg class="key" viewBox="0 0 26 12" aria-hidden="true"><path class="c{position}" d="M0 6H26" '
        f'stroke-dasharray="{dash}"/></svg>'
    )


def facts(pairs: Mapping[str, Any]) -> str:
    """A list of names and values."""
    items = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs.items())
    return f'<dl class="facts">{items}</dl>'


def scrolling_table(label: str, heads: Sequence[str], lines: Sequence[str], numbers: Sequence[int] = ()) -> str:
    """A table of markup lines in a box of its own that scrolls sideways; columns ``numbers`` are aligned right."""
    head = "".join(
        f'<th scope="col"{" class=number" if position in numbers else ""}>{text(each)}</th>'
        for position, each in enumerate(heads)
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{text(label)}"><table class="plain">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )
