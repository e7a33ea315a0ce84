"""The programs under examples/ as modules for the tests."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest

from scripts import load_script

__all__ = ["load_example", "needs"]


def load_example(name: str) -> ModuleType:
    """The module examples/``name``.py."""
    module: ModuleType = load_script(f"examples/{name}.py")
    return module


def needs(package: str) -> None:
    """Skip the calling module where ``package`` is not installed, and say where it is."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} lives in an environment of its own: make test-ecosystem", allow_module_level=True)
