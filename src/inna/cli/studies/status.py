"""``inna status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import AsJson, checking, print_json

__all__ = ["status"]


def status(
    folder: Annotated[Path, Parameter(help="A folder of inna compare or inna reproduce.")],
    /,
    *,
    as_json: AsJson = False,
) -> int:
    """Show the state of a folder's runs and the time left, also during a sweep."""
    console = Console()
    with checking():
        from inna.experiments.sweep.status import print_status, read_status, status_document

        moment = read_status(folder)
    if as_json:
        print_json(status_document(moment))
    else:
        print_status(moment, folder, console)
    return 0
