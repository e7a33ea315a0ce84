"""A folder that `inna reproduce` wrote, against the paper: verdicts, figures, and a page that holds them.

Read are the rows with their study.json, and figure1.json; either may be missing. No framework is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inna.experiments.charts.drawing import Figure
from inna.experiments.rows.row_files import DamagedRowError
from inna.experiments.statistics.read import read_summary
from inna.experiments.statistics.summary import Summary
from inna.experiments.study.study import MANIFEST, Study
from inna.experiments.tasks.catalogue import CATALOGUE
from inna.experiments.tasks.subsets import split_subset
from inna.paper.claims import judge
from inna.paper.descents import FIGURE_1, Descent, read_descents
from inna.paper.figure1_claims import judge_figure1
from inna.paper.figures import figure1_figures, reproduction_figures
from inna.paper.protocol import contenders
from inna.paper.verdicts import Verdict

__all__ = [
    "Reproduction",
    "is_reproduction",
    "read_reproduction",
]


@dataclass(frozen=True)
class Reproduction:
    """What a folder says of the paper's experiments.

    Attributes:
        summary: of the rows; None where Figure 1 is all there is.
        descents: of Figure 1; none where it was not computed.
        notes: what is to be said of rows that were left out.
    """

    summary: Summary | None
    descents: tuple[Descent, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def figure1_verdicts(self) -> list[Verdict]:
        return judge_figure1(self.descents)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """About the rows."""
        return judge(self.summary) if self.summary else []

    @cached_property
    def figures(self) -> list[Figure]:
        return figure1_figures(self.descents) + (reproduction_figures(self.summary) if self.summary else [])


def is_reproduction(folder: Path) -> bool:
    """Whether ``folder`` holds Figure 1's descents, or a study of the paper's protocol on one of its data sets."""
    if (folder / FIGURE_1).is_file():
        return True
    try:
        return _of_the_protocol(Study.load(folder))
    except (FileNotFoundError, DamagedRowError):
        return False


def read_reproduction(folder: Path) -> Reproduction:
    """What ``folder`` holds.

    Raises:
        FileNotFoundError: there is no such folder, or neither study.json nor figure1.json in it.
        ValueError: the study is of another protocol, or no run of it is done yet and Figure 1 is not there.
        DamagedRowError: study.json or figure1.json is damaged.
    """
    folder = Path(folder)
    descents = read_descents(folder)
    if descents and not (folder / MANIFEST).is_file():
        return Reproduction(None, descents)
    try:
        summary, notes = read_summary(folder)
    except ValueError as error:
        if isinstance(error, DamagedRowError) or not descents:
            raise
        return Reproduction(None, descents)
    if not _of_the_protocol(summary.study):
        raise ValueError(f"{folder}: not the paper's protocol; `inna report` shows this comparison")
    return Reproduction(summary, descents, tuple(notes))


def _of_the_protocol(study: Study) -> bool:
    metrics = [metric.name for metric in study.metrics]
    known = set(contenders())
    return (
        split_subset(study.dataset)[0] in CATALOGUE
        and "accuracy" in metrics
        and all(contender in known for contender in study.contenders)
    )
