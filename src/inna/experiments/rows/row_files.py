"""Runs are rows: one JSON file a run, written atomically, each with a checksum of its own.

A row file holds three keys: ``run`` (everything that decides the run), ``result`` (everything that came out) and
``sha256`` (of the canonical JSON of the other two). Reports read rows and nothing else.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inna import files
from inna.experiments.rows.results import Result
from inna.experiments.rows.run import Run, _as_json, _encode
from inna.files import write_document

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DamagedRowError",
    "load_rows",
    "read_document",
    "read_row",
    "read_rows",
    "row_document",
    "row_path",
    "write_row",
]

SUFFIX = ".row.json"


class DamagedRowError(files.DamagedFileError):
    """A row file that cannot be trusted: cut short, altered, or not a row at all."""


def row_path(folder: Path, run: Run) -> Path:
    """Where the row of ``run`` lies in ``folder``; the name shows the main facts and ends with the key."""
    return Path(folder) / f"{_slug(run.dataset)}-{_slug(run.optimizer)}-seed{run.seed}-{run.key}{SUFFIX}"


def write_row(folder: Path, run: Run, result: Result) -> Path:
    """Write the row of ``run`` into ``folder`` (made if missing), under a temporary name first, then renamed.

    Non-finite numbers are stored as {"float": "nan"}, so that the file is plain JSON.

    Raises:
        OSError: the folder cannot be written, or the disk is full; no half-written row is left behind.
    """
    path = row_path(folder, run)
    write_document(path, row_document(run, result))
    return path


def row_document(run: Run, result: Result) -> dict[str, Any]:
    """What a row file says of ``run``, as plain JSON: its fields under ``run``, ``result`` under its own name."""
    return {"run": _as_json(run), "result": _encode(dict(result))}


def read_row(path: Path) -> tuple[Run, dict[str, Any]]:
    """The run and the result in a row file, its checksum verified.

    Raises:
        DamagedRowError: the file is cut short, altered, or no row; the message names it.
        OSError: it cannot be read.
    """
    body = read_document(path)
    try:
        return Run(**_decode(body["run"])), _decode(body["result"])
    except (KeyError, TypeError, ValueError) as error:
        raise DamagedRowError(f"{path}: written by another version of inna ({error})") from None


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
    """Run -> result for every intact row of ``folder``, in the order of the file names.

    Args:
        folder: where the rows lie; an empty one gives an empty dictionary.
        on_damage: called with a line on each damaged file, which is left out; by default a warning.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    rows: dict[Run, Result] = {}
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            run, result = read_row(path)
        except DamagedRowError as error:
            on_damage(str(error))
        else:
            rows[run] = result
    return rows


def load_rows(folder: str | Path) -> pd.DataFrame:
    """A line per intact row of ``folder``: the fields of `Run`, then those of the result.

    Damaged files give a warning that names them. An empty folder gives an empty frame.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    import pandas as pd

    names = [field.name for field in dataclasses.fields(Run)]
    return pd.DataFrame(
        [{name: getattr(run, name) for name in names} | dict(result) for run, result in read_rows(folder).items()]
    )


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"float"}:
            return float(value["float"])
        return {name: _decode(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_decode(item) for item in value]
    return value


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in text)[:40]
