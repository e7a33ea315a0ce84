"""The examples of docs/using-inna-in-pytorch.md run as they stand, and every argument is on the page."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from inna.torch import INNA, INNAprop

PAGE = (Path(__file__).parents[1] / "docs" / "using-inna-in-pytorch.md").read_text(encoding="utf-8")


# PyTorch's own compiler imports modules that PyTorch itself has deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*")
def test_the_examples_run_in_their_order():
    namespace = {}
    examples = list(re.finditer(r"```python\n(.*?)```", PAGE, re.DOTALL))
    assert len(examples) >= 15
    for example in examples:
        line = PAGE[: example.start(1)].count("\n")
        exec(compile("\n" * line + example[1], "using-inna-in-pytorch.md", "exec"), namespace)


@pytest.mark.parametrize("kind", [INNA, INNAprop])
def test_every_argument_is_in_the_table_with_its_default_and_in_an_example(kind):
    table = PAGE.split("## Arguments", 1)[1].split("\n## ", 1)[0]
    examples = "".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    for name, parameter in inspect.signature(kind).parameters.items():
        if name == "params":
            continue
        row = next(line for line in table.splitlines() if line.startswith("|") and f"`{name}`" in line.split("|")[1])
        shown = re.findall(r"None|True|False|[\d.]+(?:e-\d+)?", row.split("|")[2])
        defaults = [
            None if text == "None" else text == "True" if text in ("True", "False") else float(text) for text in shown
        ]
        assert parameter.default in defaults, row
        assert re.search(rf"\b{name}\b\W*[=:]", examples), name
