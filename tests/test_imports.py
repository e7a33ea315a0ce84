"""Who may import whom, from the source and in fresh interpreters, and how large modules and folders may be."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import inna
from source_rules import (
    circles,
    code_lines,
    first_lines,
    forbidden_imports,
    import_graph,
    read_sources,
    room_of,
    third_party,
    unfinished,
)

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
TRITON = ("inna.torch.kernels.cuda", "inna.torch.kernels.cuda_guard", "inna.torch.kernels.cuda_rule")
FORBIDDEN = {
    "inna": HEAVY | PARTS,
    "inna.torch": {"jax", "keras", "optax", "tensorflow", *TRITON} | PARTS - {"inna.torch"},
    **dict.fromkeys(TRITON, {"jax", "keras", "optax", "tensorflow"} | PARTS - {"inna.torch"}),
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
    "inna.experiments.benchmark.report": FRAMEWORKS | PARTS - {"inna.experiments"},
    "inna.experiments.report": FRAMEWORKS | PARTS - {"inna.experiments"},
    "inna.landscape": FRAMEWORKS | PARTS - {"inna.experiments", "inna.landscape", "inna.theory"},
    "inna.paper": {"jax", "keras", "optax", "inna.optax", "inna.keras", "inna.landscape", "inna.cli"},
    "inna.paper.claims": FRAMEWORKS | PARTS - {"inna.experiments", "inna.paper"},
    "inna.cli": FRAMEWORKS | {"numpy", "pandas", "sklearn"} | PARTS - {"inna.cli", "inna.experiments"},
    "inna.__main__": FRAMEWORKS | {"numpy", "pandas", "sklearn"},
}
# Base -> rooms, each group of which may import the groups before it.
BASE = {"inna", "inna.checks", "inna.files", "inna.streams"}
EXPERIMENTS = (
    {"inna.experiments.formatting", "inna.experiments.kept"},
    {"inna.experiments.rows"},
    {"inna.experiments.tasks", "inna.experiments.study", "inna.experiments.charts"},
    {"inna.experiments.training", "inna.experiments.statistics"},
    {"inna.experiments.sweep", "inna.experiments.report"},
    {"inna.experiments.comparison"},
    {"inna.experiments.benchmark"},
    {"inna.experiments.learning_rate"},
    {"inna.experiments"},  # its lazy names
)
FRONT_ENDS = ("inna.torch", "inna.optax", "inna.keras")
# Room -> the other rooms that its modules may import, in functions and under TYPE_CHECKING too.
ALLOWED: dict[str, set[str]] = {
    "inna": {"inna.torch"},  # its lazy names
    "inna.__main__": {"inna.cli", "inna.interrupts", "inna.streams"},
    **{
        room: {"inna.checks"}
        for room in ("inna.dynamics", "inna.learning_rate_race", "inna.schedules", "inna.specifications")
    },
    **{room: set() for room in ("inna.checks", "inna.docstrings", "inna.files", "inna.interrupts", "inna.streams")},
    **{
        room: {"inna.checks", "inna.docstrings", "inna.dynamics", "inna.learning_rate_race", "inna.schedules"}
        for room in FRONT_ENDS
    },
    "inna.theory": {"inna.checks", "inna.dynamics", "inna.schedules"},
    # They demonstrate the theory on the optimizers as they are.
    "inna.theory.demonstrations": {"inna.checks", "inna.dynamics", "inna.schedules", "inna.theory", *FRONT_ENDS},
    **{
        room: BASE.union(*EXPERIMENTS[:position])
        for position, group in enumerate(EXPERIMENTS)
        for room in sorted(group)
    },
    "inna.landscape": BASE
    | {"inna.dynamics", "inna.schedules", "inna.specifications", "inna.theory"}
    | {"inna.experiments.charts", "inna.experiments.formatting"},
    "inna.paper": BASE.union(*EXPERIMENTS, {"inna.theory"}),
    "inna.cli": BASE.union(*EXPERIMENTS)
    | {"inna.dynamics", "inna.interrupts", "inna.landscape", "inna.paper", "inna.theory", "inna.theory.demonstrations"},
}
for room in ("inna.experiments.tasks", "inna.experiments.sweep"):
    ALLOWED[room] |= {"inna.interrupts"}
ALLOWED["inna.experiments.learning_rate"] |= {"inna.torch"}
ALLOWED["inna.experiments.training"] |= {"inna.dynamics", "inna.schedules", "inna.specifications", "inna.torch"}
ALLOWED["inna.experiments.study"] |= {"inna.dynamics", "inna.specifications"}
MOST_MODULES = 12
MOST_LINES = 400
LONGEST_FIRST_LINE = 79
LONGER: dict[str, str] = {}  # module -> why it is longer

SOURCES = read_sources(Path(inna.__file__).parent)
GRAPH = import_graph(SOURCES)
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
        modules = [module for module in modules if module not in TRITON]
    if not modules:
        pytest.skip(f"{rule} is not there, or not what it needs")
    backend = "import os; os.environ['KERAS_BACKEND'] = 'jax'; " if rule == "inna.keras" else ""
    assert not imported_with(f"{backend}import {', '.join(modules)}") & FORBIDDEN[rule]


def test_rooms_import_only_the_rooms_below_them():
    assert forbidden_imports(GRAPH, ALLOWED) == []


def test_every_room_of_the_table_is_there():
    assert {room_of(module, ALLOWED) for module in SOURCES} == ALLOWED.keys()


def test_experiments_never_import_the_paper():
    importers = [module for module, targets in GRAPH.items() if any(each.startswith("inna.paper") for each in targets)]
    assert {module.split(".")[1] for module in importers} == {"paper", "cli"}


def test_front_ends_and_theory_do_not_import_each_other():
    parts = (*FRONT_ENDS, "inna.theory")
    for part in parts:
        others = tuple(other for other in parts if other != part)
        targets = {target for module in SOURCES if room_of(module, ALLOWED) == part for target in GRAPH[module]}
        assert not [target for target in targets if target.startswith(others)]
        assert any(target.startswith("inna.dynamics") for target in targets)


@pytest.mark.parametrize("module", ["inna.dynamics", "inna.schedules", "inna.checks", "inna.files"])
def test_the_rule_needs_the_standard_library_only(module):
    assert third_party(SOURCES[module]) == set()


def test_few_modules_of_theory_take_torch_modules():
    theory = {module: third_party(source) for module, source in SOURCES.items() if module.startswith("inna.theory")}
    users = {module.removeprefix("inna.theory.") for module, packages in theory.items() if "torch" in packages}
    assert users == {"curvature", "demonstrations.networks", "modules", "monitor"}


def test_no_modules_import_each_other_in_a_circle():
    assert circles(GRAPH) == []


def test_only_main_imports_the_command_line():
    importers = {module for module, targets in GRAPH.items() if any(each.startswith("inna.cli") for each in targets)}
    assert {module for module in importers if not module.startswith("inna.cli")} == {"inna.__main__"}


def test_torch_is_enough_for_its_optimizers():
    # pip install "inna[torch]" brings no NumPy, since torch does not need it.
    code = """
import sys, warnings
sys.modules["numpy"] = None
warnings.simplefilter("ignore")
import torch
from inna.torch import INNA, INNAprop, find_lr
model = torch.nn.Linear(2, 1)
batches = [(torch.ones(4, 2), torch.ones(4, 1))]
find_lr(INNA, model, torch.nn.functional.mse_loss, batches, grid=[0.01, 0.1], steps=24)
for optimizer in (INNA(model.parameters()), INNAprop.lr_free(model.parameters())):
    model(batches[0][0]).sum().backward()
    optimizer.step()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_folders_hold_few_modules():
    root = Path(inna.__file__).parent
    folders = {path.parent for path in root.rglob("*.py")}
    sizes = {
        str(folder.relative_to(root)): len({*folder.glob("*.py")} - {folder / "__init__.py"}) for folder in folders
    }
    assert {folder: size for folder, size in sizes.items() if size > MOST_MODULES} == {}


def test_modules_are_short():
    lengths = {module: code_lines(source) for module, source in SOURCES.items()}
    assert {module for module, lines in lengths.items() if lines > MOST_LINES} == LONGER.keys()
    assert all(LONGER.values())


def test_docstrings_begin_with_one_short_statement():
    lines = [(module, line) for module, source in SOURCES.items() for line in first_lines(source)]
    assert len(lines) > 1000
    assert [(module, line) for module, line in lines if len(line) > LONGEST_FIRST_LINE] == []
    asking = ("What", "Who", "How", "Whether", "Where", "Which", "That")
    assert [(module, line) for module, line in lines if line.split()[0] in asking] == []


def test_nothing_is_announced_and_not_done():
    assert {module: unfinished(source) for module, source in SOURCES.items() if unfinished(source)} == {}


def test_the_rules_notice_what_breaks_them():
    sources = {
        "p": "",
        "p.low": '"""Low."""\nimport os\nimport numpy.linalg\n',
        "p.low.inside": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.high import part\n",
        "p.high": "def f():\n    from p import low\n",
        "p.high.part": "import p.high\n",
    }
    graph = import_graph(sources)
    assert graph["p.low.inside"] == {"p.high.part"}
    assert graph["p.high"] == {"p.low"}
    assert circles(graph) == []
    allowed = {"p": set(), "p.low": set(), "p.high": {"p.low"}}
    assert forbidden_imports(graph, allowed) == ["p.low.inside imports p.high.part"]
    assert circles(import_graph(sources | {"p.low": "import p.low.inside"})) == [
        ["p.high", "p.high.part", "p.low", "p.low.inside"]
    ]
    assert third_party(sources["p.low"]) == {"numpy"}
    with pytest.raises(ValueError, match=r"q\.new is in no room"):
        room_of("q.new", allowed)
    source = '"""Two\nlines."""\n\n# Why.\nx = 1  # what\n\ndef f():\n    """Doc."""\n    return """text\nof two"""\n'
    assert code_lines(source) == 4
    assert unfinished('"""TODO"""\nx = 1\n') == ['"""TODO"""']


def test_the_optimizers_are_found_lazily_in_the_package():
    assert "torch" not in imported_with("import inna; dir(inna)")
    assert "torch" in imported_with("from inna import INNA, INNAprop")
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = inna.nonsense


def test_importing_the_optimizers_does_not_import_torchs_compiler():
    assert "torch._dynamo" not in imported_with("import inna.torch")


def test_names_that_promise_nothing_are_not_used():
    drawers = {"utils", "helpers", "common", "misc", "manager"}
    assert not drawers & {part for module in MODULES for part in module.split(".")}


def test_tests_skip_without_pytorch():
    """The folder tests/torch is importable as torch: only a submodule shows whether PyTorch is installed."""
    tests = Path(__file__).parent
    found = [
        path for path in tests.rglob("*.py") if re.search(r"importorskip\([\"']torch[\"']", path.read_text("utf-8"))
    ]
    assert found == []
