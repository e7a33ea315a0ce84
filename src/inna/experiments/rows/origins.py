"""Report rows of other versions of inna, of a task or of an optimizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import inna
from inna.experiments.formatting import count, enumerate_words, plain
from inna.experiments.rows.results import Result
from inna.experiments.rows.run import Run

__all__ = ["unused_sources_note", "versions_note"]


def versions_note(results: Iterable[Result]) -> str:
    """Return a line about the results of other versions of inna than this one.

    "" if there are none.

    >>> versions_note([{"versions": {"inna": "0.0.1"}}, {"versions": {"inna": inna.__version__}}, {}])[:29]
    '1 result is from inna 0.0.1; '
    """
    versions = [result.get("versions") for result in results]
    known = (str(each.get("inna", "")) for each in versions if isinstance(each, Mapping))
    others = Counter(version for version in known if version not in ("", inna.__version__))
    if not others:
        return ""
    parts = [
        f"{count(number, 'result')} {'is' if number == 1 else 'are'} from inna {plain(version)}"
        for version, number in sorted(others.items())
    ]
    return f"{enumerate_words(parts)}; this is inna {inna.__version__}. Their numbers may differ."


def unused_sources_note(rows: Iterable[Run], used: Iterable[Run]) -> str:
    """Return a line about rows of other versions of what ``used`` has; "" for none.

    Args:
        rows: the runs of a folder.
        used: those that can be used now, done or not.
    """
    sources = {(run.source, run.optimizer, run.optimizer_source) for run in used}
    tasks = {(run.dataset, run.model) for run in used}
    optimizers = {run.optimizer for run in used}
    others = sum(
        (run.dataset, run.model) in tasks
        and run.optimizer in optimizers
        and (run.source, run.optimizer, run.optimizer_source) not in sources
        for run in rows
    )
    if not others:
        return ""
    return (
        f"{count(others, 'result')} of the folder {'is' if others == 1 else 'are'} not used: of another version of the "
        "task or the optimizer, or with a fingerprint of an older inna."
    )
