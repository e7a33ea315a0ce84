"""Atomic file writes and checksummed JSON."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = [
    "DamagedFileError",
    "canonical",
    "is_alive",
    "read_document",
    "remove_abandoned",
    "replacing",
    "temporary_folder",
    "write_document",
    "write_whole",
]


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class DamagedFileError(ValueError):
    """A file that is cut short, altered, or of another kind."""


def write_document(path: Path, body: Mapping[str, Any]) -> None:
    """Write ``body`` and its checksum as JSON to ``path``, under a temporary name that is then renamed.

    Raises:
        ValueError: ``body`` contains NaN or an infinity, which JSON cannot express.
        OSError: the folder cannot be written, or the disk is full. An existing file at ``path`` is unchanged.
    """
    text = json.dumps({**body, "sha256": _digest(body)}, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(path, (text + "\n").encode())


def read_document(path: Path) -> dict[str, Any]:
    """Read what `write_document` wrote to ``path`` and verify its checksum.

    Raises:
        DamagedFileError: the file is cut short, altered, or not a checksummed document.
        OSError: the file cannot be read.
    """
    try:
        body: dict[str, Any] = json.loads(Path(path).read_bytes())
        intact = body.pop("sha256") == _digest(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{path}: not JSON with a checksum ({type(error).__name__}: {error})") from None
    if not intact:
        raise DamagedFileError(f"{path}: the checksum does not match; the file was altered or damaged")
    return body


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, under a temporary name that is then renamed; create the folder if missing."""
    with replacing(path) as temporary, temporary.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a temporary name beside ``path`` for a block that writes the file; create the folder if missing.

    At the end of the block the file replaces ``path``. If the block raises, the file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(_temporary_name())
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Provide an empty folder in ``parent`` for a block; remove it and its content at the end."""
    temporary = parent / _temporary_name()
    temporary.mkdir(parents=True)
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary)


def _temporary_name() -> str:
    return f".{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


def remove_abandoned(folder: Path) -> None:
    """Remove from ``folder`` the temporary files and folders of killed processes of this machine."""
    for path in folder.glob(f".{glob.escape(socket.gethostname())}-*-*.tmp"):
        writer = path.name.rsplit("-", 2)[1]
        if writer.isdecimal() and not is_alive(int(writer)):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Whether a process with the number ``pid`` is running on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def canonical(value: Any) -> str:
    """Encode ``value`` as JSON that is identical for equal values."""
    return _CANONICAL.encode(value)


def _digest(body: Any) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()
