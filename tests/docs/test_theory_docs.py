"""The examples of docs/theory.md run, and every test and demonstration it names exists."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

pytest.importorskip("torch.nn")  # without PyTorch, torch alone is the folder tests/torch

from inna.theory.demonstrations import names

PAGE = Path(__file__).parents[2] / "docs" / "theory.md"


def test_examples_run() -> None:
    # The closing fence would be read as output: a blank line before it ends the example.
    result = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert result.attempted > 20
    assert result.failed == 0


def test_the_page_names_every_demonstration_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    mentioned = re.findall(r"^(?:- )?\*([a-z0-9-]+)\*:", text, flags=re.MULTILINE)
    assert sorted(mentioned) == sorted(names())


def test_the_page_names_tests_that_exist() -> None:
    text = PAGE.read_text(encoding="utf-8")
    tests = (Path(__file__).parents[1] / "theory").glob("test_*.py")
    sources = "".join(path.read_text(encoding="utf-8") for path in tests)
    wanted = set(re.findall(r"`(?:test_\w+\.py::)?(test_\w+)`", text))
    defined = set(re.findall(r"^def (test_\w+)\(", sources, flags=re.MULTILINE))
    assert len(wanted) > 20
    assert wanted <= defined
