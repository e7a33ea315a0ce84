"""Find the files of the data sets here, verify their checksums, read them.

Nothing is unpacked onto the disk: a file is read whole, its checksum is compared, and its members are taken by name
from the same bytes in memory.
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
from typing import NamedTuple

from inna.experiments.kept import cache_folder
from inna.experiments.tasks.catalogue import DatasetEntry, PublishedFile, entry, split_subset
from inna.experiments.tasks.data_file import is_data_file
from inna.files import DamagedFileError, read_file

__all__ = ["FOLDER_VARIABLE", "DataError", "FileState", "data_folder", "file_state", "file_states", "missing_files"]

FOLDER_VARIABLE = "INNA_DATA"


class DataError(RuntimeError):
    """Data are missing and cannot be downloaded, or an archive lacks members."""


class FileState(NamedTuple):
    """The intact copy of a file, if there is one, and how to read it.

    Attributes:
        file: the file as it is published.
        place: the intact copy; None without one.
        damaged: copies with another checksum.
        read: returns the contents by the names in the catalogue; None without a copy.
    """

    file: PublishedFile
    place: Path | None
    damaged: tuple[Path, ...]
    read: Callable[[], dict[str, bytes]] | None


def data_folder() -> Path:
    """Return the folder of the data sets.

    The environment variable ``INNA_DATA``, or else the user's cache folder.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder()


def file_states(described: DatasetEntry) -> list[FileState]:
    """Look for each file of a data set and verify its checksum.

    Nothing is downloaded.
    """
    return [file_state(described, file) for file in described.files]


def missing_files(name: str) -> list[PublishedFile]:
    """Return the files of a data set without an intact copy here.

    Of a subset ``name[:N]``, too; none of one's own.
    """
    if is_data_file(name):
        return []
    return [state.file for state in file_states(entry(split_subset(name)[0])) if state.place is None]


def file_state(described: DatasetEntry, file: PublishedFile) -> FileState:
    """Look for one file, packed or unpacked, and verify its checksum.

    It is looked for in `data_folder`, in the folder ``NAME`` there, and in the folders that other libraries use.

    Raises:
        DataError: a file exists and cannot be read.
    """
    damaged: list[Path] = []
    root = data_folder()
    for folder in (root / described.name, *(root / other for other in described.folders), root):
        packed = folder / file.name
        content = _read(packed)
        if content is not None:
            if _matches(content, f"sha256:{file.sha256}"):
                return FileState(file, packed, tuple(damaged), partial(_unpack, file, packed, content))
            damaged.append(packed)
        unpacked = _read_unpacked(file, folder, damaged)
        if unpacked is not None:
            return FileState(file, folder / next(iter(unpacked)), tuple(damaged), partial(dict, unpacked))
    return FileState(file, None, tuple(damaged), None)


def _read_unpacked(file: PublishedFile, folder: Path, damaged: list[Path]) -> dict[str, bytes] | None:
    """Read the contents of ``file`` from ``folder``, where it was unpacked.

    All of them must be intact.
    """
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
        return read_file(path)
    except (FileNotFoundError, NotADirectoryError, DamagedFileError):
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
        raise DataError(f"{path} contains no file {missing[0]}")
    # Archives order their members as they like; the order of the images must not depend on it.
    return {name: found[name] for name in file.contents}


def _members(archive: tarfile.TarFile, file: PublishedFile, path: Path) -> Iterator[tuple[str, bytes]]:
    for member in archive:
        if member.name in file.contents:
            # A link would lead to another member, or nowhere.
            content = archive.extractfile(member) if member.isreg() else None
            if content is None:
                raise DataError(f"{path}: its member {member.name} is not a regular file")
            yield member.name, content.read()
