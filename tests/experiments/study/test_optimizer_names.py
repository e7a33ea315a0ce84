"""Names and settings of optimizers that are read from sources, against the classes themselves."""

from __future__ import annotations

import inspect

import pytest

from inna.experiments.comparison import contender
from inna.experiments.study import constructors
from inna.experiments.study.optimizer_names import (
    DEFAULT_OPTIMIZERS,
    NAMED,
    check_reference,
    check_specification,
    names,
    parse_tuned,
)
from inna.experiments.training import optimizers


def test_names_are_those_of_the_classes():
    assert sorted(names()) == sorted(optimizers.names())
    assert names()[: len(NAMED)] == list(NAMED)


@pytest.mark.parametrize("name", optimizers.names())
def test_settings_are_those_of_the_signature(name):
    accepted = dict(list(inspect.signature(optimizers.parse(name).optimizer).parameters.items())[1:])
    del accepted["lr"]
    own = NAMED[name].settings if name in NAMED else {}
    for setting, parameter in accepted.items():
        check_specification(f"{name}:{setting}={own.get(setting, parameter.default)}")
    with pytest.raises(ValueError, match=r"has no setting 'x'; it has " + ", ".join(accepted)):
        check_specification(f"{name}:x=1")


def test_the_factor_of_an_optimizer_without_a_learning_rate_is_not_tuned():
    assert parse_tuned("innaprop-lr-free") == ("innaprop-lr-free", 1.0, ())
    assert parse_tuned("innaprop-lr-free:lr=.5").lr == 0.5
    assert parse_tuned("innaprop").lr is None
    for search in (False, True):
        own = contender("innaprop-lr-free", search=search)
        assert (own.label, own.grid, own.space) == ("INNAprop lr-free (0.1, 0.9)", (1.0,), ())
    assert contender("innaprop-lr-free:lr=.5").label == "INNAprop lr-free (0.1, 0.9, lr=0.5)"


def test_the_factor_of_inna_without_a_learning_rate_is_one():
    for text, factor in (("inna-lr-free", 1.0), ("inna-lr-free:alpha=.1", 1.0), ("inna-lr-free:alpha=.1,lr=.3", 0.3)):
        assert parse_tuned(text).lr == factor
    assert contender("inna-lr-free").label == "INNA lr-free (0.5, 0.5)"


def test_what_no_source_tells_is_left_to_the_import(monkeypatch):
    monkeypatch.setattr(constructors, "find_spec", lambda name: None)
    constructors.torch_optimizers.cache_clear()
    constructors.constructor_defaults.cache_clear()
    try:
        for text in ("nadam", "inan", "adam:betta=1", "inna.torch:Class:x=1"):
            check_specification(text)
        assert names() == list(NAMED)
    finally:
        constructors.torch_optimizers.cache_clear()
        constructors.constructor_defaults.cache_clear()


@pytest.mark.parametrize("reference", [*DEFAULT_OPTIMIZERS, "SGD", "INNA (0.5, 1)", "heavy ball", "AdaGrad"])
def test_labels_and_specifications_can_be_references(reference):
    check_reference(reference, DEFAULT_OPTIMIZERS)


def test_other_references_are_refused():
    with pytest.raises(ValueError, match=r"got 'adm'. Did you mean 'adam'\?$"):
        check_reference("adm", DEFAULT_OPTIMIZERS)
    check_reference("Lion", ["sgd", "package.module:Lion"])
