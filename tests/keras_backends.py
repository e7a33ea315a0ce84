"""The three backends of Keras as test parameters, and a process for each: Keras cannot change backend in one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from waiting import PATIENCE

__all__ = ["BACKENDS", "QUICK_AND_SLOW", "in_a_process"]

ROOT = Path(__file__).parents[1]


def _backend(name: str, distribution: str) -> object:
    missing = [package for package in ("keras", name) if importlib.util.find_spec(package) is None]
    reason = f"{' and '.join(missing)} not installed (pip install keras {distribution})"
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=reason), id=f"keras-{name}")


BACKENDS = [_backend("jax", "jax"), _backend("torch", "torch"), _backend("tensorflow", "tensorflow-cpu")]
# torch compiles nothing: it is the quickest, and stands for all in a short run. tests/test_parity.py has all three.
QUICK_AND_SLOW = [
    each if each.values == ("torch",) else pytest.param(*each.values, id=each.id, marks=[*each.marks, pytest.mark.slow])
    for each in BACKENDS
]


def in_a_process(backend: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``python *arguments`` in the repository with Keras on ``backend``."""
    env = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "src"), env.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
