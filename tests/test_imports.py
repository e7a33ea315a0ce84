"""Who may import whom: each module is imported in a fresh interpreter, and what came along is looked at."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib.util import find_spec

import pytest

import inna

FRAMEWORKS = {"torch", "jax", "keras", "optax", "tensorflow", "triton"}
HEAVY = FRAMEWORKS | {
    "numpy",
    "scipy",
    "pandas",
    "sklearn",
    "altair",
    "joblib",
    "pooch",
    "rich",
    "cyclopts",
    "vl_convert",
}
PARTS = {
    "inna.torch",
    "inna.optax",
    "inna.keras",
    "inna.theory",
    "inna.experiments",
    "inna.paper",
    "inna.landscape",
    "inna.cli",
}

# prefix -> what must not have been imported; the longest prefix that fits counts.
FORBIDDEN = {
    "inna": HEAVY | PARTS,
    "inna.torch": {"jax", "keras", "optax", "tensorflow", "inna.torch.kernels.cuda"} | PARTS - {"inna.torch"},
    "inna.torch.kernels.cuda": {"jax", "keras", "optax", "tensorflow"} | PARTS - {"inna.torch"},
    "inna.optax": {"torch", "keras", "tensorflow"} | PARTS - {"inna.optax"},
    "inna.keras": PARTS - {"inna.keras"},
    "inna.theory": FRAMEWORKS | PARTS - {"inna.theory"},
    "inna.experiments": {
        "jax",
        "keras",
        "optax",
        "inna.optax",
        "inna.keras",
        "inna.paper",
        "inna.landscape",
        "inna.cli",
    },
    "inna.experiments.rows": HEAVY | PARTS - {"inna.experiments"},
    "inna.experiments.tasks.catalogue": HEAVY | PARTS - {"inna.experiments"},
    "inna.experiments.tasks.local_files": HEAVY | PARTS - {"inna.experiments"},
    "inna.experiments.study": HEAVY | PARTS - {"inna.experiments"},
    "inna.experiments.statistics": FRAMEWORKS | PARTS - {"inna.experiments"},
    "inna.experiments.charts": FRAMEWORKS | PARTS - {"inna.experiments"},
    "inna.experiments.report": FRAMEWORKS | PARTS - {"inna.experiments"},
    "inna.landscape": FRAMEWORKS | PARTS - {"inna.experiments", "inna.landscape", "inna.theory"},
    "inna.paper": {"jax", "keras", "optax", "inna.optax", "inna.keras", "inna.landscape", "inna.cli"},
    "inna.paper.claims": FRAMEWORKS | PARTS - {"inna.experiments", "inna.paper"},
    "inna.cli": FRAMEWORKS | {"numpy", "pandas", "sklearn"} | PARTS - {"inna.cli", "inna.experiments"},
    "inna.__main__": FRAMEWORKS | {"numpy", "pandas", "sklearn"},
}
MODULES = sorted(module.name for module in pkgutil.walk_packages(inna.__path__, "inna."))


def imported_with(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def rule_for(module: str) -> str:
    return max((prefix for prefix in FORBIDDEN if module == prefix or module.startswith(prefix + ".")), key=len)


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_modules_import_only_what_they_may(rule):
    # Modules under one rule share an interpreter: what none of them may import must be absent at the end.
    modules = [module for module in ["inna", *MODULES] if rule_for(module) == rule]
    if find_spec("triton") is None:
        modules = [module for module in modules if module != "inna.torch.kernels.cuda"]
    if not modules:
        pytest.skip(f"{rule} is not there, or not what it needs")
    backend = "import os; os.environ['KERAS_BACKEND'] = 'jax'; " if rule == "inna.keras" else ""
    assert not imported_with(f"{backend}import {', '.join(modules)}") & FORBIDDEN[rule]


def test_only_main_imports_the_command_line():
    from pathlib import Path

    sources = Path(inna.__file__).parent.rglob("*.py")
    importers = {path for path in sources if "inna.cli" in path.read_text(encoding="utf-8")}
    assert {path.name for path in importers if path.parent.name != "cli"} == {"__main__.py"}


def test_the_optimizers_are_found_lazily_in_the_package():
    assert "torch" not in imported_with("import inna; dir(inna)")
    assert "torch" in imported_with("from inna import INNA, INNAprop")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = inna.nonsense


def test_names_that_promise_nothing_are_not_used():
    drawers = {"utils", "helpers", "common", "misc", "manager"}
    assert not drawers & {part for module in MODULES for part in module.split(".")}
