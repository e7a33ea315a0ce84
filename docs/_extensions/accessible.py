"""The headings of furo's navigation get the level that assistive technology asks for."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

NAVIGATION = "furo_navigation_tree"


def level_headings(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    if NAVIGATION in context:
        context[NAVIGATION] = context[NAVIGATION].replace('role="heading"', 'role="heading" aria-level="2"')


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("html-page-context", level_headings, priority=900)  # after furo's own, which makes the navigation
    return {"parallel_read_safe": True, "parallel_write_safe": True}
