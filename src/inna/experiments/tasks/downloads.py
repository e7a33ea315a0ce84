"""Download the files of the data sets.

Checksums and retries are pooch's, mirrors are added here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from inna.experiments.formatting import print_line
from inna.experiments.tasks.catalogue import DatasetEntry, PublishedFile
from inna.experiments.tasks.local_files import (
    FOLDER_VARIABLE,
    DataError,
    FileState,
    data_folder,
    file_state,
    file_states,
)
from inna.files import remove_abandoned, temporary_folder

__all__ = ["contents", "fetch"]

TIMEOUT = 30.0  # seconds without an answer, or without a byte, after which the next address is tried
CHUNK = 1 << 16  # bytes
_DAMAGED = "damaged or another file (its checksum differs)"


def contents(described: DatasetEntry) -> dict[str, bytes]:
    """Return the contents of a data set's files by their names.

    Download those that are missing.

    Raises:
        DataError: a file is missing and no address gave it, or the folder cannot be written.
    """
    found: dict[str, bytes] = {}
    for file in described.files:
        state = file_state(described, file)
        if state.read is None:
            fetch(described, [state])
            state = file_state(described, file)
        if state.read is None:
            raise DataError(f"{described.name}: {file.name} was damaged or removed after its download; start again")
        found |= state.read()
    return found


def fetch(described: DatasetEntry, states: list[FileState] | None = None) -> None:
    """Download the missing ones of ``states`` into the data set's own folder.

    By default all files.

    A file is renamed into the folder once its SHA-256 is verified. An interrupted download leaves nothing behind; what
    a killed one leaves is removed by the next. A progress bar is shown on a terminal.

    Raises:
        DataError: no address gave a file, or the folder cannot be written.
    """
    console = Console(stderr=True)
    own = data_folder() / described.name
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for state in file_states(described) if states is None else states:
            if state.place is not None:
                continue
            file = state.file
            if not console.is_terminal:
                print_line(console, f"downloading {file.name} ({file.size / 1e6:.3g} MB) into {own}")
            task = progress.add_task(file.name, total=file.size)
            _download(described, state, own, partial(_show, progress, task))
            for path in state.damaged:
                remedy = "replaced" if path == own / file.name else f"kept; an intact copy is in {own}"
                print_line(console, f"{path} was {_DAMAGED} and is {remedy}")


def _show(progress: Progress, task: TaskID, received: int) -> None:
    progress.update(task, completed=received)


def _download(described: DatasetEntry, state: FileState, folder: Path, show: Callable[[int], Any]) -> None:
    file, mirrors = state.file, _Mirrors(state.file, show)
    retries = len(file.addresses) - 1
    pooch.get_logger().setLevel("WARNING")
    try:
        if retries < 0:
            raise ValueError("no address")
        remove_abandoned(folder)
        with temporary_folder(folder) as temporary:
            registry = pooch.create(temporary, "", registry={file.name: file.sha256}, retry_if_failed=retries)
            Path(registry.fetch(file.name, downloader=mirrors)).replace(folder / file.name)
        return
    except (ValueError, requests.RequestException):
        pass  # the error would keep the connection open
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
    trouble = f"{state.damaged[0]} is {_DAMAGED}" if state.damaged else f"{file.name} is not in {data_folder()}"
    raise DataError(
        f"{described.name}: {trouble}, and the download failed ({'; '.join(mirrors.reasons) or 'no address'}). Put "
        f"{file.name} into {folder}, or name its folder with --data-dir or {FOLDER_VARIABLE}"
    )


class _Mirrors:
    """A downloader for pooch that takes the next address at each attempt.

    It notes why an attempt failed.
    """

    def __init__(self, file: PublishedFile, show: Callable[[int], Any]) -> None:
        self.size, self.show = file.size, show
        self.remaining = iter(file.addresses)
        self.reasons: list[str] = []

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        address, path = next(self.remaining), Path(output_file)
        path.unlink()  # pooch makes it readable by its owner alone
        download = pooch.HTTPDownloader(_Bar(path, self.size, self.show), chunk_size=CHUNK, timeout=TIMEOUT)
        # Pooch compares the checksum afterwards, so this is the reason unless the download itself fails.
        self.reasons.append(f"{urlsplit(address).netloc}: a damaged or another file")
        try:
            download(address, output_file, None)
        except requests.RequestException as error:
            self.reasons[-1] = f"{urlsplit(address).netloc}: {_reason(error)}"
            raise


class _Bar:
    """The progress bar that pooch asks for.

    It also stops a response longer than the file.
    """

    def __init__(self, path: Path, size: int, show: Callable[[int], Any]) -> None:
        self.path, self.total, self.size, self.show = path, size, size, show

    def update(self, _: int) -> None:
        """Show the bytes written.

        Pooch reports the size of a chunk it asked for, not of the one it received.
        """
        received = self.path.stat().st_size
        if received > self.size:
            raise ValueError("the response is longer than the file")
        self.show(received)

    def reset(self) -> None:
        """Do nothing; the bar is full already."""

    def close(self) -> None:
        """Do nothing; the display belongs to `fetch`."""


def _reason(error: requests.RequestException) -> str:
    match error:
        case requests.HTTPError(response=requests.Response(status_code=status)):
            return f"HTTP status {status}"
        case requests.Timeout():
            return f"no answer within {TIMEOUT:g} s"
        case requests.exceptions.ChunkedEncodingError():
            return "the response broke off"
        case requests.ConnectionError():
            return "no connection, or it was lost"
    return type(error).__name__
