"""Results of `inna reproduce` compared with the paper: verdicts and figures.

Results are read with their study.json, and figure1.json; either may be missing. No framework is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from inna.experiments.charts.drawing import Figure
from inna.experiments.formatting import enumerate_words
from inna.experiments.rows.row_files import DamagedRowError
from inna.experiments.statistics.read import Results, open_results
from inna.experiments.statistics.summary import Summary
from inna.experiments.study.study import MANIFEST, Contender, Study
from inna.experiments.tasks.catalogue import CATALOGUE, split_subset
from inna.experiments.tasks.data_file import is_data_file
from inna.paper import claims, evidence, figure1_claims, words
from inna.paper.claims import CLAIMS, EARLY_EPOCH, Claim
from inna.paper.curves import PAPER_EPOCHS
from inna.paper.descents import FIGURE_1, Descent, as_panels, by_label, initial_speeds, read_descents
from inna.paper.evidence import ACCURACY, Values
from inna.paper.figure1_claims import FIGURE_1_CLAIMS, Figure1Claim
from inna.paper.figures import figure1_figures, reproduction_figures
from inna.paper.protocol import LR_FREE, contenders, initial_speed_of
from inna.paper.verdicts import Number, Outcome, Verdict, outcome

__all__ = [
    "Reproduction",
    "find_reproduction",
    "judge",
    "judge_figure1",
    "read_reproduction",
    "read_results",
]


@dataclass(frozen=True)
class Reproduction:
    """The paper's experiments in a folder, with their verdicts and figures.

    Attributes:
        folder: the folder.
        results: of the study; None where there is only Figure 1.
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
        """About the descents of Figure 1."""
        return judge_figure1(self.descents)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """About the results of the study."""
        return judge(self.summary) if self.summary else []

    @cached_property
    def figures(self) -> list[Figure]:
        """The paper's figures that can be drawn."""
        return figure1_figures(self.descents) + (reproduction_figures(self.summary) if self.summary else [])


def read_results(folder: Path) -> Results | None:
    """Return the results of ``folder``; None where there is only Figure 1.

    Raises:
        FileNotFoundError: there is no such folder, or neither study.json nor figure1.json in it.
        ValueError: no run of the study is finished and there is no Figure 1.
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
    """Return the reproduction in ``folder``; None where it has another protocol.

    Args:
        folder: the folder.
        results: those of `read_results`.

    Raises:
        DamagedRowError: figure1.json is damaged.
    """
    if results is not None and not _follows_protocol(results.study):
        return None
    return Reproduction(folder, results, read_descents(folder))


def read_reproduction(folder: str | Path) -> Reproduction:
    """Read the reproduction in ``folder``, each file once.

    Raises:
        FileNotFoundError: there is no such folder, or neither study.json nor figure1.json in it.
        ValueError: the study has another protocol, or none of its runs is finished and there is no Figure 1.
        DamagedRowError: study.json or figure1.json is damaged.
    """
    folder = Path(folder)
    reproduction = find_reproduction(folder, read_results(folder))
    if reproduction is None:
        raise ValueError(f"{folder}: not the paper's protocol; `inna report` shows this comparison")
    return reproduction


def _follows_protocol(study: Study) -> bool:
    metrics = [metric.name for metric in study.metrics]
    speed = initial_speed_of(study)
    if speed is None:
        return False
    known = {_without_grid(contender) for contender in contenders(initial_speed=speed)}
    ours = {_without_grid(contender) for contender in study.contenders}
    return _classifies(study) and "accuracy" in metrics and bool(ours & known) and ours <= known | {LR_FREE}


def _without_grid(contender: Contender) -> Contender:
    # The paper names no grid: a finer one, or a single learning rate found elsewhere, is its protocol too.
    return dataclasses.replace(contender, grid=(1.0,))


def _classifies(study: Study) -> bool:
    return split_subset(study.dataset)[0] in CATALOGUE or is_data_file(study.dataset)


def judge(summary: Summary) -> list[Verdict]:
    """Judge the claims about deep learning, in the order of `CLAIMS`.

    Args:
        summary: of a study of the paper's protocol. Claims about optimizers that it lacks have not enough runs.

    Raises:
        ValueError: the study's data set is neither in `inna.experiments.tasks.catalogue` nor a file, or it does not
            measure accuracy.
    """
    study = summary.study
    if not _classifies(study):
        raise ValueError(
            f"verdicts are about {enumerate_words([*CATALOGUE, 'a file .npz'], 'or')}, not {study.dataset!r}"
        )
    if ACCURACY not in [measure.name for measure in summary.measures]:
        raise ValueError(f"verdicts need the metric accuracy; {study.dataset} here has {list(study.metrics)}")
    return [_judge_claim(claim, summary) for claim in CLAIMS]


def _judge_claim(claim: Claim, summary: Summary) -> Verdict:
    study = summary.study
    epoch = EARLY_EPOCH if claim.early else study.epochs
    chance = evidence.chance(summary)
    theirs = evidence.paper_values(study.dataset, claim.keys, epoch)
    at_end = None if claim.early else evidence.paper_values(study.dataset, claim.keys, PAPER_EPOCHS)
    seeds = evidence.common_seeds(summary, claim.labels)
    ours: Values = {}
    decided: Outcome = "not enough runs"
    sentence = words.shortage(claim, summary, seeds)
    if not sentence:
        ours = evidence.our_values(summary, claim.keys, seeds, epoch)
        comparisons = claims.compare(claim, ours, chance)
        decided = outcome(comparisons, one_suffices=claim.one_suffices) or decided
        sentence = words.sentence(claim, comparisons, ours)
    return Verdict(
        claim.name,
        claim.statement,
        claim.source,
        decided,
        when=f"epoch {epoch}",
        numbers=words.numbers_of(claim.keys, ours, theirs),
        paper=_paper_outcome(claim, theirs, chance),
        paper_end=None if at_end is None else _paper_outcome(claim, at_end, chance),
        sentence=sentence,
    )


def _paper_outcome(claim: Claim, theirs: Values, chance: float) -> Outcome | None:
    return outcome(claims.compare(claim, theirs, chance), one_suffices=claim.one_suffices)


def judge_figure1(descents: Iterable[Descent]) -> list[Verdict]:
    """Judge the claims about Figure 1 for each label of ``descents``."""
    return [
        _judge_figure1_claim(claim, label, group)
        for label, group in by_label(descents).items()
        for claim in FIGURE_1_CLAIMS
    ]


def _judge_figure1_claim(claim: Figure1Claim, label: str, group: Sequence[Descent]) -> Verdict:
    panels = as_panels(group)
    decided: Outcome = "not enough runs"
    numbers: tuple[Number, ...] = ()
    sentence = "Needs one descent with small β, and two with a larger one at different α."
    if panels:
        measures = figure1_claims.measure(panels)
        decided = outcome(figure1_claims.compare(claim, measures)) or decided
        numbers = words.figure1_numbers(claim, panels, measures)
        sentence = words.figure1_sentence(claim, panels, measures)
    return Verdict(
        claim.name,
        claim.statement,
        "section 5.1, Figure 1",
        decided,
        when=f"{label} settings, initial speed {initial_speeds(group)}",
        numbers=numbers,
        paper=None,
        paper_end=None,
        sentence=sentence,
    )
