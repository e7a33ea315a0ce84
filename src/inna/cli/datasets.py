"""The command ``inna datasets``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table

from inna.cli.options import DataFolder, DataFolderOptions, checking
from inna.experiments.formatting import print_line, printable
from inna.experiments.tasks.catalogue import CATALOGUE, DatasetEntry
from inna.experiments.tasks.local_files import FileState, data_folder, file_states

__all__ = [
    "RIGHT",
    "datasets",
    "describe",
    "overview",
]


def datasets(
    name: Annotated[
        str | None, Parameter(help="A data set, to show its files, or FILE.npz, to check it. [default: list all]")
    ] = None,
    /,
    *,
    download: Annotated[bool, Parameter(help="Download the missing files of NAME.")] = False,
    data: DataFolder = DataFolderOptions(),
) -> int:
    """List the data sets, or show, check or download one.

    The list has sizes, terms of use, and whether the data folder has an intact copy.

    inna compare and inna train download what they need.
    """
    console = Console()
    with checking():
        from inna.experiments.tasks.catalogue import entry
        from inna.experiments.tasks.data_file import data_path, is_data_file, read_data_file
        from inna.experiments.tasks.downloads import fetch

        data.use()
        own = name is not None and is_data_file(name)
        described = None if name is None else read_data_file(data_path(name)).entry if own else entry(name)
        if download and (described is None or own):
            raise ValueError("--download needs the name of a data set, such as inna datasets mnist --download")
    if described is None:
        console.print(overview(console))
        return 0
    if download:
        fetch(described)
    for line in describe(described):
        print_line(console, line)
    return 0


RIGHT = ("train", "test", "classes", "download")


def overview(console: Console) -> Table:
    """Return a table of the data sets for ``console``, one per line."""
    caption = f"Folder: {data_folder()}. inna datasets NAME shows the files of one, --download downloads them."
    table = Table(box=None, caption=printable(caption, console), caption_justify="left", padding=(0, 1, 0, 0))
    for heading in ("name", "images", "train", "test", "classes", "download", "here", "terms"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in RIGHT else "left")
    for described in CATALOGUE.values():
        size = sum(file.size for file in described.files)
        table.add_row(
            described.name,
            _pixels(described),
            f"{described.train:,}",
            f"{described.test:,}",
            str(described.classes),
            f"{size / 1e6:.0f} MB" if size else "bundled",
            _state(file_states(described)),
            described.terms,
        )
    return table


def describe(described: DatasetEntry) -> Iterator[str]:
    """Return lines about one data set.

    Its description, and each file with size, checksum, place and addresses.
    """
    yield f"{described.name}: {described.title}, {_pixels(described)}, {described.classes} classes"
    yield f"train and test images: {described.train:,} and {described.test:,}"
    yield f"networks: {', '.join(described.networks)}"
    if described.terms:
        yield f"terms: {described.terms}"
    yield f"source: {described.source}"
    for state in file_states(described):
        file = state.file
        yield f"{file.name}: {file.size:,} bytes, SHA-256 {file.sha256}"
        yield f"  {_place(state)}"
        for address in file.addresses:
            yield f"  from {address}"


def _pixels(described: DatasetEntry) -> str:
    if len(described.shape) == 1:
        return f"{described.shape[0]} features"
    channels, height, width = described.shape
    return f"{height} x {width} {'grey' if channels == 1 else 'colour'}"


def _state(states: list[FileState]) -> str:
    if all(state.place for state in states):
        return "yes"
    if any(state.damaged and not state.place for state in states):
        return "damaged"
    return "partly" if any(state.place for state in states) else "no"


def _place(state: FileState) -> str:
    if state.place is not None:
        return f"here, intact: {state.place}"
    if state.damaged:
        return f"damaged or another file: {', '.join(map(str, state.damaged))}"
    return "not here"
