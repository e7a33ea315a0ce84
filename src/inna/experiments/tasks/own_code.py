"""Import the user's own modules and files, from the working directory too."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["find_module", "import_file", "import_module", "task_file"]


def task_file(name: str, folder: Path | None = None) -> Path:
    """Return the file of the task ``file.py:function``; a relative one is in ``folder``, or the working directory.

    Raises:
        ValueError: there is no such file.
    """
    path = (folder or Path.cwd()) / Path(name.rpartition(":")[0]).expanduser()
    if not path.is_file():
        raise ValueError(f"task {name}: no such file: {path}")
    return path


def import_module(name: str) -> ModuleType:
    """Import a module by its name.

    Raises:
        ImportError: it does not exist, or cannot be imported.
    """
    _search_working_directory()
    return importlib.import_module(name)


def find_module(name: str) -> Path | None:
    """Return the file of a module, or None if there is none. Only its parent packages are imported.

    Raises:
        ImportError: a parent package cannot be imported.
    """
    _search_working_directory()
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _search_working_directory() -> None:
    here = str(Path.cwd())
    if "" not in sys.path and here not in sys.path:
        sys.path.append(here)
        importlib.invalidate_caches()


def import_file(path: Path, digest: str) -> ModuleType:
    """Import a Python file under a name made from its ``digest``, so that another version is another module.

    Raises:
        ImportError: it is not a Python file.
    """
    name = f"inna_task_{digest[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
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
