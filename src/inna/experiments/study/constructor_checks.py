"""Settings that constructors of optimizers refuse, read from their sources.

Only comparisons of arguments with numbers are understood, which torch's optimizers begin with. The class itself checks
again, and all else.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from inna.experiments.study.constructors import UNREAD, base_class, constructor

__all__ = ["refusal"]

_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}


def refusal(target: str, settings: Mapping[str, Any]) -> str | None:
    """Return the message with which a class refuses settings.

    None if its source shows no such check.

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
            case ast.If(test, [ast.Raise(exc=ast.Call(args=[message]))], []) if _known(test, values):
                text = _known(message, values)
                return text if isinstance(text, str) else None
            case ast.Expr(ast.Call(func=ast.Attribute(ast.Call(func=ast.Name("super")), "__init__")) as call):
                base = base_class(target)
                return base and refusal(base, dict(_passed(call, base, values)))
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                values.pop(node.id, None)
    return None


def _passed(call: ast.Call, base: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the arguments that a call of the base's constructor passes on.

    With their values, or `UNREAD` where they are computed.
    """
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


def _known(expression: ast.expr, values: Mapping[str, Any]) -> Any:
    """Return the value of an expression; None if it cannot be told."""
    with contextlib.suppress(LookupError, TypeError):
        return _evaluated(expression, values)
    return None


def _evaluated(expression: ast.expr, values: Mapping[str, Any]) -> Any:
    """Return the value of an expression of literals, comparisons and names.

    Raises:
        LookupError: it contains something else, or a name without a value.
        TypeError: it compares what has no order.
    """
    match expression:
        case ast.Constant(value):
            return value
        case ast.Name(name):
            return values[name]
        case ast.Subscript(of, ast.Constant(index)):
            return _evaluated(of, values)[index]
        case ast.UnaryOp(ast.Not(), of):
            return not _evaluated(of, values)
        case ast.UnaryOp(ast.USub(), of):
            return -_evaluated(of, values)
        case ast.BoolOp(ast.And(), parts):
            return all(_evaluated(part, values) for part in parts)
        case ast.BoolOp(ast.Or(), parts):
            return any(_evaluated(part, values) for part in parts)
        case ast.Compare(left, operators, right):
            sides = [_evaluated(each, values) for each in (left, *right)]
            pairs = zip(operators, itertools.pairwise(sides), strict=True)
            return all(_COMPARISONS[type(each)](*pair) for each, pair in pairs)
        case ast.JoinedStr(parts):
            return "".join(str(_evaluated(part, values)) for part in parts)
        case ast.FormattedValue(of, -1, None):
            return _evaluated(of, values)
        case ast.Call(ast.Attribute(ast.Constant(str(template)), "format"), parts, []):
            return template.format(*(_evaluated(part, values) for part in parts))
    raise LookupError(f"{type(expression).__name__} is not understood")
