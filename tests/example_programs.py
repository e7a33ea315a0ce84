"""The programs under examples/ as modules for the tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["load_example", "needs"]

EXAMPLES = Path(__file__).parents[1] / "examples"


def load_example(name: str) -> ModuleType:
    """The module examples/``name``.py."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def needs(package: str) -> None:
    """Skip the calling module where ``package`` is not installed, and say where it is."""
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} lives in an environment of its own: make test-ecosystem", allow_module_level=True)
