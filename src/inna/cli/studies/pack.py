"""``inna pack``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import checking
from inna.experiments.formatting import count, print_line

__all__ = ["pack"]


def pack(folder: Annotated[Path, Parameter(help="A folder of inna compare or inna reproduce.")], /) -> int:
    """Pack the results of a folder, one file for each run, into rows.jsonl.

    Every command reads packed results as it reads single files; a sweep that is resumed does not repeat their runs. The
    files are removed once the new one is written and verified. Run it again to add later runs. Damaged files are named
    and left in place. Refused while a sweep is running on the folder.
    """
    console = Console()
    with checking():
        from inna.experiments.rows.pack import pack as pack_rows

        packed = pack_rows(folder)
    for line in packed.damaged:
        print_line(console, f"damaged, left as it is: {line}")
    print_line(console, f"{packed.path}: {count(packed.rows, 'run')}, {packed.added} of them added now")
    return 0
