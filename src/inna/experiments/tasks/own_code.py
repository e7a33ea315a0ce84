"""Import the user's own modules and files, from the working directory too.

The bytes that are hashed are the bytes that run: a module of one's own is compiled from its file each time it is
imported, never taken from a bytecode cache. Python believes a cache if size and time of the source agree, and files
that were copied, synchronised or unpacked can agree in both without being equal.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import linecache
import sys
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from inna.checks import similar_beside
from inna.experiments.tasks.packages import is_own, is_own_file

__all__ = [
    "changed_file",
    "find_module",
    "import_file",
    "import_module",
    "own_modules",
    "source_digest",
    "task_file",
]

PREFIX = "inna_task_"


class _OwnLoader(SourceFileLoader):
    """Loads a module from the bytes of its file, and remembers their digest."""

    def __init__(self, name: str, path: str, content: bytes | None = None) -> None:
        super().__init__(name, path)
        self.content = content
        self.digest = ""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        content = self.get_data(path) if self.content is None else self.content
        code = self.source_to_code(content, path)
        self.digest = hashlib.sha256(content).hexdigest()
        # Tracebacks show the lines that run; without a time they are not read again.
        lines = importlib.util.decode_source(content).splitlines(keepends=True)
        linecache.cache[path] = (len(content), None, lines, path)
        return code


class _OwnFinder:
    """Finds modules as the finders behind it, and loads one's own itself.

    By `_OwnLoader`.
    """

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return the spec of a module, None if there is none."""
        behind = sys.meta_path[sys.meta_path.index(cls) + 1 :]
        found = (finder.find_spec(name, path, target) for finder in behind if hasattr(finder, "find_spec"))
        spec = next(filter(None, found), None)
        loader = None if spec is None or name.partition(".")[0] == "inna" else spec.loader
        if spec is not None and type(loader) is SourceFileLoader and is_own_file(loader.path):
            spec.loader = _OwnLoader(loader.name, loader.path)
        return spec


def task_file(name: str, folder: Path | None = None) -> Path:
    """Return the file of the task ``file.py:function``.

    A relative one is in ``folder``, or the working directory.

    Raises:
        ValueError: there is no such file.
    """
    path = (folder or Path.cwd()) / Path(name.rpartition(":")[0]).expanduser()
    if not path.is_file():
        raise ValueError(f"task {name}: no such file: {path}{similar_beside(path)}")
    return path


def import_module(name: str) -> ModuleType:
    """Import a module by its name.

    Raises:
        ImportError: it does not exist, or cannot be imported.
    """
    _prepare()
    return importlib.import_module(name)


def find_module(name: str) -> Path | None:
    """Return the file of a module, or None if there is none.

    Only its parent packages are imported.

    Raises:
        ImportError: a parent package cannot be imported.
    """
    _prepare()
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def import_file(path: Path, content: bytes, digest: str) -> ModuleType:
    """Import ``content``, the bytes of the Python file ``path``.

    The module's name is made from ``digest``, so that another version is another module.

    Raises:
        ImportError: it is not a Python file.
    """
    _prepare()
    name = f"{PREFIX}{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_OwnLoader(name, str(path), content))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # It may import the modules beside it, as when Python runs the file.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def source_digest(module: ModuleType) -> str:
    """Return the SHA-256 of the source of a module.

    Of the bytes that were imported here, or else of its file.

    It is empty for a module without a file.
    """
    loader = _loader(module)
    return loader.digest if loader is not None else _file_digest(module)


def changed_file(module: ModuleType) -> str:
    """Return the file of ``module`` if it has changed since it was imported.

    "" if not, or if that is not known.
    """
    loader = _loader(module)
    return "" if loader is None or loader.digest == _file_digest(module) else loader.path


def _loader(module: ModuleType) -> _OwnLoader | None:
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return loader if isinstance(loader, _OwnLoader) and loader.digest else None


def _file_digest(module: ModuleType) -> str:
    try:
        return hashlib.sha256(Path(str(module.__file__)).read_bytes()).hexdigest()
    except (AttributeError, OSError):
        return ""


def own_modules() -> list[ModuleType]:
    """Return the user's own modules that are imported, without ``__main__``."""
    return [
        module
        for name, module in sorted(sys.modules.items())
        if isinstance(module, ModuleType)
        and isinstance(getattr(module, "__file__", None), str)
        and name not in ("__main__", "__mp_main__")
        and is_own(name)
    ]


def _prepare() -> None:
    """Let imports find modules in the working directory, and compile them.

    No bytecode of one's own is taken from a cache.
    """
    if _OwnFinder not in sys.meta_path:
        # Finders of tools, such as pytest's, come first.
        place = next((i for i, finder in enumerate(sys.meta_path) if finder is PathFinder), len(sys.meta_path))
        sys.meta_path.insert(place, _OwnFinder)
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()
