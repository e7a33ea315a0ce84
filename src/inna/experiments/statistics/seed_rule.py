"""Decide from the rows whether a study with ``--seeds auto`` needs more seeds."""

from __future__ import annotations

from inna.experiments.formatting import plain
from inna.experiments.rows.results import Rows
from inna.experiments.statistics.summary import TRAIN_LOSS, Summary, summarize
from inna.experiments.study.remaining import outlook
from inna.experiments.study.seed_looks import looks
from inna.experiments.study.study import Study

__all__ = ["is_settled", "seeds_sentence", "with_needed_seeds"]


def with_needed_seeds(study: Study, rows: Rows) -> Study:
    """Return ``study`` with the seeds that its rows ask for.

    One more look while all its runs are done, the winner is not established, and the cap is not reached.
    """
    if study.seed_cap:
        study = study.with_seeds(looks(study.seed_cap)[0])
    for more in looks(study.seed_cap)[1:] if study.seed_cap else ():
        if outlook(study, rows).left or is_settled(summarize(study, rows)):
            break
        study = study.with_seeds(more)
    return study


def is_settled(summary: Summary) -> bool:
    """Return whether more seeds cannot change the verdict on the training loss.

    One optimizer's lead over every other is significant, or none can win because each failed on a seed.
    """
    winners = summary.winners(TRAIN_LOSS)
    return not winners or (len(winners) == 1 and not summary.rivals(TRAIN_LOSS))


def seeds_sentence(summary: Summary) -> str:
    """Return how many seeds were used and why no more; "" for given seeds."""
    study = summary.study
    if not study.seed_cap:
        return ""
    used = f"Seeds were added automatically: {len(study.seeds)} of at most {study.seed_cap} are used"
    if any(entry.pending for entry in summary.entries):
        return f"{used} so far. More are added until the winner on training loss is established."
    winners = summary.winners(TRAIN_LOSS)
    if not winners:
        return f"{used}. They stopped because no optimizer trained on every seed."
    if is_settled(summary):
        return f"{used}. They stopped because the lead of {plain(winners[0].label)} in training loss is significant."
    if len(study.seeds) < study.seed_cap:
        return f"{used} so far. The winner on training loss is not established; more follow."
    return f"{used}. They stopped at this cap; the winner on training loss is not established."
