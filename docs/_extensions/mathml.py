"""Formulas as MathML, made at build time by docutils' own converter: no script, no fonts, no network."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

# What the converter does not know: \boxed, which only sets off what it encloses, and fractions without braces.
_BOX = re.compile(r"\\boxed\s*\{(.*)\}\s*$", re.DOTALL)
_FRACTION = re.compile(r"\\([td]?frac)(\w)(\w)")


def convert(text: str, *, block: bool) -> str:
    """TeX as a MathML element.

    Raises:
        docutils.utils.math.MathError: it has a command that MathML cannot be made of.
    """
    plain = _FRACTION.sub(r"\\\1{\2}{\3}", _BOX.sub(r"\1", text.strip()))
    return tex2mathml(plain, as_block=block)


def visit_inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(convert(node.astext(), block=False))
    raise nodes.SkipNode


def visit_block(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math" tabindex="0">{convert(node.astext(), block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
