"""A lock on a folder of rows, held by whoever writes there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from inna.files import DamagedFileError

__all__ = ["LOCK", "FolderGoneError", "FolderInUseError", "lock"]

LOCK = ".sweep.lock"


class FolderInUseError(RuntimeError):
    """Another process writes rows into the folder."""


class FolderGoneError(RuntimeError):
    """The folder was deleted or replaced; its lock is held no longer."""


@contextmanager
def lock(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold the lock of ``folder``.

    The system releases it when the process ends, however that happens.

    The block gets a function that raises a `FolderGoneError` once the locked file is not that of ``folder`` any more:
    then another process can lock the folder, too.

    Raises:
        FolderInUseError: another process holds it.
        DamagedFileError: in its place is a folder, a link or something else that is no file.
    """
    from filelock import FileLock, Timeout

    path = folder / LOCK
    held = FileLock(path)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise FolderInUseError(
            f"a sweep is running on {folder}; wait for it, or stop it (`inna status {folder}` shows its progress)"
        ) from None
    except OSError:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise DamagedFileError(f"{path} is no regular file, as the lock of a folder must be; remove it") from None
        raise
    locked = path.stat()

    def check() -> None:
        try:
            gone = not os.path.samestat(path.stat(), locked)
        except FileNotFoundError:
            gone = True
        if gone:
            raise FolderGoneError(f"{folder} was deleted or replaced by another folder")

    try:
        yield check
    finally:
        held.release()
