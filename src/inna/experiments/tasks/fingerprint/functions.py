"""The part of a walk that visits functions.

Their code, defaults, closures, and the globals that they use.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import types
from typing import Any

from inna.experiments.tasks.fingerprint.bytecode import Names, names
from inna.experiments.tasks.fingerprint.core import Core, importable
from inna.experiments.tasks.own_code import import_module, source_digest
from inna.experiments.tasks.packages import describe_package, is_own, is_own_import

__all__ = ["Functions"]

_OF_THE_FILE = {
    "__file__",
    "__name__",
    "__spec__",
    "__loader__",
    "__path__",
    "__package__",
    "__cached__",
    "__builtins__",
}
_NO_NAMES = Names(frozenset(), frozenset(), frozenset())


class Functions(Core):
    """Visits functions, methods and modules."""

    def _function(self, value: types.FunctionType, path: str) -> None:
        original = vars(value).get("_torchdynamo_orig_callable")
        if original is not None:
            self.add("compiled")
            self.visit(original, path)
            return
        place = value.__globals__.get("__name__") or "__main__"
        own = is_own(place)
        name = None if own else importable(value)
        if name:
            self.add_text("function", name)
            return
        self.add("function", b"" if own else describe_package(place).encode())
        self._code(value.__code__, path)
        used = names(value.__code__) if own else _NO_NAMES
        self.attribute_names |= used.attributes
        if own:
            self._own(place)
            self._globals(used, value.__globals__, path)
        code, defaults = value.__code__, value.__defaults__ or ()
        arguments = code.co_varnames[: code.co_argcount]
        given = dict(zip(arguments[len(arguments) - len(defaults) :], defaults, strict=True))
        for name, default in (given | (value.__kwdefaults__ or {})).items():
            self.add_text("default", name)
            self._used(default, used, f"{path}.{name}")
        for name, cell in zip(code.co_freevars, value.__closure__ or (), strict=True):
            if place == "functools" and name in ("dispatch_cache", "cache_token"):
                continue  # of singledispatch; they change with calls
            self.add_text("cell", name)
            try:
                content = cell.cell_contents
            except ValueError:
                self.add("empty")
            else:
                self._used(content, used, f"{path}.{name}")
        for name, part in sorted(vars(value).items()):
            if place != "functools" or name != "_clear_cache":
                self.add_text("attribute", name)
                self.visit(part, f"{path}.{name}")

    def _code(self, code: types.CodeType, path: str) -> None:
        """Add what decides what code does; not its file, lines and name."""
        shape = (code.co_flags, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        self.add("code", repr(shape).encode())
        for part in (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars):
            self.add_text("names", "\n".join(part))
        self.add("bytecode", code.co_code)
        self.add("exceptions", code.co_exceptiontable)
        self._sequence(code.co_consts, path)

    def _globals(self, used: Names, namespace: dict[str, Any], path: str) -> None:
        for name in sorted(used.globals - _OF_THE_FILE):
            if name in namespace:
                self.add_text("global", name)
                self._used(namespace[name], used, f"{path}.{name}")
        for module, level in sorted(used.imports):
            self._import("." * level + module, str(namespace.get("__package__") or ""), used, path)

    def _import(self, module: str, package: str, used: Names, path: str) -> None:
        """Add a module that a function imports.

        A function may ask for one that is not there.
        """
        self.add_text("import", module)
        try:
            name = importlib.util.resolve_name(module, package)
            own = is_own_import(name)
            loaded = import_module(name) if own else None
        except ImportError:
            own = None
        if own is None:
            self.add("missing")
        elif own:
            self._used(loaded, used, f"{path}.{module}")
        else:
            self.add_text("module", f"{describe_package(name)} {name}")

    def _used(self, value: Any, used: Names, path: str) -> None:
        """Add a value; of a module of one's own, the attributes that are ``used`` too."""
        if not isinstance(value, types.ModuleType):
            self.visit(value, path)
            return
        self._module(value, path)
        if is_own(value.__name__) and self._enter((id(value), used.attributes), value):
            try:
                for name in sorted(used.attributes & vars(value).keys() - _OF_THE_FILE):
                    self.add_text("attribute", name)
                    self._used(vars(value)[name], used, f"{path}.{name}")
            finally:
                self._ancestors.pop()

    def visit_held_modules(self) -> None:
        """Add what the functions use of the modules that objects and containers hold.

        The last step of a walk. No function names such a module, so that any of its attributes counts whose name is in
        the code of any function.
        """
        seen: set[tuple[int, str]] = set()
        found = True
        while found:
            found = False
            for module, path in sorted(self.held.values(), key=lambda entry: entry[0].__name__):
                for name in sorted(self.attribute_names & vars(module).keys() - _OF_THE_FILE):
                    if (id(module), name) not in seen:
                        seen.add((id(module), name))
                        found = True
                        self.add_text("of a held module", f"{module.__name__}:{name}")
                        self.visit(vars(module)[name], f"{path}.{name}")

    def _held_module(self, value: types.ModuleType, path: str) -> None:
        self._module(value, path)
        if is_own(value.__name__):
            self.held.setdefault(id(value), (value, path))

    def _module(self, value: types.ModuleType, path: str) -> None:
        if is_own(value.__name__):
            self._own(value.__name__)
            self.add_text("own module", source_digest(value))
        else:
            self.add_text("module", f"{describe_package(value.__name__)} {value.__name__}")

    def _own(self, name: str) -> None:
        if name in sys.modules and is_own(name):
            self.modules[name] = sys.modules[name]

    def _method(self, value: types.MethodType, path: str) -> None:
        self.add("method")
        self.visit(value.__func__, path)
        self.visit(value.__self__, path)

    def _builtin(self, value: Any, path: str) -> None:
        self.add_text("builtin", f"{getattr(value, '__module__', '')} {value.__qualname__}")
        for owner in (getattr(value, "__objclass__", None), getattr(value, "__self__", None)):
            if type(owner).__name__ != "PyCapsule":  # of C++ functions
                self.visit(owner, path)

    def _descriptor(self, value: Any, path: str) -> None:
        self.add_text("descriptor", value.__name__)

    def _partial(self, value: functools.partial[Any], path: str) -> None:
        self._type(value, path)
        self.visit(value.func, path)
        self._sequence(value.args, path)
        for name, argument in sorted(value.keywords.items()):
            self.add_text("keyword", name)
            self.visit(argument, f"{path}.{name}")
        self._attributes(value, path)

    def _cached(self, value: Any, path: str) -> None:
        self.add("cached")
        self.visit(value.cache_parameters(), path)
        self.visit(value.__wrapped__, path)

    def _wrapper(self, value: Any, path: str) -> None:
        self._type(value, path)
        for name in ("__func__", "func", "fget", "fset", "fdel"):
            self.visit(getattr(value, name, None), path)
