"""The pages as they are written: code is narrow, and the code of the cheat sheet runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
WIDEST = 88


def code_lines(text: str) -> list[str]:
    """The lines of code blocks and cells; other directives are no code."""
    found, fence, code = [], "", False
    for line in text.splitlines():
        mark = re.match(r" *(`{3,}|:{3,})(.*)", line)
        if mark and not fence and mark[1][0] == "`":
            fence, code = mark[1], not mark[2].startswith("{") or mark[2].startswith("{code-cell}")
        elif mark and fence and mark[1] == fence and not mark[2]:
            fence = ""
        elif fence and code and not line.startswith(":"):
            found.append(line)
    return found


def test_code_is_told_from_text():
    text = "```python\na\n```\nb\n```{image} x\nc\n```\n```{code-cell} ipython3\n:tags: [d]\ne\n```\nf"
    assert code_lines(text) == ["a", "e"]


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_code_is_at_most_88_columns_wide(page):
    assert [line for line in code_lines(page.read_text("utf-8")) if len(line) > WIDEST] == []


@pytest.mark.parametrize("notebook", sorted(DOCS.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_cells_are_at_most_88_columns_wide(notebook):
    cells = [cell for cell in json.loads(notebook.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
    assert lines
    assert [line for line in lines if len(line) > WIDEST] == []


def test_the_code_of_the_cheat_sheet_runs():
    pytest.importorskip("torch.nn")
    code = re.search(r"```python\n(.*?)```", (DOCS / "cheat-sheet.md").read_text("utf-8"), re.DOTALL)[1]
    exec(code, {})


def test_the_extras_of_the_install_page_are_those_of_the_package():
    project = (DOCS.parent / "pyproject.toml").read_text("utf-8")
    section = project.partition("[project.optional-dependencies]\n")[2].partition("\n[")[0]
    extras = set(re.findall(r"^(\w+) = \[", section, re.MULTILINE)) - {"dev", "docs"}
    table = [line for line in (DOCS / "install.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    assert {name for line in table for name in re.findall(r"`(\w+)`", line.split("|")[1])} == extras
