"""A name of the package that stands as code in a page leads to its entry in the API reference."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from types import ModuleType
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

# What the API reference documents, and what it calls public.
MODULES = (
    "inna.torch",
    "inna.optax",
    "inna.keras",
    "inna.dynamics",
    "inna.schedules",
    "inna.theory.objectives",
    "inna.theory.flow",
    "inna.theory.energy",
    "inna.theory.monitor",
    "inna.theory.rates",
    "inna.theory.stability",
    "inna.theory.curvature",
    "inna.theory.criticality",
    "inna.theory.modules",
    "inna.theory.avoidance",
    "inna.theory.minnorm",
    "inna.theory.figure1",
    "inna.theory.demonstrations",
    "inna.experiments",
)
_NAME = re.compile(r"[A-Za-z_][\w.]*")


def public_names() -> list[str]:
    """Every public name with its module: ``inna.torch.INNA`` and so on."""
    names = []
    for module in MODULES:
        found = importlib.import_module(module)
        names += [f"{module}.{name}" for name in found.__all__ if not isinstance(getattr(found, name), ModuleType)]
    return names


def _telling(name: str) -> bool:
    """Whether a name by itself can only be meant as one: not an everyday word such as step, energy or train."""
    return "_" in name or name != name.lower()


class LinkNames(SphinxTransform):
    """Code that is a public name, alone or with its module, becomes a link."""

    default_priority = 10

    def apply(self, **kwargs: Any) -> None:
        full = public_names()
        seen = Counter(name.rpartition(".")[2] for name in full)
        known = {name: name for name in [*full, *MODULES]}
        for name in full:
            short = name.rpartition(".")[2]
            if seen[short] == 1 and _telling(short):
                known[short] = name
        # The optimizers are most often torch's.
        known |= {short: f"inna.torch.{short}" for short in ("INNA", "INNAprop")}
        for literal in list(self.document.findall(nodes.literal)):
            text = literal.astext().removesuffix("()")
            if _NAME.fullmatch(text) is None or text not in known or self.linked(literal):
                continue
            target = known[text]
            link = addnodes.pending_xref(
                "", refdomain="py", reftype="mod" if target in MODULES else "obj", reftarget=target, refexplicit=True
            )
            link["refwarn"] = True
            literal.replace_self(link)
            link += literal

    @staticmethod
    def linked(node: nodes.Node) -> bool:
        above = node.parent
        while above is not None:
            if isinstance(above, (nodes.reference, addnodes.pending_xref, nodes.title)):
                return True
            above = above.parent
        return False


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_transform(LinkNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
