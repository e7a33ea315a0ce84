"""What constructors refuse, read from their sources, against the constructors themselves."""

from __future__ import annotations

import itertools
import sys

import pytest
import torch

from inna.experiments.study.constructor_checks import refusal
from inna.experiments.study.constructors import constructor_defaults
from inna.experiments.study.optimizer_names import NAMED, check_specification, target_of
from inna.experiments.training import optimizers

OUTSIDE = (-1.0, 0.0, 0.5, 1.0, 2.0)


def refused(name: str, settings: dict[str, object]) -> str | None:
    kind = optimizers.parse(name).optimizer
    try:
        kind([torch.nn.Parameter(torch.zeros(1))], **{"lr": 0.1} | settings)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "nadam", "radam", "adagrad", "adadelta", "rmsprop", "sgd"])
def test_messages_are_those_of_the_constructor(name):
    defaults, _ = constructor_defaults(target_of(name))
    found = 0
    for key, default in defaults.items():
        if isinstance(default, float):
            values = OUTSIDE
        elif isinstance(default, tuple):
            values = tuple(itertools.product(OUTSIDE, repeat=2))
        else:
            values = (True, False) if isinstance(default, bool) else ()
        for value in values:
            message = refusal(target_of(name), {key: value})
            theirs = refused(name, {key: value})
            # torch checks that flags go together in code of another kind.
            assert message == theirs or (message is None and isinstance(value, bool)), (key, value)
            found += message is not None
    assert found >= 2


def test_a_setting_of_the_name_counts():
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        check_specification("nesterov:momentum=0")
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        check_specification("sgd:nesterov=true")
    check_specification("nesterov")
    check_specification("sgd:nesterov=true,momentum=.1..1", tuned=True)


@pytest.mark.parametrize("name", NAMED)
def test_defaults_are_refused_nowhere(name):
    check_specification(name)
    assert refusal(NAMED[name].target, NAMED[name].settings) is None


def test_a_torch_class_by_its_path_is_checked_likewise():
    with pytest.raises(ValueError, match=r"torch\.optim:NAdam:eps=-1: Invalid epsilon value: -1\.0"):
        check_specification("torch.optim:NAdam:eps=-1")
    with pytest.raises(ValueError, match="has no setting 'foo'"):
        check_specification("torch.optim:NAdam:foo=1")


SOURCE = """
class Base:
    def __init__(self, params, lr, rho=0.5, power=2):
        if rho > 1:
            raise ValueError("rho must be at most 1, got {}".format(rho))
        if power < 0:
            raise ValueError(f"power must not be negative, got {power}")

class Halved(Base):
    def __init__(self, params, lr, rho=0.5, power=2):
        rho = rho / 2
        super().__init__(params, lr, rho, power=power)

class Spread(Base):
    def __init__(self, params, lr, rho=0.5):
        super().__init__(*[params, lr], rho)

class Computed(Base):
    def __init__(self, params, lr, rho=0.5):
        if abs(rho) > 1:
            raise ValueError("absolute")
        if rho > 1:
            print("large")
        elif rho < 0:
            raise ValueError("in a branch")
        if rho < params:
            raise ValueError("unknown name")
        if rho < "text":
            raise ValueError("of two types")

class Two(Base, dict):
    def __init__(self, params, lr, rho=0.5):
        super().__init__(params, lr, rho)
"""


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("Base", {"rho": 3}, "rho must be at most 1, got 3"),
        ("Base", {"rho": 1}, None),
        ("Halved", {"rho": 1.5}, None),
        ("Halved", {"power": -1}, "power must not be negative, got -1"),
        ("Spread", {"rho": 3}, None),
        ("Computed", {"rho": -3}, None),
        ("Two", {"rho": 3}, None),
        ("Missing", {"rho": 3}, None),
    ],
)
def test_only_what_the_source_shows_is_refused(tmp_path, monkeypatch, name, settings, message):
    (tmp_path / "own_refusals.py").write_text(SOURCE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert refusal(f"own_refusals:{name}", settings) == message
    assert "own_refusals" not in sys.modules
