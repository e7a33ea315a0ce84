"""Rules about the source, read from it without importing it: who imports whom, and how long modules are."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, Collection[str]]


def read_sources(root: Path) -> dict[str, str]:
    """The text of each module of the package in ``root``, by its dotted name."""
    sources = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        sources[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text(encoding="utf-8")
    return sources


def imported(source: str) -> Iterator[tuple[str, str]]:
    """Each import in ``source``, in functions and under TYPE_CHECKING too: the module, and the name from it or ""."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import of {node.module}"
            yield from ((str(node.module), alias.name) for alias in node.names)


def import_graph(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Module -> the modules among ``sources`` that it imports."""
    graph = {}
    for module, source in sources.items():
        targets = {f"{name}.{part}" if f"{name}.{part}" in sources else name for name, part in imported(source)}
        graph[module] = {target for target in targets if target in sources and target != module}
    return graph


def circles(graph: Graph) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""

    def reachable(start: str) -> set[str]:
        found, waiting = set[str](), list(graph[start])
        while waiting:
            module = waiting.pop()
            if module not in found:
                found.add(module)
                waiting += graph[module]
        return found

    within = {module: reachable(module) for module in graph}
    groups = {frozenset(other for other in within[module] if module in within[other]) for module in graph}
    return sorted(sorted(group) for group in groups if group)


def room_of(module: str, rooms: Collection[str]) -> str:
    """The longest of ``rooms`` that contains ``module``.

    Raises:
        ValueError: there is none.
    """
    containing = [room for room in rooms if module == room or module.startswith(f"{room}.")]
    if not containing:
        raise ValueError(f"{module} is in no room of the table; add its room, and what that may import")
    return max(containing, key=len)


def forbidden_imports(graph: Graph, allowed: Mapping[str, Collection[str]]) -> list[str]:
    """The imports from one room into another that ``allowed`` (room -> rooms it may import) does not name."""
    return [
        f"{module} imports {target}"
        for module, targets in graph.items()
        for target in sorted(targets)
        if (room := room_of(module, allowed)) != (other := room_of(target, allowed)) and other not in allowed[room]
    ]


def third_party(source: str) -> set[str]:
    """The packages that ``source`` imports and that are neither Python's own nor inna."""
    return {name.split(".")[0] for name, _ in imported(source)} - sys.stdlib_module_names - {"inna"}


def code_lines(source: str) -> int:
    """Lines of code, without blank lines, comments and docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(source)
    texts = set[int]()
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            texts |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.lstrip().startswith("#") and n not in texts for n, line in lines)


def first_lines(source: str) -> list[str]:
    """The first lines of the docstrings in ``source``."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in ast.walk(ast.parse(source)) if isinstance(node, documented))
    return [text.splitlines()[0] for text in found if text]


def unfinished(source: str) -> list[str]:
    """The lines that announce missing work."""
    return [line.strip() for line in source.splitlines() if any(mark in line for mark in ("TODO", "FIXME", "XXX"))]
