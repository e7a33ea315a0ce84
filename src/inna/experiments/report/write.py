"""Write the report of a comparison.

A self-contained page, and figures for papers.

Everything is read from the rows in a folder and their study.json; no framework is imported. The page carries its own
JavaScript (Vega, Vega-Lite and Vega-Embed, 0.9 MB) and opens from disk without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inna.experiments.charts.pictures import FORMATS, check_formats, write_pictures
from inna.experiments.report.figures import figures
from inna.experiments.report.page import build_page
from inna.experiments.report.terminal import print_summary, print_table
from inna.experiments.statistics.read import Results, open_results
from inna.files import remove_abandoned, write_whole

__all__ = ["FIGURES", "print_summary", "print_table", "write_figures", "write_report"]

PAGE = "report.html"
FIGURES = "figures"


def write_report(results: Results | str | Path) -> Path:
    """Write report.html from a folder of results and into it.

    Damaged rows and rows of other studies are skipped, and the page names them. A comparison that is not complete yet
    gives a page that lists what is missing.

    Args:
        results: the folder, or what `open_results` read from it.

    Returns:
        The path of the page, which is written under a temporary name first, then renamed.

    Raises:
        FileNotFoundError: there is no such folder, or no study.json in it.
        ValueError: no run of the study is done yet.
        DamagedRowError: study.json is damaged.
    """
    results = _opened(results)
    remove_abandoned(results.folder)
    path = results.folder / PAGE
    write_whole(path, build_page(results).encode())
    return path


def write_figures(results: Results | str | Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figures of the report into FOLDER/figures, on white.

    There is a file for each of ``formats``.

    Args:
        results: the folder, or what `open_results` read from it.
        formats: of "png" (three pixels a point) and "svg".

    Returns:
        The paths of the files.

    Raises:
        ValueError: an unknown format, or no run of the study is done yet.
        FileNotFoundError, DamagedRowError: as `write_report`.
    """
    check_formats(formats)
    results = _opened(results)
    return write_pictures(figures(results.summary), results.folder / FIGURES, formats)


def _opened(results: Results | str | Path) -> Results:
    return results if isinstance(results, Results) else open_results(results)
