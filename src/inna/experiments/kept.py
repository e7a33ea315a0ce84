"""The user's cache folder, and values that are kept there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inna.files import DamagedFileError, read_document, write_document

__all__ = ["cache_folder", "kept"]


def cache_folder() -> Path:
    """Return the folder of this user's files that can be made or downloaded again."""
    import pooch

    return Path(pooch.os_cache("inna"))


def kept(name: str, make: Callable[[], Any]) -> Any:
    """Return what ``make`` returns, made once and kept as JSON.

    It is kept in the user's cache folder. Without such a folder, and where the file is damaged, it is made again.

    Args:
        name: of the file, relative to the folder. It names all on which the value depends, such as versions.
        make: returns a value that JSON can express.
    """
    file = cache_folder() / name
    with contextlib.suppress(OSError, DamagedFileError, KeyError):
        return read_document(file)["value"]
    value = make()
    with contextlib.suppress(OSError):
        write_document(file, {"value": value})
    return value
