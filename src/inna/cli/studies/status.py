"""``inna status``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import AsJson, checking, print_json, waiting

__all__ = ["status"]


def status(
    folder: Annotated[Path, Parameter(help="A folder of inna compare, reproduce or benchmark.")],
    /,
    *,
    as_json: AsJson = False,
) -> int:
    """Show the state of a folder's runs and the time left, also during a sweep."""
    console = Console()
    with checking(), waiting(Console(stderr=as_json), f"reading {folder}"):
        from inna.experiments.benchmark.status import benchmark_document, print_benchmark_status, read_benchmark_status
        from inna.experiments.benchmark.suite import MANIFEST
        from inna.experiments.sweep.status import print_status, read_status, status_document

        if (folder / MANIFEST).is_file():
            parts = read_benchmark_status(folder)
        else:
            parts, moment = [], read_status(folder)
    if parts:
        if as_json:
            print_json(benchmark_document(parts))
        else:
            print_benchmark_status(parts, folder, console)
        return 0
    if as_json:
        print_json(status_document(moment))
    else:
        print_status(moment, folder, console)
    return 0
