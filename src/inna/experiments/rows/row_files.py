"""Write a run as a file of its own, atomically and with a checksum.

Read the rows of a folder.

A row file contains ``run`` (everything that decides the run), ``result`` (everything that came out) and ``sha256`` (of
the canonical JSON of the other two). `inna pack` gathers row files in one ``rows.jsonl``, which is read beside them.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import defaultdict
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inna import files
from inna.checks import similar_beside
from inna.experiments.formatting import slug
from inna.experiments.rows.documents import row_document, row_from_document
from inna.experiments.rows.history import History
from inna.experiments.rows.packed import PACKED, read_packed
from inna.experiments.rows.results import Result
from inna.experiments.rows.run import Run
from inna.files import describe_damage, write_document

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DamagedRowError",
    "find_result",
    "load_rows",
    "read_document",
    "read_row",
    "read_rows",
    "row_path",
    "trajectory_name",
    "write_row",
]

SUFFIX = ".row.json"


class DamagedRowError(files.DamagedFileError):
    """A row file that cannot be trusted: cut short, altered, or not a row at all."""


def row_path(folder: Path, run: Run) -> Path:
    """Return where the row of ``run`` is written in ``folder``.

    The name tells the main facts and ends with the key.
    """
    return Path(folder) / f"{_beginning(run)}{run.key}{SUFFIX}"


def trajectory_name(run: Run) -> str:
    """Return the beginning of the names of files of a run's whole trajectory.

    Shorter and longer runs of it share these files.
    """
    return f"{_beginning(run)}{run.trajectory.key}"


def write_row(folder: Path, run: Run, result: Result) -> Path:
    """Write the row of ``run`` into ``folder``, which is made if missing.

    It has a temporary name first and is then renamed.

    A row of another run under this name gets its own name first, unless that is taken.

    Raises:
        OSError: the folder cannot be written, or the disk is full; no half-written row is left behind.
    """
    path = row_path(folder, run)
    _give_back(path, run)
    write_document(path, row_document(run, result))
    return path


def read_row(path: Path) -> tuple[Run, Result]:
    """Read a row file and verify its checksum.

    Raises:
        DamagedRowError: the file is cut short, altered, or no row; the message names it.
        OSError: it cannot be read.
    """
    try:
        return row_from_document(read_document(path))
    except ValueError as error:
        raise DamagedRowError(str(error) if isinstance(error, DamagedRowError) else f"{path}: {error}") from None


def _give_back(path: Path, run: Run) -> None:
    """Rename the row at ``path`` if it is of another run than ``run``."""
    try:
        inside, _ = read_row(path)
    except (FileNotFoundError, DamagedRowError):
        return
    proper = row_path(path.parent, inside)
    if inside != run and not proper.exists():
        path.rename(proper)


def read_document(path: Path) -> dict[str, Any]:
    """As `inna.files.read_document`.

    Raises:
        DamagedRowError: the file is cut short, altered, or no such document.
        OSError: it cannot be read.
    """
    try:
        return files.read_document(path)
    except files.DamagedFileError as error:
        raise DamagedRowError(str(error)) from None


def read_rows(
    folder: str | Path, on_damage: Callable[[str], object] = lambda text: warnings.warn(text, stacklevel=3)
) -> dict[Run, Result]:
    """Read every intact row of ``folder``.

    Run -> result, in the order of the row files' names.

    Rows are read from rows.jsonl and from row files, whichever are there. Of a run that is in both, the row file
    counts: it was written after packing. The run inside decides whose row a file is, not its name. Of two row files
    of a run, that with the run's name counts.

    Args:
        folder: where the rows are; an empty one gives an empty dictionary.
        on_damage: called with a message for each damaged or unreadable file or line, which is skipped; by default a
            warning.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder{similar_beside(Path(folder))}")
    single: dict[Run, Result] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            run, result = read_row(path)
        except (DamagedRowError, OSError) as error:
            on_damage(describe_damage(path, error))
        else:
            if run not in single or path == row_path(folder, run):
                single[run] = result
    return _in_order_of_names(dict(read_packed(folder / PACKED, on_damage)) | single)


def find_result(folder: Path, run: Run, on_damage: Callable[[str], object]) -> Result | None:
    """Return the result of ``run`` in ``folder``, None if there is none.

    Args:
        folder: may be missing.
        run: the run.
        on_damage: as in `read_rows`.
    """
    try:
        inside, result = read_row(row_path(folder, run))
    except (FileNotFoundError, DamagedRowError):
        inside = None
    if inside == run:
        return result
    return read_rows(folder, on_damage).get(run) if folder.is_dir() else None


def load_rows(folder: str | Path) -> pd.DataFrame:
    """Return a line per intact row of ``folder``.

    The fields of `Run`, then those of the result.

    ``history`` is a list with a dictionary per epoch. Damaged files give a warning that names them. An empty folder
    gives an empty frame.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    import pandas as pd

    names = [field.name for field in dataclasses.fields(Run)]
    rows = read_rows(folder)
    return pd.DataFrame([{name: getattr(run, name) for name in names} | _as_lists(rows[run]) for run in rows])


def _as_lists(result: Result) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, History) else value for name, value in result.items()}


def _in_order_of_names(rows: dict[Run, Result]) -> dict[Run, Result]:
    alike = defaultdict(list)
    for run in rows:
        alike[_beginning(run)].append(run)
    # A key is slow to compute, and few runs differ in nothing else of their names.
    for group in alike.values():
        if len(group) > 1:
            group.sort(key=attrgetter("key"))
    return {run: rows[run] for name in sorted(alike) for run in alike[name]}


def _beginning(run: Run) -> str:
    return f"{slug(run.dataset)}-{slug(run.optimizer)}-seed{run.seed}-"
