"""Atomic file writes, locked files and checksummed JSON."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "FRESH",
    "DamagedFileError",
    "LockedFile",
    "canonical",
    "check_folder",
    "describe_damage",
    "is_locked",
    "open_file",
    "read_document",
    "read_file",
    "remove_abandoned",
    "replacing",
    "temporary_folder",
    "write_document",
    "write_whole",
]


# Where locks say nothing, a file counts as in use for so many seconds after it was written.
FRESH = 3600.0
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class DamagedFileError(ValueError):
    """A file that is cut short, altered, or of another kind."""


def write_document(path: Path, body: Mapping[str, Any]) -> None:
    """Write ``body`` and its checksum as JSON to ``path``, atomically.

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
    content = read_file(path)
    try:
        body: dict[str, Any] = json.loads(content)
        intact = body.pop("sha256") == _digest(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFileError(f"{path}: not JSON with a checksum ({type(error).__name__}: {error})") from None
    if not intact:
        raise DamagedFileError(f"{path}: the checksum does not match; the file was altered or damaged")
    return body


def write_whole(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, under a temporary name that is then renamed.

    Create the folder if missing.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Provide a temporary file beside ``path`` for a block that writes it.

    Create the folder if missing.

    The file is locked. At the end of the block it replaces ``path``; if the block raises, it is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(lambda: _created(path.parent)) as temporary:
        try:
            yield temporary
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Provide an empty folder in ``parent`` for a block, locked.

    Remove it and its content at the end.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with _locked(lambda: _created_folder(parent)) as temporary:
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary)


class LockedFile:
    """A file that its writer holds locked, replaced whole at each write.

    `is_locked` tells other processes whether the writer still lives. The system releases the lock when a process ends,
    however that happens, and it works across containers, where process numbers do not.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def write(self, content: bytes) -> None:
        """Replace the file by one with ``content``; create the folder if missing.

        Raises:
            OSError: the folder cannot be written, or the disk is full.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _lock_new(lambda: _created(self.path.parent))
        try:
            if os.write(descriptor, content) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            temporary.replace(self.path)
        except BaseException:
            os.close(descriptor)
            temporary.unlink(missing_ok=True)
            raise
        self._release()
        self._descriptor = descriptor

    def close(self) -> None:
        """Remove the file, if it was written."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._release()

    def _release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading, without ever waiting for it.

    Raises:
        DamagedFileError: it is a folder, a pipe, a socket or a device, which could block or never end.
        OSError: it cannot be read.
    """
    with _opened(path) as descriptor, open(descriptor, "rb", closefd=False) as file:
        yield file


def read_file(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        DamagedFileError, OSError: as `open_file`.
    """
    with open_file(path) as file:
        return file.read()


def describe_damage(path: Path, error: Exception) -> str:
    """Describe why ``path`` cannot be used, in one line that names it."""
    if isinstance(error, OSError):
        return f"{path}: cannot be read ({error.strerror or error})"
    return str(error) if isinstance(error, DamagedFileError) else f"{path}: not what inna writes ({error})"


def check_folder(folder: Path) -> None:
    """Check that ``folder`` is a folder, or can be made.

    Raises:
        ValueError: it cannot be made.
    """
    for place in (folder, *folder.parents):
        if place.is_dir():
            return
        if place.exists():
            raise ValueError(f"{place} is not a folder")


def is_locked(path: Path) -> bool:
    """Return whether the writer of a `LockedFile` or a temporary file still holds it.

    Where the file system has no locks, files count as held for `FRESH` seconds after they were written.

    Raises:
        DamagedFileError: it is neither a regular file nor a folder.
        OSError: it cannot be read.
    """
    with _opened(path, folder=True) as descriptor:
        return _counts_as_held(descriptor)


def remove_abandoned(folder: Path) -> None:
    """Remove from ``folder`` the temporary files and folders that no writer holds.

    Those of other machines are kept for `FRESH` seconds, since locks may not reach from one machine to another.
    """
    here = f".{socket.gethostname()}-"
    for path in folder.glob(".*-*-*.tmp"):
        # Removed under a shared lock: a writer that has created it and not locked it yet waits, and then makes another.
        with contextlib.suppress(OSError, DamagedFileError), _opened(path, folder=True) as descriptor:
            fresh = time.time() - os.fstat(descriptor).st_mtime < FRESH
            if not _counts_as_held(descriptor) and (path.name.startswith(here) or not fresh):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def _locked(create: Callable[[], Path]) -> Iterator[Path]:
    path, descriptor = _lock_new(create)
    try:
        yield path
    finally:
        os.close(descriptor)


def _lock_new(create: Callable[[], Path]) -> tuple[Path, int]:
    """Create a file or folder and lock it; return it with the open descriptor."""
    while True:
        path = create()
        try:
            descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        except FileNotFoundError:
            continue  # it was taken for abandoned before it was opened
        try:
            with contextlib.suppress(OSError):  # the file system has no locks
                if fcntl is not None:
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # it was taken for abandoned before it was locked


def _created(folder: Path) -> Path:
    path = folder / _temporary_name()
    path.touch(exist_ok=False)
    return path


def _created_folder(folder: Path) -> Path:
    path = folder / _temporary_name()
    path.mkdir()
    return path


def _temporary_name() -> str:
    return f".{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}.tmp"


@contextmanager
def _opened(path: Path, *, folder: bool = False) -> Iterator[int]:
    """Open a regular file, or a folder too, for reading; never block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise DamagedFileError(f"{path}: not a regular file") from None
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISREG(mode) or (folder and stat.S_ISDIR(mode))):
            raise DamagedFileError(f"{path}: not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def _counts_as_held(descriptor: int) -> bool:
    """Return whether a writer holds a file, as `is_locked`.

    If not, ``descriptor`` keeps a shared lock.
    """
    held = _is_held(descriptor)
    return time.time() - os.fstat(descriptor).st_mtime < FRESH if held is None else held


def _is_held(descriptor: int) -> bool | None:
    """Return whether another descriptor has an exclusive lock.

    None where the file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        return True if error.errno == errno.EACCES else None
    return False


def canonical(value: Any) -> str:
    """Encode ``value`` as JSON that is identical for equal values."""
    return _CANONICAL.encode(value)


def _digest(body: Any) -> str:
    return hashlib.sha256(canonical(body).encode()).hexdigest()
