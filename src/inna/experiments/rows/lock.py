"""A lock on a folder of rows, held by whoever writes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["LOCK", "FolderInUseError", "lock"]

LOCK = ".sweep.lock"


class FolderInUseError(RuntimeError):
    """Another process writes rows into the folder."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the lock of ``folder``. The system releases it when the process ends, however that happens.

    Raises:
        FolderInUseError: another process holds it.
    """
    from filelock import FileLock, Timeout

    held = FileLock(folder / LOCK)
    try:
        held.acquire(timeout=0)
    except Timeout:
        raise FolderInUseError(
            f"a sweep is running on {folder}; wait for it, or stop it (`inna status {folder}` shows its progress)"
        ) from None
    try:
        yield
    finally:
        held.release()
