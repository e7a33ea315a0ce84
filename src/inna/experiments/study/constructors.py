"""Constructors of optimizers, read from their sources.

Nothing is imported: importing torch takes seconds, and a report needs no framework.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache, reduce
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from inna import dynamics

__all__ = [
    "UNREAD",
    "base_class",
    "constructor",
    "constructor_defaults",
    "has_modes",
    "step_arguments",
    "takes_network",
    "torch_optimizers",
]

UNREAD = object()
"""The default of an argument that has none, or whose default is no literal."""


@cache
def torch_optimizers() -> Mapping[str, str]:
    """Return the classes of torch.optim by their names in small letters.

    Empty if its source cannot be read.
    """
    imported = (name for _, name in _imports("torch.optim"))
    return MappingProxyType(
        {name.lower(): name for name in sorted(imported) if name[0].isupper() and name != "Optimizer"}
    )


@cache
def constructor_defaults(target: str, method: str = "__init__") -> tuple[Mapping[str, Any], bool] | None:
    """Return the arguments of a class with their defaults.

    And whether it takes others.

    Args:
        target: the class, package:Class.
        method: the class method that makes the optimizer.

    Returns:
        Name -> default or `UNREAD`, without self and params; None if the source is not found.

    >>> constructor_defaults("inna.torch:INNA", "lr_free")
    (mappingproxy({'alpha': 0.5, 'beta': 0.5, 'loss_bound': 0.0}), True)
    """
    function = _methods(target).get(method)
    return None if function is None else (_defaults(function.args), function.args.kwarg is not None)


def constructor(target: str) -> tuple[ast.FunctionDef, Mapping[str, Any]] | None:
    """Return ``__init__`` of a class and the defaults of its arguments.

    None if its source is not found.
    """
    function = _methods(target).get("__init__")
    return None if function is None else (function, _defaults(function.args))


def base_class(target: str) -> str | None:
    """Return the base of a class as package:Class.

    None if it has several, or is of another package.

    >>> base_class("torch.optim:AdamW")
    'torch.optim:Adam'
    """
    match _class(target):
        case ast.ClassDef(bases=[ast.Name(name)]):
            return f"{target.partition(':')[0]}:{name}"
    return None


def takes_network(target: str) -> bool:
    """Return whether the constructor of a class takes a network, not parameters.

    >>> takes_network("inna.experiments.training.parts.muon:MuonAdamW"), takes_network("inna.torch:INNA")
    (True, False)
    """
    function = _methods(target).get("__init__")
    return function is not None and [each.arg for each in function.args.args[1:2]] == ["network"]


def has_modes(target: str) -> bool:
    """Return whether a class has methods to switch to training and to evaluation."""
    return {"train", "eval"} <= _methods(target).keys()


def step_arguments(target: str) -> Mapping[str, Any]:
    """Return the arguments of a class's own ``step`` with their defaults.

    >>> dict(step_arguments("torch.optim:SGD")), step_arguments("torch.optim:LBFGS")["closure"] is UNREAD
    ({'closure': None}, True)
    """
    function = _methods(target).get("step")
    return MappingProxyType({}) if function is None else _defaults(function.args, skipped=1)


def _methods(target: str) -> Mapping[str, ast.FunctionDef]:
    """Return the methods in the body of a class; none if its source is not found."""
    body = (found := _class(target)) and found.body
    return MappingProxyType({each.name: each for each in body or () if isinstance(each, ast.FunctionDef)})


def _class(target: str) -> ast.ClassDef | None:
    """Return the definition of a class; None if its source is not found."""
    package, _, name = target.partition(":")
    module = next((module for module, imported in _imports(package) if imported == name), package)
    for node in ast.walk(_source(module) or ast.Module([], [])):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return node
    return None


def _defaults(arguments: ast.arguments, skipped: int = 2) -> Mapping[str, Any]:
    """Return the arguments with their defaults.

    Without the first ones: self, and params of a constructor.
    """
    by_position = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [*[None] * (len(by_position) - len(arguments.defaults)), *arguments.defaults]
    pairs = [*zip(by_position, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return MappingProxyType({each.arg: _value(default) for each, default in pairs[skipped:]})


def _value(default: ast.expr | None) -> Any:
    if default is None:
        return UNREAD
    module, *attributes = ast.unparse(default).split(".")
    if module == "dynamics" and all(part.isidentifier() for part in attributes):
        return reduce(getattr, attributes, dynamics)
    try:
        return ast.literal_eval(default)
    except ValueError:
        return UNREAD


def _imports(package: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of what the ``__init__`` of ``package`` imports."""
    tree = _source(package)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ImportFrom) and node.module:
            module = f"{package}.{node.module}" if node.level else node.module
            yield from ((module, alias.asname or alias.name) for alias in node.names)


def _source(module: str) -> ast.Module | None:
    """Parse the source of ``module``, of which nothing is imported.

    None if it is not found.
    """
    top, *rest = module.split(".")
    found = find_spec(top)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin)
    if path.name == "__init__.py":
        inside = path.parent.joinpath(*rest)
        path = inside / "__init__.py" if inside.is_dir() else inside.with_suffix(".py")
    elif rest:
        return None
    try:
        return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
