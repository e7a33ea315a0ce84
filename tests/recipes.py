"""The settings of INNA that the pages' examples name: each call, with the schedule that its example gives it."""

from __future__ import annotations

import ast
import copy
import re
from pathlib import Path

__all__ = ["recipes"]

ROOT = Path(__file__).parents[1]
PAGES = {
    "torch": (
        "README.md",
        "docs/cheat-sheet.md",
        "docs/choosing.md",
        "docs/from-sgd-or-adam.md",
        "docs/large-models.md",
        "docs/using-inna-in-pytorch.md",
    ),
    "optax": ("docs/from-sgd-or-adam.md", "docs/using-inna-in-jax.md"),
    "keras": ("docs/from-sgd-or-adam.md", "docs/using-inna-in-keras.md"),
}
CONSTRUCTORS = {
    "torch": {"INNA", "INNAprop", "INNA.from_sgd", "INNA.lr_free", "INNAprop.lr_free"},
    "optax": {"inna", "innaprop", "inna_lr_free", "innaprop_lr_free"},
    "keras": {"INNA", "INNAprop", "INNApropLRFree"},
}
# A recipe is given these when it runs; every other name that a page assigns is replaced by its value.
FREE = {"model", "params", "optimizer", "steps", "batches"}
# These choose how a step is computed and do not change it.
FLAGS = {"foreach", "fused", "capturable", "differentiable", "sum_over_ranks", "name", None}


def recipes(framework: str) -> set[str]:
    """The recipes of a framework's examples as Python expressions: "optimizer" or "optimizer; scheduler"."""
    found: set[str] = set()
    for page in PAGES[framework]:
        text = (ROOT / page).read_text(encoding="utf-8")
        values: dict[str, ast.expr] = {}
        trees = [ast.parse(block) for block in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
        for tree in trees:
            if _framework(tree) in (None, framework):
                found |= _of_block(tree, values, framework)
        if framework == "torch":
            # Calls with settings in a sentence or a table are recipes too.
            for code in re.findall(r"`(INNA(?:prop)?(?:\.\w+)?\([^`]*=[^`]*\))`", text):
                found |= _of_block(ast.parse(code), {}, framework)
    return found


def _framework(tree: ast.Module) -> str | None:
    """The framework whose optimizers a block imports."""
    modules = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    return next((name for name in CONSTRUCTORS if f"inna.{name}" in modules), None)


def _of_block(tree: ast.Module, values: dict[str, ast.expr], framework: str) -> set[str]:
    """The recipes of a block; ``values`` are the assignments of the page so far, and the block's are added."""
    found: set[str] = set()
    last, recipe = "", ""  # the variable of the last optimizer, and what was found of its recipe
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    for statement in sorted(statements, key=lambda node: (node.lineno, node.col_offset)):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        name = target.id if isinstance(target, ast.Name) else ""
        for call in _calls(statement):
            if ast.unparse(call.func) in CONSTRUCTORS[framework]:
                last, recipe = name, _inlined(_general(call, values, framework), values)
                found.add(recipe)
            elif last and "lr_scheduler." in ast.unparse(call.func) and ast.unparse(call.args[0]) == last:
                scheduler = copy.deepcopy(call)
                scheduler.args[0] = ast.Name("optimizer")
                found.remove(recipe)
                found.add(f"{recipe}; {_inlined(scheduler, values)}")
        if isinstance(statement, ast.Assign) and name and name not in FREE:
            values[name] = statement.value
    return found


def _calls(statement: ast.stmt) -> list[ast.Call]:
    """The calls of a statement itself, not those of statements inside it."""
    found = []
    pending: list[ast.AST] = [statement]
    while pending:
        node = pending.pop()
        found += [node] if isinstance(node, ast.Call) else []
        pending += [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.stmt)]
    return found


def _general(call: ast.Call, values: dict[str, ast.expr], framework: str) -> ast.Call:
    """The call without its flags, and on any model's parameters."""
    call = copy.deepcopy(call)
    call.keywords = [keyword for keyword in call.keywords if keyword.arg not in FLAGS]
    if framework == "torch":
        given = _Inline(values).visit(call.args[0]) if call.args else ast.Name("params")
        if isinstance(given, ast.Call) and ast.unparse(given.func) == "param_groups":
            given.args[0] = ast.Name("model")
        elif not (isinstance(given, ast.List) and isinstance(given.elts[0], ast.Dict)):
            given = ast.Name("params")
        call.args[:1] = [given]
    return call


class _Inline(ast.NodeTransformer):
    def __init__(self, values: dict[str, ast.expr]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in FREE or node.id not in self.values:
            return node
        value: ast.AST = self.visit(copy.deepcopy(self.values[node.id]))
        return value


def _inlined(call: ast.Call, values: dict[str, ast.expr]) -> str:
    return ast.unparse(_Inline(values).visit(call))
