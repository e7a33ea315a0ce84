"""Text that several docstrings share, written once."""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable
from typing import TypeVar

__all__ = ["insert"]

T = TypeVar("T")


def insert(**texts: str) -> Callable[[T], T]:
    r"""Decorate a class or function.

    Replace the line ``{name}`` of its docstring by the text of that name.

    The text takes the indentation of the line. Without docstrings, under ``python -OO``, nothing happens.

    >>> @insert(shared="a: one.\nb: two.")
    ... def add(a, b):
    ...     '''Add.
    ...
    ...     Args:
    ...         {shared}
    ...     '''
    >>> "        a: one.\n        b: two.\n" in add.__doc__
    True
    """

    def fill(documented: T) -> T:
        for name, text in texts.items():
            if documented.__doc__ is not None:
                line = re.compile(rf"^([ \t]*)\{{{name}\}}$", re.MULTILINE)
                documented.__doc__ = line.sub(functools.partial(_indent, text), documented.__doc__)
        return documented

    return fill


def _indent(text: str, line: re.Match[str]) -> str:
    return textwrap.indent(text, line[1])
