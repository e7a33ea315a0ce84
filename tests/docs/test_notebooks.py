"""The notebooks run from top to bottom, and are committed without what they print."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from waiting import PATIENCE

FOLDER = Path(__file__).parents[2] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["first-steps", "own-task", "theory"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_holds_no_output(path: Path) -> None:
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert not [cell for cell in code if cell.outputs or cell.execution_count]


# Jupyter's client makes an event loop of its own, in a way that Python deprecates.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    source = str(Path(__file__).parents[2] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")])))
    notebook = nbformat.read(path, as_version=4)
    # A cell that raises makes this raise, with the cell and its traceback.
    NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.outputs for cell in notebook.cells if cell.cell_type == "code")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.parametrize("missing", [True, False])
def test_the_first_cell_installs_what_is_missing(path: Path, missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat

    code = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    commands: list[list[str]] = []
    find = importlib.util.find_spec
    hidden = {"inna"} if missing else set()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in hidden else find(name))
    monkeypatch.setattr("subprocess.run", lambda command, check: commands.append(command))
    monkeypatch.setenv("INNA_REPOSITORY", "file:///clone")
    exec(code[0].source, {})
    expected = [sys.executable, "-m", "pip", "install", "-q", "inna[experiments] @ git+file:///clone"]
    assert commands == ([expected] if missing else [])
