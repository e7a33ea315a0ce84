"""The command ``inna report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import AsJson, Show, checking, listed, open_pages, print_json, waiting
from inna.experiments.formatting import print_line

__all__ = ["report"]


def report(
    folder: Annotated[
        Path, Parameter(help="A folder that inna compare, reproduce or benchmark wrote, such as runs/digits.")
    ],
    /,
    *,
    figures: Annotated[
        tuple[str, ...],
        listed(str, blanks=False),  # so that FOLDER may follow
        Parameter(help="Also write the figures into FOLDER/figures: png, svg or png,svg. [default: none]"),
    ] = (),
    show: Show = False,
    as_json: AsJson = False,
) -> int:
    """Write report.html from the results of a folder and print the table.

    Needs no torch.

    In a folder of inna reproduce, also write reproduction.html: verdicts on the paper's claims, its figures redrawn.
    In a folder of inna benchmark, write benchmark.html.
    """
    console = Console(stderr=as_json)
    with checking(), waiting(console, f"reading {folder}"):
        from inna.experiments.benchmark.suite import MANIFEST as BENCHMARK
        from inna.experiments.charts.pictures import check_formats, write_pictures
        from inna.experiments.report.comparison_result import report_document
        from inna.experiments.report.figures import figures as report_figures
        from inna.experiments.report.write import FIGURES, print_table, write_report
        from inna.paper.page import write_reproduction
        from inna.paper.reproduction import find_reproduction, read_results

        formats = check_formats(figures)
        if (folder / BENCHMARK).is_file():
            return _report_benchmark(folder, console, formats, show=show, as_json=as_json)
        results = read_results(folder)
        reproduction = find_reproduction(folder, results)
        if as_json and results is None:
            raise ValueError(f"{folder} contains no comparison, so there is no table to print as JSON")
    pages, chosen_figures = [], []
    if results is not None:
        for note in results.notes:
            print_line(console, note)
        pages.append(write_report(results))
        chosen_figures += report_figures(results.summary)
        if as_json:
            print_json(report_document(results))
        else:
            print_table(results.summary, console)
    if reproduction is not None:
        pages.append(write_reproduction(reproduction))
        chosen_figures += reproduction.figures
    for page in pages:
        print_line(console, f"report: {page}")
    for path in write_pictures(chosen_figures, folder / FIGURES, formats) if formats else ():
        print_line(console, f"figure: {path}")
    if show:
        open_pages(pages[-1:])
    return 0


def _report_benchmark(folder: Path, console: Console, formats: tuple[str, ...], *, show: bool, as_json: bool) -> int:
    """Write the page of a benchmark and its figures, and print the verdict."""
    from inna.experiments.benchmark.report.figures import figures
    from inna.experiments.benchmark.report.page import write_page
    from inna.experiments.benchmark.report.terminal import print_verdict, verdict_document
    from inna.experiments.charts.pictures import write_pictures
    from inna.experiments.report.write import FIGURES

    page, judged = write_page(folder)
    if as_json:
        print_json(verdict_document(judged))
    else:
        print_verdict(judged, console)
    print_line(console, f"report: {page}")
    for path in write_pictures(figures(judged), folder / FIGURES, formats) if formats else ():
        print_line(console, f"figure: {path}")
    if show:
        open_pages([page])
    return 0
