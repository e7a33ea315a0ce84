"""The names that the code of a function, and of the functions in it, uses."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import NamedTuple

__all__ = ["Names", "inner_code", "names"]

_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")


class Names(NamedTuple):
    """The names in a code object.

    Attributes:
        globals: names that are looked up in the module.
        attributes: all other names, among them those of attributes.
        imports: (module, level) of each import statement; the level is that of a relative import.
    """

    globals: frozenset[str]
    attributes: frozenset[str]
    imports: frozenset[tuple[str, int]]


@lru_cache(maxsize=4096)
def names(code: CodeType) -> Names:
    """Return the names that ``code`` uses.

    >>> sorted(names((lambda x: len(dis.dis(x))).__code__).globals)
    ['dis', 'len']
    """
    used, imports, attributes = set[str](), set[tuple[str, int]](), set[str]()
    for part in (code, *inner_code(code)):
        attributes.update(part.co_names)
        constants: list[object] = []
        for instruction in dis.get_instructions(part):
            if instruction.opname in _GLOBAL:
                used.add(instruction.argval)
            elif instruction.opname == "IMPORT_NAME":
                level = constants[-2] if len(constants) > 1 else 0
                imports.add((instruction.argval, level if isinstance(level, int) else 0))
            elif instruction.opname.startswith("LOAD_"):
                constants.append(instruction.argval)
    return Names(frozenset(used), frozenset(attributes), frozenset(imports))


def inner_code(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of functions and classes inside ``code``, at any depth.

    Of comprehensions, too.
    """
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from inner_code(constant)
