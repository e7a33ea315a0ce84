"""Optax's own tests of its optimizers, from its wheel, run on inna and innaprop.

Their lists of optimizers are read by decorators while the file is executed; so the file is parsed, the lists are
replaced in its tree, and the tree is executed.
"""

import ast
import importlib.util
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("absl.testing")
pytest.importorskip("optax")
from optax import contrib
from optax._src import alias

from inna.optax import inna, innaprop

OURS = [
    {"opt_name": "inna", "opt_kwargs": {"learning_rate": 0.02, "alpha": 3.0, "beta": 0.05, "initial_speed": 0.1}},
    {"opt_name": "innaprop", "opt_kwargs": {"learning_rate": 1e-2, "weight_decay": 0.0}},
]


def load_tests(module: str, lists: dict[str, list[Any]], test_case: str) -> type:
    """The class ``test_case`` of a test file in the wheel, its literal lists of optimizers being ``lists``."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        pytest.skip(f"the installed optax has no {module}", allow_module_level=True)
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    replaced = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Assign, ast.AugAssign)) and isinstance(node.value, (ast.List, ast.Tuple)):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id in lists:
                ours = lists[target.id] if isinstance(node, ast.Assign) else []
                node.value = ast.copy_location(ast.parse(repr(ours), mode="eval").body, node.value)
                replaced.add(target.id)
    assert replaced == set(lists), f"{module} has changed: no literal {sorted(set(lists) - replaced)} in it"
    names = {"__name__": __name__, "__file__": spec.origin}
    exec(compile(ast.fix_missing_locations(tree), spec.origin, "exec"), names)
    return names[test_case]


def setup_module():
    """Put ours where the tests look optimizers up."""
    for place in (contrib, alias):
        place.inna, place.innaprop = inna, innaprop


def teardown_module():
    for place in (contrib, alias):
        del place.inna, place.innaprop


ContribTest = load_tests(
    "optax.contrib._common_test", {"_MAIN_OPTIMIZERS_UNDER_TEST": OURS, "_BASE_OPTIMIZERS": []}, "ContribTest"
)
# Largely the same tests, with complex numbers, and 10,000 steps in a Python loop.
AliasTest = pytest.mark.slow(load_tests("optax._src.alias_test", {"_OPTIMIZERS_UNDER_TEST": OURS}, "AliasTest"))
for name in [name for name in vars(AliasTest) if name.startswith("test_explicit_dtype")]:
    delattr(AliasTest, name)  # names its optimizers itself
