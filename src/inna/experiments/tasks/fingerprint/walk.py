"""Digest everything that can be reached from a value.

Its type, its state, its code and the globals of that.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from inna.experiments.tasks.fingerprint.core import RefusedError, class_name, importable
from inna.experiments.tasks.fingerprint.functions import Functions
from inna.experiments.tasks.fingerprint.state import attributes, contents, fields, has_hidden_state
from inna.experiments.tasks.packages import is_own

__all__ = ["RefusedError", "Walk"]

_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class that was made while Python runs
_OF_FETCHING = {
    "generator",
    "pin_memory",
    "pin_memory_device",
    "timeout",
    "prefetch_factor",
    "persistent_workers",
    "in_order",
    "_iterator",
    "_DataLoader__multiprocessing_context",
    "_DataLoader__initialized",
    "_IterableDataset_len_called",
}


class Walk(Functions):
    """Visits values of every type."""

    def _handler(self, kind: type) -> tuple[Callable[[Any, str], None], bool]:
        handle = _EXACT.get(kind)
        if handle is None:
            handle = next(handle for kinds, handle in _HANDLERS if issubclass(kind, kinds))
        return functools.partial(handle, self), handle not in _BY_VALUE

    def _class(self, value: type, path: str) -> None:
        name = None if is_own(value.__module__) else importable(value)
        if name or not value.__flags__ & _HEAP:
            self.add_text("class", name or class_name(value))
            return
        self.add_text("own class", value.__qualname__)
        self.visit(type(value), path)
        self._sequence(value.__bases__, path)
        for name, part in fields(value):
            self.add_text("field", name)
            self.visit(part, f"{path}.{name}")
        self._own(value.__module__)

    def _member(self, value: enum.Enum, path: str) -> None:
        self._type(value, path)
        self.add_text("member", str(value.name))
        self.visit(value.value, path)

    def _network(self, value: nn.Module, path: str) -> None:
        """Add a module: names and order of its parts decide, ids of hooks do not."""
        original = vars(value).get("_orig_mod")
        if isinstance(original, nn.Module):  # of torch.compile
            self.add("compiled")
            self.visit(original, path)
            return
        self._type(value, path)
        for name, part in attributes(value):
            if name == "_compiled_call_impl":
                continue
            self.add_text("attribute", name)
            if "hook" in name and isinstance(part, dict):
                self._sequence(part.values(), f"{path}.{name}")
            elif name in ("_modules", "_parameters", "_buffers"):
                self.add("parts", b"%d" % len(part))
                for key, inner in part.items():
                    self.add_text("part", key)
                    self.visit(inner, f"{path}.{key}")
            else:
                self.visit(part, f"{path}.{name}")

    def _loader(self, value: DataLoader[Any], path: str) -> None:
        """Add a loader without what only decides how it fetches.

        Its generators are seeded by the run.
        """
        self._type(value, path)
        self._attributes(value, path, lambda name: name in _OF_FETCHING)

    def _sampler(self, value: Sampler[Any], path: str) -> None:
        self._type(value, path)
        self._attributes(value, path, lambda name: name == "generator")

    def _reference(self, value: weakref.ref[Any], path: str) -> None:
        self.add("reference")
        self.visit(value(), path)

    def _object(self, value: object, path: str) -> None:
        if isinstance(vars(type(value)).get("__qualname__"), types.GetSetDescriptorType):  # a compiled function
            name = importable(value)
            if name:
                self.add_text("function", name)
                return
        self._type(value, path)
        own = is_own(type(value).__module__) or importable(type(value)) is None
        whole = contents(value)
        if not own or (has_hidden_state(type(value)) and whole is None):
            self._reduced(value, path)
        if not own:
            return
        if isinstance(whole, dict):
            self._mapping(whole, path)
        elif isinstance(whole, (set, frozenset)):
            self._set(whole, path)
        elif isinstance(whole, (list, tuple)):
            self._sequence(whole, path)
        elif whole is not None:
            self.visit(whole, path)
        self._attributes(value, path)

    def _reduced(self, value: object, path: str) -> None:
        """Add an object by what pickle would rebuild it from."""
        reduce = copyreg.dispatch_table.get(type(value))
        parts = reduce(value) if reduce is not None else value.__reduce_ex__(4)
        if isinstance(parts, str):
            self.add_text("name", parts)
            return
        make, arguments, state, entries, items = (*parts, None, None, None)[:5]
        self.visit(make, path)
        self._sequence(arguments, path)
        for each in state if isinstance(state, tuple) else (state,):
            if isinstance(each, dict) and all(isinstance(name, str) for name in each):
                for name, part in sorted(each.items()):
                    self.add_text("attribute", name)
                    self.visit(part, f"{path}.{name}")
            else:
                self.visit(each, path)
        self._sequence(entries or (), path)
        self._mapping(dict(items or ()), path)


_BUILTINS = (
    types.BuiltinFunctionType,
    types.MethodWrapperType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
)
_EXACT: dict[type, Callable[[Walk, Any, str], None]] = {
    list: Walk._list,
    tuple: Walk._tuple,
    set: Walk._set,
    frozenset: Walk._frozenset,
    dict: Walk._dict,
    OrderedDict: Walk._ordered_dict,
}
_HANDLERS: tuple[tuple[Any, Callable[[Walk, Any, str], None]], ...] = (
    (type, Walk._class),
    (types.FunctionType, Walk._function),
    (types.MethodType, Walk._method),
    (_BUILTINS, Walk._builtin),
    ((types.MemberDescriptorType, types.GetSetDescriptorType), Walk._descriptor),
    (types.CodeType, Walk._code),
    (types.ModuleType, Walk._held_module),
    (functools.partial, Walk._partial),
    (functools._lru_cache_wrapper, Walk._cached),
    ((staticmethod, classmethod, property, functools.cached_property), Walk._wrapper),
    (enum.Enum, Walk._member),
    (Tensor, Walk._tensor),
    ((np.ndarray, np.generic), Walk._array),
    (torch.Generator, Walk._generator),
    ((torch.dtype, torch.device, torch.layout, torch.memory_format, np.dtype), Walk._constant),
    (nn.Module, Walk._network),
    (DataLoader, Walk._loader),
    (Sampler, Walk._sampler),
    (weakref.ref, Walk._reference),
    (types.MappingProxyType, Walk._dict),
    (object, Walk._object),
)
# Equal constants may be one object or several, as Python likes; so they are not numbered.
_BY_VALUE = {
    Walk._tuple,
    Walk._frozenset,
    Walk._method,
    Walk._builtin,
    Walk._descriptor,
    Walk._code,
    Walk._held_module,
    Walk._member,
    Walk._constant,
}
