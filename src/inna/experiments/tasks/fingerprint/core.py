"""The frame of a walk over everything reachable.

Digest, numbers of objects, containers, arrays and tensors.
"""

from __future__ import annotations

import hashlib
import sys
import types
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inna.experiments.tasks.fingerprint.state import attributes
from inna.experiments.tasks.fingerprint.values import ATOMS, array_bytes, atom_bytes, tensor_parts
from inna.experiments.tasks.packages import describe_package, is_own
from inna.experiments.tasks.task import describe_error

__all__ = ["Core", "RefusedError", "class_name", "importable"]


class RefusedError(ValueError):
    """A part that has no fingerprint: ``path`` leads to it."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} cannot be fingerprinted ({what})")
        self.path, self.what = path, what


class Core:
    """A digest of the values visited so far, in their order.

    Objects are told from each other by what they consist of, never by their address, dictionaries by their entries in
    order, and sets by theirs in any order. A second visit to an object, in a cycle for instance, adds the number of its
    first one.

    Args:
        version: takes the place of the parts that have no fingerprint; if empty, they are refused.
    """

    def __init__(self, version: str = "") -> None:
        self.version = version
        self.modules: dict[str, types.ModuleType] = {}
        self.held: dict[int, tuple[types.ModuleType, str]] = {}
        self.attribute_names: set[str] = set()
        self._hash = hashlib.sha256()
        self._numbers: dict[Any, int] = {}
        self._alive: list[object] = []  # as long as an address is a key, its object must exist
        self._ancestors: list[Any] = []

    def digest(self) -> str:
        """Return the digest, 64 hexadecimal digits."""
        return self._hash.hexdigest()

    def visit(self, value: Any, path: str) -> None:
        """Add ``value``; ``path`` is how messages name it.

        Raises:
            RefusedError: a part of it has no fingerprint, and there is no version.
        """
        if type(value) in ATOMS:
            self.add("atom", atom_bytes(value))
            return
        handle, numbered = self._handler(type(value))
        try:
            if not numbered:
                handle(value, path)
            elif self._enter(id(value), value):
                try:
                    handle(value, path)
                finally:
                    self._ancestors.pop()
        except RefusedError:
            raise
        except RecursionError:
            raise RefusedError(path, "it is nested too deeply") from None
        except Exception as error:
            self._refuse(path, f"{class_name(type(value))}: {describe_error(error)}")

    def add(self, tag: str, content: bytes | memoryview = b"") -> None:
        """Add bytes under a tag."""
        self._hash.update(b"%s %d:" % (tag.encode(), len(content)))
        self._hash.update(content)

    def add_text(self, tag: str, text: str) -> None:
        """Add a text under a tag."""
        self.add(tag, text.encode("utf-8", "surrogatepass"))

    def _handler(self, kind: type) -> tuple[Callable[[Any, str], None], bool]:
        """Return the method that adds values of a type, and whether they are numbered."""
        raise NotImplementedError

    def _refuse(self, path: str, what: str) -> None:
        if not self.version:
            raise RefusedError(path, what)
        self.add_text("version", self.version)

    def _enter(self, key: Any, value: object) -> bool:
        """Number an object that is met for the first time; return whether it is."""
        if key in self._numbers:
            self.add("again", b"%d" % self._numbers[key])
            return False
        self._numbers[key] = len(self._numbers)
        self._alive.append(value)
        self._ancestors.append(key)
        return True

    def _alone(self, value: Any, path: str) -> bytes:
        """Return the digest of a value that does not depend on its neighbours in a set."""
        walk = type(self)(self.version)
        walk._numbers = {key: number for number, key in enumerate(self._ancestors)}
        walk._ancestors, walk.modules = [*self._ancestors], self.modules
        walk.held, walk.attribute_names = self.held, self.attribute_names
        walk.visit(value, path)
        return walk._hash.digest()

    def _type(self, value: object, path: str) -> None:
        self.add("of type")
        self.visit(type(value), path)

    def _attributes(self, value: object, path: str, skip: Callable[[str], bool] = lambda name: False) -> None:
        for name, part in attributes(value):
            if not skip(name):
                self.add_text("attribute", name)
                self.visit(part, f"{path}.{name}")

    # Containers

    def _sequence(self, value: Iterable[Any], path: str) -> None:
        entries = [*value]
        self.add("sequence", b"%d" % len(entries))
        for position, entry in enumerate(entries):
            self.visit(entry, f"{path}[{position}]")

    def _list(self, value: list[Any], path: str) -> None:
        self.add("list")
        self._sequence(value, path)

    def _tuple(self, value: tuple[Any, ...], path: str) -> None:
        self.add("tuple")
        self._sequence(value, path)

    def _frozenset(self, value: frozenset[Any], path: str) -> None:
        self._set(value, path)

    def _set(self, value: Any, path: str) -> None:
        self.add_text("type", type(value).__name__)
        for digest in sorted(self._alone(entry, f"{path}[...]") for entry in value):
            self.add("entry", digest)

    def _mapping(self, value: Mapping[Any, Any], path: str) -> None:
        self.add("mapping", b"%d" % len(value))
        for key in value:
            place = f"{path}[{key!r}]" if type(key) in (str, int) else f"{path}[...]"
            self.add("key", self._alone(key, place))
            self.visit(value[key], place)

    def _dict(self, value: dict[Any, Any], path: str) -> None:
        self._mapping(value, path)

    def _ordered_dict(self, value: OrderedDict[Any, Any], path: str) -> None:
        self._type(value, path)
        self._mapping(value, path)

    # Arrays and tensors

    def _array(self, value: np.ndarray[Any, Any] | np.generic, path: str) -> None:
        self._type(value, path)
        array = np.asarray(value)
        self.add_text("dtype", repr(array.dtype.descr if array.dtype.names else array.dtype.str))
        self.add("shape", repr(array.shape).encode())
        content = array_bytes(array)
        if content is not None:
            self.add("entries", content)
        elif array.dtype.names:
            for name in array.dtype.names:
                self.visit(array[name], f"{path}[{name!r}]")
        elif array.dtype.kind in "fc":
            self._sequence(map(str, array.flat), path)
        else:
            self._sequence(array.reshape(-1).tolist(), path)
        if isinstance(value, np.ndarray):
            self._attributes(value, path)

    def _tensor(self, value: Tensor, path: str) -> None:
        self._type(value, path)
        for name, part in tensor_parts(value):
            self.add_text("part", name)
            if isinstance(part, np.ndarray):
                self.add("entries", part.data)
            else:
                self.visit(part, path)
        self._attributes(value, path)

    def _generator(self, value: torch.Generator, path: str) -> None:
        self.add("generator", value.get_state().numpy().tobytes())

    def _constant(self, value: Any, path: str) -> None:
        self.add_text("constant", f"{class_name(type(value))} {value}")


def class_name(kind: type) -> str:
    """Return module and name of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def importable(value: Any) -> str | None:
    """Return package, version and name of a function or class.

    None unless its module has it under its name.
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module not in sys.modules or is_own(module):
        return None
    found: Any = sys.modules[module]
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{describe_package(module)} {module}:{name}" if found is value else None
