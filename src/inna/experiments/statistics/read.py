"""A folder of results as a summary: its study.json and its rows, and what is to be said of those left out."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from inna.experiments.formatting import count, plain
from inna.experiments.rows.row_files import read_rows
from inna.experiments.statistics.summary import Summary, summarize
from inna.experiments.study.study import MANIFEST, Study

__all__ = ["read_summary"]


def read_summary(folder: Path) -> tuple[Summary, list[str]]:
    """The summary of ``folder``, and what is to be said of rows that were left out.

    Raises:
        FileNotFoundError: there is no such folder, or no study.json in it.
        ValueError: no run of the study is done yet.
        DamagedRowError: study.json is damaged.
    """
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
