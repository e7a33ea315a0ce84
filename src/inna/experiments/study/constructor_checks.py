"""What constructors of optimizers refuse, read from their sources.

Only comparisons of arguments with numbers are understood, which torch's optimizers begin with. The class itself checks
again, and all else.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from inna.experiments.study.constructors import UNREAD, base_class, constructor

__all__ = ["refusal"]

_UNDERSTOOD = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.cmpop, ast.Constant, ast.Name,
    ast.Load, ast.Subscript, ast.Tuple, ast.JoinedStr, ast.FormattedValue,
)  # fmt: skip


def refusal(target: str, settings: Mapping[str, Any]) -> str | None:
    """Return the message with which a class refuses settings; None if its source shows no such check.

    Args:
        target: the class, package:Class.
        settings: name -> value; other arguments have their defaults.

    >>> refusal("torch.optim:AdamW", {"eps": -1.0}), refusal("torch.optim:AdamW", {"eps": 1e-6})
    ('Invalid epsilon value: -1.0', None)
    >>> refusal("torch.optim:SGD", {"nesterov": True, "momentum": 0.0})
    'Nesterov momentum requires a momentum and zero dampening'
    """
    found = constructor(target)
    if found is None:
        return None
    function, defaults = found
    values = {name: value for name, value in {**defaults, **settings}.items() if value is not UNREAD}
    for statement in function.body:
        match statement:
            case ast.If(test, [ast.Raise(exc=ast.Call(args=[message]))], []) if _evaluated(test, values):
                return _text(message, values)
            case ast.Expr(ast.Call(func=ast.Attribute(ast.Call(func=ast.Name("super")), "__init__")) as call):
                base = base_class(target)
                return base and refusal(base, dict(_passed(call, base, values)))
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                values.pop(node.id, None)
    return None


def _passed(call: ast.Call, base: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield name and value of the arguments that a call of the base's constructor passes on as they are."""
    found = constructor(base)
    names = [argument.arg for argument in found[0].args.args[1:]] if found else []
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        names = []
    for name, value in [*zip(names, call.args, strict=False), *((each.arg, each.value) for each in call.keywords)]:
        match value:
            case ast.Name(id=own) if own in values and name:
                yield name, values[own]
            case ast.Constant(constant) if name:
                yield name, constant
            case _:
                yield name or "", UNREAD


def _text(message: ast.expr, values: Mapping[str, Any]) -> str | None:
    match message:
        case ast.Call(ast.Attribute(ast.Constant(str(template)), "format"), arguments, []):
            return template.format(*(_evaluated(each, values) for each in arguments))
    text = _evaluated(message, values)
    return text if isinstance(text, str) else None


def _evaluated(expression: ast.expr, values: Mapping[str, Any]) -> Any:
    """Return the value of an expression of literals and of names with values; None if it is another."""
    nodes = [*ast.walk(expression)]
    known = all(node.id in values for node in nodes if isinstance(node, ast.Name))
    if known and all(isinstance(node, _UNDERSTOOD) for node in nodes):
        with contextlib.suppress(TypeError, IndexError):
            return eval(
                compile(ast.Expression(expression), "<constructor>", "eval"), {"__builtins__": {}}, dict(values)
            )
    return None
