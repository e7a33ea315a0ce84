"""Checks of arguments, with the same messages everywhere."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

__all__ = [
    "check_range",
    "check_text",
    "check_whole",
    "did_you_mean",
    "similar_beside",
]

LARGEST = 2**63 - 1


def check_range(
    name: str,
    value: Any,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    exclusive: bool = False,
    below: float = math.inf,
) -> float:
    """Return ``value`` as a float if it is a finite number in the range.

    Args:
        name: the argument's name, for the message.
        value: a number, or anything that ``float`` takes, such as a 0-dimensional array.
        minimum, maximum: the bounds of the closed range.
        exclusive: exclude ``minimum`` itself.
        below: an exclusive upper bound.

    Raises:
        ValueError: the value is out of the range; the message names the argument, the value and the range.

    >>> check_range("lr", -1.0, minimum=0.0)
    Traceback (most recent call last):
    ...
    ValueError: lr must be a finite number >= 0, got -1.0
    """
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    too_low = number <= minimum if exclusive else number < minimum
    if isinstance(value, (bool, str)) or not math.isfinite(number) or too_low or number > maximum or number >= below:
        bounds = []
        if minimum > -math.inf:
            bounds.append(f"{'>' if exclusive else '>='} {minimum:g}")
        if maximum < math.inf:
            bounds.append(f"<= {maximum:g}")
        if below < math.inf:
            bounds.append(f"< {below:g}")
        allowed = " and ".join(bounds)
        raise ValueError(f"{name} must be a finite number{' ' + allowed if allowed else ''}, got {value!r}")
    return number


def check_whole(name: str, value: Any, minimum: int) -> int:
    """Return ``value`` if it is a whole number >= ``minimum`` and < 2^63.

    Raises:
        ValueError: it is not; the message names the argument, the value and the range.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ValueError(f"{name} must be a whole number >= {minimum}, got {reprlib.repr(value)}")
    if value > LARGEST:
        raise ValueError(f"{name} must be a whole number < 2^63, got {reprlib.repr(value)}")
    return value


def check_text(name: str, value: Any) -> str:
    """Return ``value`` if it is a string.

    Raises:
        ValueError: it is not; the message names the argument and its type.
    """
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a string, got {type(value).__name__}")
    return value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of a message about the unknown ``word``.

    The most similar known one, or nothing.

    >>> did_you_mean("inan", ["sgd", "inna"]), did_you_mean("x", ["sgd", "inna"])
    (". Did you mean 'inna'?", '')
    """
    import difflib

    close = difflib.get_close_matches(word.lower(), list(known), n=1)
    return f". Did you mean {close[0]!r}?" if close else ""


def similar_beside(path: Path) -> str:
    """Return the end of a message about a missing file or folder.

    It names the most similar one beside it, or nothing.
    """
    try:
        names = [each.name for each in islice(path.parent.iterdir(), 1000)]
    except OSError:
        return ""
    return did_you_mean(path.name, names)
