"""The files of the data sets: found where they lie, fetched where they do not, checked before anything reads them.

Nothing is ever unpacked onto the disk: a file is read whole, its checksum compared, and its contents taken from those
same bytes in memory, by name. So no member of an archive can be written anywhere.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from inna.experiments.tasks.catalogue import DatasetEntry, PublishedFile
from inna.files import remove_abandoned, replacing

__all__ = ["DataError", "Presence", "contents", "data_folder", "fetch", "presence"]

FOLDER_VARIABLE = "INNA_DATA"
TIMEOUT = 30.0  # seconds without an answer, or without a byte, after which the next address is tried
CHUNK = 1 << 16  # bytes
_DAMAGED = "damaged or another file (its checksum differs)"


class DataError(RuntimeError):
    """Data that are not here and could not be fetched, or an archive that does not hold what it should."""


class Presence(NamedTuple):
    """Where an intact copy of a file lies, if anywhere, and the copies passed over since they are damaged or others."""

    file: PublishedFile
    place: Path | None
    damaged: tuple[Path, ...]


class _Copy(NamedTuple):
    place: Path
    contents: Callable[[], dict[str, bytes]]


def data_folder() -> Path:
    """Where data sets are kept: the environment variable ``INNA_DATA``, or else the user's cache folder."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    import pooch

    return Path(pooch.os_cache("inna"))


def presence(described: DatasetEntry) -> list[Presence]:
    """Whether the files of a data set are in `data_folder`, each with its checksum verified; nothing is fetched."""
    return [_presence(described, file)[0] for file in described.files]


def contents(described: DatasetEntry) -> dict[str, bytes]:
    """The contents of a data set's files, by the names in the catalogue; what is missing is fetched first.

    A file is looked for in `data_folder`, in its folder ``NAME`` there and in those that other libraries use, packed or
    unpacked. What is fetched goes into ``NAME``.

    Raises:
        DataError: a file is not here and no address gave it, or the folder cannot be written.
    """
    found: dict[str, bytes] = {}
    for file in described.files:
        _, copy = _presence(described, file)
        if copy is None:
            fetch(described, [file])
            _, copy = _presence(described, file)
        if copy is None:
            raise DataError(f"{described.name}: {file.name} was fetched and then damaged or removed; start again")
        found |= copy.contents()
    return found


def fetch(described: DatasetEntry, files: list[PublishedFile] | None = None) -> None:
    """Fetch ``files`` (by default those that are not here) into the data set's own folder.

    A file is written under a temporary name and renamed once its SHA-256 is right, so whatever ends the download leaves
    the folder as it was; after ``kill -9`` the next download into it clears up. A bar on the terminal shows how far it
    is.

    Raises:
        DataError: no address gave a file, or the folder cannot be written.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    states = [_presence(described, file)[0] for file in (described.files if files is None else files)]
    wanted = [state for state in states if state.place is None]
    own = data_folder() / described.name
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        for state in wanted:
            if not console.is_terminal:
                megabytes = state.file.size / 1e6
                _say(console, f"fetching {state.file.name} ({megabytes:.3g} MB) into {own}")
            task = progress.add_task(state.file.name, total=state.file.size)
            _download(described, state, own, _Bar(state.file, partial(progress.update, task)))
            for path in state.damaged:
                remedy = "replaced" if path == own / state.file.name else f"left alone; an intact one is in {own} now"
                _say(console, f"{path} was {_DAMAGED} and is {remedy}")


def _presence(described: DatasetEntry, file: PublishedFile) -> tuple[Presence, _Copy | None]:
    damaged: list[Path] = []
    root = data_folder()
    for folder in (root / described.name, *(root / other for other in described.folders), root):
        packed = folder / file.name
        content = _read(packed)
        if content is not None:
            if _matches(content, f"sha256:{file.sha256}"):
                copy = _Copy(packed, partial(_unpack, file, packed, content))
                return Presence(file, packed, tuple(damaged)), copy
            damaged.append(packed)
        unpacked = _read_unpacked(file, folder, damaged)
        if unpacked is not None:
            place = folder / next(iter(unpacked))
            return Presence(file, place, tuple(damaged)), _Copy(place, partial(dict, unpacked))
    return Presence(file, None, tuple(damaged)), None


def _read_unpacked(file: PublishedFile, folder: Path, damaged: list[Path]) -> dict[str, bytes] | None:
    """The contents of ``file`` where somebody has unpacked it in ``folder`` already, all of them intact."""
    found = {}
    for name, checksum in file.contents.items():
        content = _read(folder / name) if checksum else None
        if content is None:
            return None
        if not _matches(content, checksum):
            damaged.append(folder / name)
            return None
        found[name] = content
    return found


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _matches(content: bytes, checksum: str) -> bool:
    algorithm, _, digest = checksum.partition(":")
    return hashlib.new(algorithm, content, usedforsecurity=algorithm != "md5").hexdigest() == digest


def _unpack(file: PublishedFile, path: Path, packed: bytes) -> dict[str, bytes]:
    if not file.name.endswith(".tar.gz"):
        (name,) = file.contents
        return {name: gzip.decompress(packed)}
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
        found = dict(_members(archive, file, path))
    missing = [name for name in file.contents if name not in found]
    if missing:
        raise DataError(f"{path} holds no file {missing[0]}")
    # An archive has its members in any order; images must not depend on whether somebody has unpacked them.
    return {name: found[name] for name in file.contents}


def _members(archive: tarfile.TarFile, file: PublishedFile, path: Path) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if member.name in file.contents:
            # A link would lead to another member, or nowhere.
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                raise DataError(f"{path}: {member.name} in it is no plain file")
            yield member.name, content.read()


class _Bar:
    """The progress bar that pooch asks for, which also stops an answer longer than the file can be."""

    def __init__(self, file: PublishedFile, show: Callable[..., Any]) -> None:
        self.file, self.show = file, show
        self.total, self.received = file.size, 0

    def update(self, count: int) -> None:
        self.received += count
        if self.received > self.file.size + CHUNK:
            raise ValueError("the answer is longer than the file")
        self.show(completed=min(self.received, self.file.size))

    def reset(self) -> None:
        self.received = 0

    def close(self) -> None:
        """Nothing: the display belongs to `fetch`."""


def _download(described: DatasetEntry, state: Presence, folder: Path, bar: _Bar) -> None:
    import pooch
    import requests

    download = pooch.HTTPDownloader(progressbar=bar, chunk_size=CHUNK, timeout=TIMEOUT)
    file, reasons = state.file, []
    for address in file.addresses:
        bar.reset()
        try:
            remove_abandoned(folder)  # what a download that was killed left there
            with replacing(folder / file.name) as temporary:
                download(address, temporary, None)
                if pooch.file_hash(str(temporary)) != file.sha256:
                    raise ValueError("another file")
            return
        except requests.HTTPError as error:
            reason = f"HTTP status {error.response.status_code}" if error.response is not None else "an HTTP error"
        except requests.Timeout:
            reason = f"no answer within {TIMEOUT:g} s"
        except requests.exceptions.ChunkedEncodingError:
            reason = "the answer broke off"
        except requests.ConnectionError:
            reason = "no connection, or it was lost"
        except requests.RequestException as error:
            reason = type(error).__name__
        except ValueError:
            reason = "it gave a damaged or another file"
        except OSError as error:
            raise DataError(f"{folder} cannot be written: {error.strerror or error}") from error
        reasons.append(f"{urlsplit(address).netloc}: {reason}")
    trouble = f"{state.damaged[0]} is {_DAMAGED}" if state.damaged else f"{file.name} is not in {data_folder()}"
    raise DataError(
        f"{described.name}: {trouble}, and it could not be fetched ({'; '.join(reasons)}). Put {file.name} into "
        f"{folder}, or name its folder with --data-dir or {FOLDER_VARIABLE}"
    )


def _say(console: Any, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
