"""Read a results folder.

Its study, its rows, their summary, and warnings about skipped rows.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from inna.checks import similar_beside
from inna.experiments.formatting import count, plain
from inna.experiments.rows.origins import versions_note
from inna.experiments.rows.results import Rows
from inna.experiments.rows.row_files import read_rows
from inna.experiments.statistics.summary import Summary, summarize
from inna.experiments.study.study import MANIFEST, Study

__all__ = ["Results", "open_results"]


@dataclass(frozen=True)
class Results:
    """The results of a study, read once for everything that shows them.

    Attributes:
        folder: where they are.
        study: its description; labels are on one line and without control characters.
        rows: every intact row of the folder.
        notes: warnings about skipped rows, and about rows of other versions of inna.
        summary: the statistics of the study's rows.
    """

    folder: Path
    study: Study
    rows: Rows
    notes: tuple[str, ...]
    summary: Summary


def open_results(folder: str | Path) -> Results:
    """Read ``folder``, each of its files once.

    Raises:
        FileNotFoundError: there is no such folder, or no study.json in it.
        ValueError: no run of the study is done yet.
        DamagedRowError: study.json is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder{similar_beside(Path(folder))}")
    if not (folder / MANIFEST).is_file():
        raise FileNotFoundError(
            f"{folder}: no {MANIFEST} here; a report needs the folder of `inna compare` or `inna reproduce`"
        )
    study = Study.load(folder)
    study = dataclasses.replace(
        study,
        reference=plain(study.reference),
        contenders=tuple(dataclasses.replace(each, label=plain(each.label)) for each in study.contenders),
    )
    damaged: list[str] = []
    rows = read_rows(folder, on_damage=damaged.append)
    summary = summarize(study, rows)
    used = len(summary.rows())
    if not used:
        raise ValueError(f"{folder}: no run of the study is done yet; run the same `inna compare` again to resume")
    notes = [f"Skipped: {plain(line)}" for line in damaged]
    if len(rows) > used:
        notes.append(
            f"Skipped: {count(len(rows) - used, 'row')} of the folder, with other settings or of another study."
        )
    if note := versions_note(result for _, result in summary.rows()):
        notes.append(note)
    return Results(folder, study, rows, tuple(notes), summary)
