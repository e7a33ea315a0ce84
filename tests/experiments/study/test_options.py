"""Options have one home: the Python functions and the command line take the same names, defaults and descriptions."""

from __future__ import annotations

import dataclasses
import inspect
import io

import pytest
from rich.console import Console

from inna.cli import app
from inna.experiments.comparison import compare, make_run, make_study
from inna.experiments.study.options import RunOptions, StudyOptions
from inna.experiments.sweep.options import SweepOptions


@pytest.mark.parametrize(
    ("function", "options"), [(compare, StudyOptions), (make_study, StudyOptions), (make_run, RunOptions)]
)
def test_a_function_shows_the_options_that_it_takes(function, options):
    parameters = inspect.signature(function).parameters
    for field in dataclasses.fields(options):
        assert parameters[field.name].default == field.default
        assert parameters[field.name].kind is inspect.Parameter.KEYWORD_ONLY
        assert f"    {field.name}: " in function.__doc__
    assert "**options" not in function.__doc__


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'epoch'"):
        compare("digits", optimizers=["sgd"], epoch=1)


@pytest.mark.parametrize(
    ("command", "options"),
    [("compare", StudyOptions), ("compare", SweepOptions), ("train", RunOptions), ("reproduce", SweepOptions)],
)
def test_the_command_line_shows_every_option_with_its_default(command, options):
    console = Console(file=io.StringIO(), width=1000)
    app([command, "--help"], console=console, result_action="return_value")
    lines = console.file.getvalue().splitlines()
    for field in dataclasses.fields(options):
        name = f"--{field.name.replace('_', '-')} "
        (line,) = [line for line in lines if name in line[:40]]
        assert "[default: " in line
