"""Distinguish the user's code from packages with a name and a version."""

from __future__ import annotations

import importlib.util
import site
import sys
import sysconfig
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType

__all__ = ["describe_package", "is_own", "is_own_file", "is_own_import"]

# Every row records their versions, and a folder with rows of several is reported.
RECORDED = ("inna", "torch")


def is_own(module: str) -> bool:
    """Return whether ``module`` is the user's own code.

    Neither installed, nor built in, nor of inna.

    A module without a file, such as ``__main__`` of a notebook, is the user's.

    >>> is_own("json"), is_own("inna.dynamics"), is_own("torch.nn"), is_own("__main__")
    (False, False, False, True)
    """
    top = module.partition(".")[0]
    if top in ("inna", "__main__"):
        return top == "__main__"
    # The file decides, since a module of one's own may have the name of one of the standard library's.
    file = _file(sys.modules.get(module)) or _file(sys.modules.get(top))
    return is_own_file(file) if file else top not in sys.stdlib_module_names


@cache
def is_own_file(path: str) -> bool:
    """Return whether a file belongs neither to Python nor to a package."""
    return not any(
        {"site-packages", "dist-packages"} & {*place.parts} or any(place.is_relative_to(each) for each in _installed())
        for place in (Path(path).absolute(), Path(path).resolve())
    )


def is_own_import(module: str) -> bool | None:
    """Return whether importing ``module`` gives the user's own code.

    None if there is no such module.

    Nothing is imported.
    """
    top = module.partition(".")[0]
    if module in sys.modules or top in sys.modules:
        return is_own(module)
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    places = [spec.origin] if spec.has_location else [*(spec.submodule_search_locations or ())]
    return is_own_file(places[0]) if places and places[0] else False


def describe_package(module: str) -> str:
    """Return the name of the package of ``module``, mostly with its version.

    Without it if rows record that version.

    >>> describe_package("torch.nn"), describe_package("json")
    ('torch', 'json')
    """
    top = module.partition(".")[0]
    if top in RECORDED or top in sys.stdlib_module_names:
        return top
    return f"{top} {_version(top)}".rstrip()


def _file(module: ModuleType | None) -> str | None:
    file = getattr(module, "__file__", None)
    return file if isinstance(file, str) else None


@cache
def _installed() -> frozenset[Path]:
    names = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    paths = [Path(name) for name in names | {*site.getsitepackages(), site.getusersitepackages()} if name]
    return frozenset([*paths, *(path.resolve() for path in paths)])


@cache
def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        distributions = metadata.packages_distributions().get(package, ())
        return " ".join(sorted({f"{name} {metadata.version(name)}" for name in distributions}))
