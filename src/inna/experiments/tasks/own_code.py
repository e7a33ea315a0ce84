"""Modules of the user's own: found in the working directory too, as when Python itself is started there."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = [
    "find_module",
    "import_module",
]


def import_module(name: str) -> ModuleType:
    """Import the module of that name.

    Raises:
        ImportError: there is none, or it cannot be imported.
    """
    _look_here()
    return importlib.import_module(name)


def find_module(name: str) -> Path | None:
    """The file of the module of that name, which is not imported (its parent packages are); None if there is none.

    Raises:
        ImportError: a parent package cannot be imported.
    """
    _look_here()
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _look_here() -> None:
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()


def _import_file(path: Path, digest: str) -> ModuleType:
    name = f"inna_task_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    # Its neighbours can be imported, as when Python runs the file itself.
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
