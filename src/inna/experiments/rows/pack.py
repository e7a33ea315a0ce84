"""Pack the row files of a folder into one file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from inna.checks import similar_beside
from inna.experiments.rows.lock import lock
from inna.experiments.rows.packed import PACKED, packed_line, read_lines
from inna.experiments.rows.row_files import SUFFIX, DamagedRowError, read_row, row_path
from inna.files import describe_damage, read_file, remove_abandoned, replacing

__all__ = ["Packed", "pack"]


@dataclass(frozen=True)
class Packed:
    """The outcome of packing.

    Attributes:
        path: the file of packed rows.
        rows: how many rows it contains.
        added: how many row files were packed and removed.
        damaged: a message for each damaged row file or line; they are left as they are.
    """

    path: Path
    rows: int
    added: int
    damaged: tuple[str, ...]


def pack(folder: str | Path) -> Packed:
    """Move the rows of ``folder`` from ``*.row.json`` into rows.jsonl.

    A line each, sorted by the runs' keys.

    Rows that are packed already stay; of a run that is in both, the row file replaces the line, since it is newer. The
    new file is written under a temporary name, read back, compared, and renamed. Only then the row files are removed,
    so whenever the process is killed, every row is in one of the two.

    Raises:
        FileNotFoundError: there is no such folder, or nothing to pack in it.
        FolderInUseError: a sweep is running on it.
        OSError: the folder cannot be written, the disk is full, or what was read back differs; all rows are intact.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder{similar_beside(Path(folder))}")
    if not os.path.lexists(folder / PACKED) and next(folder.glob(f"*{SUFFIX}"), None) is None:
        raise FileNotFoundError(f"{folder}: no results here to pack")
    with lock(folder):
        remove_abandoned(folder)
        return _pack(folder)


def _pack(folder: Path) -> Packed:
    path, damaged = folder / PACKED, list[str]()
    before = read_file(path) if os.path.lexists(path) else b""
    lines: dict[str, bytes] = {}
    kept: list[bytes] = []
    for line, row in read_lines(before.split(b"\n"), path, damaged.append):
        if row is None:
            kept.append(line)
        else:
            lines[row[0].key] = line
    single: list[Path] = []
    packed: set[str] = set()
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            run, result = read_row(file)
        except (DamagedRowError, OSError) as error:
            damaged.append(describe_damage(file, error))
        else:
            if run.key not in packed or file == row_path(folder, run):
                lines[run.key] = packed_line(run, result)
            packed.add(run.key)
            single.append(file)
    content = b"".join(line + b"\n" for line in (*(lines[key] for key in sorted(lines)), *kept))
    if content != before:
        _write(path, content, intact=len(lines))
    for file in single:
        file.unlink()
    return Packed(path, len(lines), len(single), tuple(damaged))


def _write(path: Path, content: bytes, intact: int) -> None:
    with replacing(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        again = temporary.read_bytes()
        rows = [row for _, row in read_lines(again.split(b"\n"), temporary, lambda text: None) if row is not None]
        if again != content or len(rows) != intact:
            raise OSError(f"{path}: the file read back differs from what was written; no row file was removed")
