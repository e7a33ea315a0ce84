"""The state of objects and classes.

Attributes, slots, fields, and what a built-in base class keeps.
"""

from __future__ import annotations

import contextlib
import enum
from collections import OrderedDict
from collections.abc import Iterator
from types import FunctionType, MemberDescriptorType
from typing import Any

__all__ = ["attributes", "contents", "fields", "has_hidden_state"]

_POINTER = tuple.__itemsize__
# Written by Python itself: addresses, lines, documentation, annotations, and what follows from the rest.
_WRITTEN = {
    "__abstractmethods__",
    "__annotate__",
    "__annotate_func__",
    "__annotations__",
    "__annotations_cache__",
    "__dict__",
    "__doc__",
    "__firstlineno__",
    "__match_args__",
    "__module__",
    "__orig_bases__",
    "__parameters__",
    "__qualname__",
    "__slotnames__",
    "__static_attributes__",
    "__type_params__",
    "__weakref__",
    "_abc_impl",
}


def attributes(value: object) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of ``value`` itself, sorted by name.

    Those in its dictionary and in slots.
    """
    kind = type(value)
    found: dict[str, Any] = {}
    for parent in reversed(kind.__mro__):
        declared = vars(parent).get("__slots__", ())
        for name, descriptor in vars(parent).items():
            special = name.startswith("__") and name.endswith("__") and name not in declared
            if isinstance(descriptor, MemberDescriptorType) and not special:
                try:
                    found[name] = descriptor.__get__(value, kind)
                except AttributeError:
                    continue  # never set
    with contextlib.suppress(AttributeError):
        found |= object.__getattribute__(value, "__dict__")
    return iter(sorted(found.items()))


def contents(value: object) -> Any:
    """Return what a subclass of a built-in type contains, as a plain value.

    None of another class.
    """
    if isinstance(value, OrderedDict):
        return [*OrderedDict.items(value)]
    if isinstance(value, dict):
        return dict(dict.items(value))
    if isinstance(value, str):
        return str.__str__(value)
    for number in (int, float, complex):
        if isinstance(value, number):
            return number.__pos__(value)  # type: ignore[arg-type]
    for kind in (list, tuple, set, frozenset, bytes, bytearray):
        if isinstance(value, kind):
            return kind(kind.__iter__(value))  # type: ignore[arg-type]
    return None


def has_hidden_state(kind: type) -> bool:
    """Return whether instances have state in C that no attribute shows.

    >>> import random
    >>> has_hidden_state(random.Random), has_hidden_state(enum.Enum)
    (True, False)
    """
    while kind is not object:
        base = kind.__base__ or object
        shown = sum(isinstance(part, MemberDescriptorType) for part in vars(kind).values())
        shown += sum(name in vars(kind) for name in ("__dict__", "__weakref__"))
        if kind.__itemsize__ != base.__itemsize__ or kind.__basicsize__ - base.__basicsize__ > shown * _POINTER:
            return True
        kind = base
    return False


def fields(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a class of one's own, sorted by name.

    Without those that Python writes itself.
    """
    skipped = set(_WRITTEN)
    if issubclass(kind, enum.Enum):
        members = kind.__members__
        yield "members", [(name, member.name, member._value_) for name, member in members.items()]
        skipped |= {*members, *(name for name in vars(kind) if name.startswith("_") and not name.startswith("__"))}
    for name, part in sorted(vars(kind).items()):
        original = _without_torchs_hook(part)
        inherited = original is not part and original is _without_torchs_hook(getattr(super(kind, kind), name, None))
        if name not in skipped and not inherited:
            yield name, original


def _without_torchs_hook(part: Any) -> Any:
    """Return the ``step`` that torch wraps in an optimizer's class, or ``part``.

    Torch wraps it when the first optimizer is made.
    """
    hooked = isinstance(part, FunctionType) and vars(part).get("hooked") is True
    return vars(part).get("__wrapped__", part) if hooked else part
