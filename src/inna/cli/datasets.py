"""``inna datasets``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.messages import checking, say
from inna.cli.options import DataDir, keep_data_in

__all__ = ["datasets"]


def datasets(
    name: Annotated[str | None, Parameter(help="One of them, to see its files. [default: a list of all]")] = None,
    /,
    *,
    download: Annotated[bool, Parameter(help="Fetch what is not here of NAME.")] = False,
    data_dir: DataDir = None,
) -> int:
    """Show the data sets: size, checksums, terms of use, and whether an intact copy is here; fetch one.

    inna compare and inna train fetch what they need by themselves.
    """
    console = Console()
    with checking():
        from inna.experiments.dataset_table import describe, overview
        from inna.experiments.tasks.catalogue import entry
        from inna.experiments.tasks.downloads import fetch

        keep_data_in(data_dir)
        described = None if name is None else entry(name)
        if download and described is None:
            raise ValueError("--download needs the name of a data set")
    if described is None:
        console.print(overview())
        return 0
    if download:
        fetch(described)
    for line in describe(described):
        say(console, line)
    return 0
