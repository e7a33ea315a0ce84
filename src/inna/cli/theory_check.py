"""The command ``inna theory-check``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import checking, listed, waiting
from inna.experiments.formatting import print_line, printable

__all__ = ["theory_check"]


def theory_check(
    *,
    only: Annotated[
        tuple[str, ...],
        listed(str),
        Parameter(help="Demonstrations to run, by name: rates,stability. [default: all]"),
    ] = (),
) -> int:
    """Run the demonstrations of the theory.

    Print statement, expected and measured values, and verdict of each. This takes under three minutes on two cores. The
    exit status is 1 if one does not hold.
    """
    from rich.table import Table
    from rich.text import Text

    console = Console()
    with checking(), waiting(console, "loading"):
        from inna.theory.demonstrations import names, run_demonstrations

        findings = run_demonstrations(only or None)
    planned = len(only or names())
    total = failed = 0
    with console.status(f"running, 0 of {planned} done", spinner="line") as spinner:
        for finding in findings:
            total += 1
            spinner.update(f"running, {total} of {planned} done")
            failed += not finding.holds
            verdict = ("holds", "green") if finding.holds else ("DOES NOT HOLD", "red")
            shown = finding.demonstration
            console.print(Text.assemble((shown.name, "bold"), ": ", verdict, f"  ({finding.seconds:.1f} s)"))
            lines = Table.grid(padding=(0, 1))
            for label, words in (
                ("  statement", shown.statement),
                ("  expected", shown.expected),
                ("  measured", finding.measured),
                ("  source", shown.source),
            ):
                value = printable(words, console)
                value.overflow = "fold"
                lines.add_row(Text(label, style="dim"), value)
            console.print(lines)
    print_line(console, f"{total - failed} of {total} hold")
    return 1 if failed else 0
