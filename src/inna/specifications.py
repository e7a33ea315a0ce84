"""Specifications of optimizers as text.

``name`` or ``name:setting=value,setting=value``.
"""

from __future__ import annotations

import ast
import math
import re
from typing import Any

__all__ = ["check_number", "check_value", "is_number", "parse_settings", "read_value"]


def parse_settings(specification: str, settings: str) -> dict[str, str]:
    """Parse ``setting=value,setting=value``.

    Commas within parentheses belong to the value.

    Args:
        specification: the whole specification, for the message.
        settings: its settings; "" for none.

    Raises:
        ValueError: a setting is not written in this form, or given twice.

    >>> parse_settings("adam:lr=.01,betas=(.9,.99)", "lr=.01,betas=(.9,.99)")
    {'lr': '.01', 'betas': '(.9,.99)'}
    """
    parsed = {}
    for part in re.split(r",(?![^(]*\))", settings) if settings else ():
        name, _, value = (text.strip() for text in part.partition("="))
        if not name or not value:
            raise ValueError(f"{specification}: settings are written name=value,name=value; got {part!r}")
        if name in parsed:
            raise ValueError(f"{specification}: {name} is given twice")
        parsed[name] = value
    return parsed


def read_value(text: str) -> Any:
    """Read a number, true, false, none, or a tuple of numbers.

    Everything else is text.

    >>> read_value("1e-3"), read_value("true"), read_value("(.9,.99)"), read_value("fast")
    (0.001, True, (0.9, 0.99), 'fast')
    """
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return float(text) if text.lower().lstrip("+-") in ("nan", "inf") else text
    if isinstance(value, bool) or is_number(value):
        return value
    if isinstance(value, tuple) and all(part is None or is_number(part) for part in value):
        return value
    return text


def check_value(specification: str, name: str, default: Any, value: Any) -> Any:
    """Return ``value``, as a float if the default is one: 0 and 0.0 are the same.

    Optimizers check the ranges of their settings, and fail in odd ways if a type is wrong.

    Raises:
        ValueError: it is of another type than the default.
    """
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise ValueError(f"{specification}: {name} must be true or false, got {value!r}")
    elif isinstance(default, (int, float)):
        if isinstance(value, float) and value == default:  # Prodigy's growth rate is infinite
            return value
        number = check_number(specification, name, value)
        return number if isinstance(default, float) else value
    elif isinstance(default, tuple) and not (isinstance(value, tuple) and len(value) == len(default)):
        raise ValueError(f"{specification}: {name} must be {len(default)} numbers such as {default}, got {value!r}")
    return check_number(specification, name, value) if isinstance(value, float) else value


def check_number(specification: str, name: str, value: Any) -> float:
    """Return a finite number as a float.

    Raises:
        ValueError: it is none.
    """
    if not is_number(value) or not math.isfinite(value):
        raise ValueError(f"{specification}: {name} must be a finite number, got {value!r}")
    return float(value)


def is_number(value: Any) -> bool:
    """Return whether ``value`` is a number; true and false are none.

    >>> is_number(1), is_number(0.5), is_number(True), is_number("1")
    (True, True, False, False)
    """
    return isinstance(value, (int, float)) and not isinstance(value, bool)
