"""The directive ``summary``: a table of a module's public names with the first lines of their docstrings."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def first_line(value: Any) -> str:
    """The first line of the docstring; "" for a value whose type alone has one."""
    if not (inspect.isroutine(value) or inspect.isclass(value)):
        return ""
    return (inspect.getdoc(value) or "").partition("\n")[0]


class Summary(SphinxDirective):
    """``.. summary:: inna.torch`` lists what ``__all__`` names, in the order of the source."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        public = [name for name in module.__all__ if first_line(getattr(module, name))]
        lines = [".. list-table::", "   :class: summary", "   :widths: auto", ""]
        for name in public:
            lines.append(f"   * - :py:obj:`{name} <{module.__name__}.{name}>`")
            parts = first_line(getattr(module, name)).split("``")
            # Here |x| is an absolute value, in reStructuredText a substitution.
            text = "``".join(part if n % 2 else part.replace("|", r"\|") for n, part in enumerate(parts))
            lines.append(f"     - {text}")
        holder = nodes.container()
        self.state.nested_parse(StringList(lines, source=f"summary of {module.__name__}"), 0, holder)
        return holder.children if public else []


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("summary", Summary)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
