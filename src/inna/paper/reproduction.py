"""A folder that `inna reproduce` wrote, against the paper: verdicts, figures, and a page that holds them.

Read are the rows with their study.json, and figure1.json; either may be missing. No framework is imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inna.experiments.charts.drawing import Figure
from inna.experiments.rows.row_files import DamagedRowError
from inna.experiments.statistics.read import Results, open_results
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
    "find_reproduction",
    "read_reproduction",
    "read_results",
]


@dataclass(frozen=True)
class Reproduction:
    """The paper's experiments in a folder.

    Attributes:
        folder: where they are.
        results: of the study; None where Figure 1 is all there is.
        descents: of Figure 1; empty where it was not computed.
    """

    folder: Path
    results: Results | None
    descents: tuple[Descent, ...]

    @property
    def summary(self) -> Summary | None:
        """The statistics of the study's rows."""
        return self.results.summary if self.results else None

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings about skipped rows."""
        return self.results.notes if self.results else ()

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


def read_results(folder: Path) -> Results | None:
    """Return the results of ``folder``; None where Figure 1 is all there is.

    Raises:
        FileNotFoundError: there is no such folder, or neither study.json nor figure1.json in it.
        ValueError: no run of the study is done yet and Figure 1 is not there.
        DamagedRowError: study.json is damaged.
    """
    has_figure1 = (folder / FIGURE_1).is_file()
    if has_figure1 and not (folder / MANIFEST).is_file():
        return None
    try:
        return open_results(folder)
    except ValueError as error:
        if isinstance(error, DamagedRowError) or not has_figure1:
            raise
        return None


def find_reproduction(folder: Path, results: Results | None) -> Reproduction | None:
    """Return the reproduction in ``folder`` with these ``results``; None where they are of another comparison.

    Raises:
        DamagedRowError: figure1.json is damaged.
    """
    if results is not None and not _of_the_protocol(results.study):
        return None
    return Reproduction(folder, results, read_descents(folder))


def read_reproduction(folder: str | Path) -> Reproduction:
    """Read the reproduction in ``folder``, each file once.

    Raises:
        FileNotFoundError: there is no such folder, or neither study.json nor figure1.json in it.
        ValueError: the study is of another protocol, or no run of it is done yet and Figure 1 is not there.
        DamagedRowError: study.json or figure1.json is damaged.
    """
    folder = Path(folder)
    reproduction = find_reproduction(folder, read_results(folder))
    if reproduction is None:
        raise ValueError(f"{folder}: not the paper's protocol; `inna report` shows this comparison")
    return reproduction


def _of_the_protocol(study: Study) -> bool:
    metrics = [metric.name for metric in study.metrics]
    known = set(contenders())
    return (
        split_subset(study.dataset)[0] in CATALOGUE
        and "accuracy" in metrics
        and all(contender in known for contender in study.contenders)
    )
