"""The report of a comparison: a page that stands on its own, a table for the terminal, figures for papers.

Everything is read from the rows in a folder and their study.json; no framework is imported. The page carries its own
JavaScript (Vega, Vega-Lite and Vega-Embed, 0.9 MB) and opens from disk without a network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from inna.experiments.charts.pictures import FORMATS, check_formats, write_pictures
from inna.experiments.report.figures import figures
from inna.experiments.report.page import build_page
from inna.experiments.report.terminal import print_table, summary_table
from inna.experiments.statistics.read import read_summary
from inna.experiments.study.study import MANIFEST
from inna.files import write_whole
from inna.paper.reproduction import is_reproduction, read_reproduction

__all__ = ["print_table", "summary_table", "write_figures", "write_report"]

PAGE = "report.html"


def write_report(folder: Path) -> Path:
    """Write report.html into ``folder`` from the rows and the study.json that lie there.

    Rows of other studies are left out, damaged ones too; the page names them. A comparison that is not complete yet
    gives a page that says what is missing.

    Returns:
        The path of the page, which is written under a temporary name first, then renamed.

    Raises:
        FileNotFoundError: there is no such folder, or no study.json in it.
        ValueError: no run of the study is done yet.
        DamagedRowError: study.json is damaged.
    """
    folder = Path(folder)
    summary, notes = read_summary(folder)
    path = folder / PAGE
    write_whole(path, build_page(summary, notes).encode())
    return path


def write_figures(folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figures of the report into ``folder``/figures, on white, a file for each of ``formats``.

    Of a folder that `inna reproduce` wrote these are the paper's figures too.

    Args:
        folder: where the rows and study.json lie.
        formats: of "png" (three pixels a point) and "svg".

    Returns:
        The paths of the files.

    Raises:
        ValueError: an unknown format, or no run of the study is done yet.
        FileNotFoundError, DamagedRowError: as `write_report`.
    """
    folder = Path(folder)
    check_formats(formats)
    drawn = []
    if is_reproduction(folder):
        drawn += read_reproduction(folder).figures
    if not drawn or (folder / MANIFEST).is_file():
        drawn = figures(read_summary(folder)[0]) + drawn
    return write_pictures(drawn, folder / "figures", formats)
