"""``inna report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.messages import checking, say

__all__ = [
    "report",
]


def report(
    folder: Annotated[Path, Parameter(help="A folder that inna compare or inna reproduce wrote, such as runs/digits.")],
    /,
    *,
    figures: Annotated[
        tuple[str, ...],
        Parameter(
            help="Also write the figures into FOLDER/figures: png, svg or both. [default: none]",
            consume_multiple=True,
            show_default=False,
        ),
    ] = (),
) -> int:
    """Write report.html anew from the rows of a folder, and show the table. Needs no torch.

    In a folder that inna reproduce wrote also reproduction.html: verdicts on the paper's claims, its figures redrawn.
    """
    console = Console()
    with checking():
        from inna.experiments.report.write import print_table, summary_table, write_figures, write_report
        from inna.experiments.rows.row_files import read_rows
        from inna.experiments.study.study import MANIFEST, Study
        from inna.paper.page import write_reproduction
        from inna.paper.reproduction import is_reproduction

        pages, table = [], None
        reproduced = is_reproduction(folder)
        # Where Figure 1 is all there is, there is no study to report on.
        if not reproduced or (folder / MANIFEST).is_file():
            pages.append(write_report(folder))
            rows = read_rows(folder, on_damage=lambda text: say(console, text))
            table = summary_table(Study.load(folder), rows)
        if reproduced:
            pages += write_reproduction(folder)
        drawn = write_figures(folder, [name for listed in figures for name in listed.split(",")]) if figures else []
    if table is not None:
        print_table(table, console)
    for page in pages:
        say(console, f"report: {page}")
    for path in drawn:
        say(console, f"figure: {path}")
    return 0
