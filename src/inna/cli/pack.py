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
    """Pack the rows of a folder, a file each, into one file, rows.jsonl.

    Every command reads packed rows as it reads row files; a sweep that is resumed does not run them again. Row files
    are removed once the new file is written and verified. Run it again to add the rows of later runs. Damaged row files
    are named and left in place. Refused while a sweep is running on the folder.
    """
    console = Console()
    with checking():
        from inna.experiments.rows.pack import pack as pack_rows

        packed = pack_rows(folder)
    for line in packed.damaged:
        print_line(console, f"damaged, left as it is: {line}")
    print_line(console, f"{packed.path}: {count(packed.rows, 'row')}, {packed.added} of them added now")
    return 0
