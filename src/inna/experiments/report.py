"""The report of a comparison: a page that stands on its own, a table for the terminal, figures for papers.

Everything is read from the rows in a folder and their study.json; no framework is imported. The page carries its own
JavaScript (Vega, Vega-Lite and Vega-Embed, 0.9 MB) and opens from disk without a network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from inna.documents import write_whole
from inna.experiments.drawing import still, vega_lite_version
from inna.experiments.figures import figures
from inna.experiments.page import build_page
from inna.experiments.palette import LIGHT
from inna.experiments.rows import read_rows
from inna.experiments.statistics import Summary, summarize
from inna.experiments.study import MANIFEST, Study
from inna.experiments.terminal_table import print_table, summary_table
from inna.experiments.wording import count, enumerate_words, plain

__all__ = ["print_table", "summary_table", "write_figures", "write_report"]

PAGE = "report.html"
FORMATS = ("png", "svg")
# Pixels of a PNG per pixel of the page: enough for print at the size of a column.
PNG_SCALE = 3


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
    summary, notes = _read(folder)
    path = folder / PAGE
    write_whole(path, build_page(summary, notes).encode())
    return path


def write_figures(folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write the figures of the report into ``folder``/figures, on white, a file for each of ``formats``.

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
    unknown = [format_ for format_ in formats if format_ not in FORMATS]
    if unknown or isinstance(formats, str):
        raise ValueError(f"formats must be of {enumerate_words(FORMATS)}, got {formats!r}")
    import vl_convert

    summary, _ = _read(folder)
    paths = []
    for figure in figures(summary):
        specification = still(figure, LIGHT)
        for format_ in dict.fromkeys(formats):
            path = folder / "figures" / f"{figure.name}.{format_}"
            if format_ == "png":
                content = vl_convert.vegalite_to_png(specification, vl_version=vega_lite_version(), scale=PNG_SCALE)
            else:
                content = vl_convert.vegalite_to_svg(specification, vl_version=vega_lite_version()).encode()
            write_whole(path, content)
            paths.append(path)
    return paths


def _read(folder: Path) -> tuple[Summary, list[str]]:
    """The summary of ``folder``, and what is to be said of rows that were left out."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(f"{folder}: no {MANIFEST} here; a report needs the folder that `inna compare` wrote")
    study = Study.load(folder)
    # Names are shown on one line and without control characters, so they are made so once, here.
    study = dataclasses.replace(
        study,
        reference=plain(study.reference),
        contenders=tuple(dataclasses.replace(each, label=plain(each.label)) for each in study.contenders),
    )
    damaged: list[str] = []
    rows = read_rows(folder, on_damage=damaged.append)
    summary = summarize(study, rows)
    if not summary.rows():
        raise ValueError(f"{folder}: no run of the study is done yet; start `inna compare` again to go on")
    notes = [f"Left out: {plain(line)}" for line in damaged]
    strangers = len(rows) - len(summary.rows())
    if strangers:
        notes.append(f"{count(strangers, 'row')} in the folder not used here: of other settings, or of another study.")
    return summary, notes
