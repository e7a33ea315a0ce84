"""Add the rows of others to a benchmark, after checking them."""

from __future__ import annotations

import dataclasses
import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inna.experiments.benchmark.read import ADDED, open_benchmark
from inna.experiments.benchmark.suite import MANIFEST, TRACKS, Suite, SuiteTask
from inna.experiments.formatting import count, enumerate_words, plain, slug
from inna.experiments.rows.origins import versions_note
from inna.experiments.rows.packed import PACKED
from inna.experiments.rows.results import Result, finished, history, number
from inna.experiments.rows.row_files import SUFFIX, read_rows
from inna.experiments.rows.run import Run
from inna.experiments.study.study import MANIFEST as STUDY
from inna.experiments.study.study import Study

__all__ = ["add_results"]

# Fields that the task decides: of two studies of it they are the same.
_OF_THE_TASK = ("model", "batch_size", "precision", "metrics")
# Fields of a search. A study whose settings are given, found by an earlier search, has none.
_OF_THE_SEARCH = ("tuning_epochs", "trials", "budget")


def add_results(folder: Path, other: Path) -> list[str]:
    """Check the benchmark in ``other``, copy it into ``folder``, and return notes.

    Its suite and protocol must be those of ``folder``. Every row must match its checksum and agree with its own
    history. An optimizer that both have must have the same search space, or the same setting where nothing is tuned.
    Other versions of packages, tasks with another fingerprint (other data, code, Python or processor), settings that
    were given instead of searched, and runs that are missing are notes. The checks find mistakes, not forgeries: a
    checksum is no signature.

    Args:
        folder: of one's own benchmark.
        other: of somebody else's. Its name becomes that of the results.

    Raises:
        FileNotFoundError: a folder, or its benchmark.json, does not exist.
        ValueError: the protocols differ, a row is damaged, nothing is done yet, the name is taken, or ``other`` is
            ``folder``.
        DamagedRowError: benchmark.json or a study.json is damaged.
    """
    ours, theirs = Suite.load(folder), Suite.load(other)
    if other.resolve() == folder.resolve():
        raise ValueError(f"{other} is your own benchmark; add the folder of another one")
    if differing := [
        each.name for each in dataclasses.fields(Suite) if getattr(ours, each.name) != getattr(theirs, each.name)
    ]:
        raise ValueError(f"{other} has another suite than {folder}: other {enumerate_words(differing)}")
    name = slug(other.resolve().name)
    target = folder / ADDED / name
    if target.exists():
        raise ValueError(f"{target} exists; rename {other}, or remove that folder to add it again")
    notes: list[str] = []
    rows = 0
    for track in TRACKS:
        for task in ours.tasks:
            place = task.folder(track)
            if (other / place / STUDY).is_file():
                rows += _check(ours, task, track, folder / place, other / place, notes)
    if not rows:
        raise ValueError(f"{other}: no run of the benchmark is done yet")
    if missing := open_benchmark(other, name).missing(TRACKS):
        notes.append(f"runs are missing there, so these do not count: {enumerate_words(missing)}")
    _copy(other, target, [task.folder(track) for track in TRACKS for task in ours.tasks])
    return [f"added {count(rows, 'row')} as {name}", *dict.fromkeys(notes)]


def _check(suite: Suite, task: SuiteTask, track: str, own: Path, other: Path, notes: list[str]) -> int:
    """Check a study and its rows; return their number."""
    study = Study.load(other)
    expected = {"dataset": task.task, **suite.protocol(task, track, len(study.contenders))}
    differing = [name for name, value in expected.items() if getattr(study, name) != value]
    if track == "tuned" and _given(study):
        differing = [name for name in differing if name not in _OF_THE_SEARCH]
        notes.append(f"{task.name}: the tuned settings there are given; their search is not among the rows")
    if (own / STUDY).is_file():
        mine = Study.load(own)
        differing += [name for name in _OF_THE_TASK if getattr(mine, name) != getattr(study, name)]
        if not (_given(study) or _given(mine)) or track == "untuned":
            differing += _other_optimizers(mine, study)
        if mine.source != study.source:
            notes.append(
                f"{task.name} has another fingerprint there: other data, code, Python or processor; compare with care"
            )
    if differing:
        raise ValueError(f"{other} has another protocol than {own}: other {enumerate_words(differing)}")
    damaged: list[str] = []
    rows = read_rows(other, on_damage=damaged.append)
    damaged += [
        f"{run.optimizer}, seed {run.seed}: {fault}" for run, row in rows.items() if (fault := _fault(study, run, row))
    ]
    if damaged:
        raise ValueError(f"{other}: {count(len(damaged), 'damaged row')}; the first: {plain(damaged[0])}")
    if note := versions_note(rows.values()):
        notes.append(note)
    return len(rows)


def _given(study: Study) -> bool:
    """Return whether every optimizer has one setting, with nothing to tune."""
    return not study.trials and all(len(each.grid) == len(each.qs) == 1 and not each.space for each in study.contenders)


def _other_optimizers(mine: Study, study: Study) -> Sequence[str]:
    """Return what differs of the optimizers that both studies have, as words."""
    own = {each.label: dataclasses.replace(each, source="") for each in mine.contenders}
    return [
        f"settings of {plain(each.label)}"
        for each in study.contenders
        if each.label in own and dataclasses.replace(each, source="") != own[each.label]
    ]


def _fault(study: Study, run: Run, result: Result) -> str:
    """Return how a run contradicts its study or, if it finished, its history.

    Return "" if it does not.
    """
    if (run.dataset, run.source) != (study.dataset, study.source):
        return f"it is a run of another task, {run.dataset}"
    if not finished(result):
        return ""
    entries = history(result)
    if [entry["epoch"] for entry in entries] != list(range(run.epochs + 1)):
        return f"its history does not have the epochs 0 to {run.epochs}"
    for name in result:
        if name.startswith(("train_", "test_")) and not _equal(result[name], entries[-1].get(name)):
            return f"its {name} is not that of its last epoch"
    return ""


def _equal(one: Any, other: Any) -> bool:
    return one == other or (math.isnan(number(one)) and math.isnan(number(other)))


def _copy(other: Path, target: Path, places: list[str]) -> None:
    """Copy descriptions and rows; the target appears when it is whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".adding-", dir=target.parent) as temporary:
        whole = Path(temporary) / target.name
        whole.mkdir()
        shutil.copyfile(other / MANIFEST, whole / MANIFEST)
        for place in places:
            files = [*(other / place).glob(f"*{SUFFIX}"), other / place / PACKED, other / place / STUDY]
            for path in files:
                if path.is_file():
                    (whole / place).mkdir(exist_ok=True)
                    shutil.copyfile(path, whole / place / path.name)
        whole.rename(target)
