"""The rows of a study in one file, ``rows.jsonl``.

A line of JSON a run, each with a checksum of its own.

A line contains ``run``, ``result`` (its ``history`` by column) and, as its last member, ``sha256``: of the bytes of the
line without that member. Lines are sorted by the runs' keys. Readers accept any order; of two lines of a run the last
one counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from inna.experiments.rows.documents import row_from_json, row_to_json
from inna.experiments.rows.results import Result
from inna.experiments.rows.run import Run
from inna.files import DamagedFileError, describe_damage, open_file

__all__ = ["PACKED", "packed_line", "read_lines", "read_packed"]

PACKED = "rows.jsonl"
_MEMBER = b',"sha256":"%s"}'
_TAIL = len(_MEMBER % (64 * b"0"))


def packed_line(run: Run, result: Result) -> bytes:
    """Return the line of a run, without a line break."""
    text = row_to_json(run, result)
    return text[:-1] + _MEMBER % _digest(text)


def read_packed(path: Path, on_damage: Callable[[str], object]) -> Iterator[tuple[Run, Result]]:
    """Yield the intact rows of ``path``, nothing where there is no such file.

    Args:
        path: of the file.
        on_damage: called with a message for each damaged line, which is skipped.
    """
    try:
        with open_file(path) as file:
            for _, row in read_lines(file, path, on_damage):
                if row is not None:
                    yield row
    except FileNotFoundError:
        pass
    except (OSError, DamagedFileError) as error:
        on_damage(describe_damage(path, error))


def read_lines(
    lines: Iterable[bytes], path: Path, on_damage: Callable[[str], object]
) -> Iterator[tuple[bytes, tuple[Run, Result] | None]]:
    """Yield each line that is not blank, without its line break, and its row.

    None for the row of a damaged line.

    Args:
        lines: of the file.
        path: its name, for messages.
        on_damage: called with a message for each damaged line.
    """
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line:
            continue
        try:
            yield line, _row(line)
        except (ValueError, RecursionError) as error:
            on_damage(f"{path}, line {number}: {error}")
            yield line, None


def _row(line: bytes) -> tuple[Run, Result]:
    text = line[:-_TAIL] + b"}"
    if line[-_TAIL:] != _MEMBER % _digest(text):
        raise ValueError("the checksum does not match; the line was altered or damaged")
    return row_from_json(text)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
