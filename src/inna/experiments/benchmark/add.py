"""Add the rows of others to a benchmark, after checking them."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

from inna.experiments.benchmark.read import ADDED
from inna.experiments.benchmark.suite import MANIFEST, TRACKS, Suite
from inna.experiments.formatting import count, enumerate_words, plain, slug
from inna.experiments.rows.origins import versions_note
from inna.experiments.rows.packed import PACKED
from inna.experiments.rows.row_files import SUFFIX, read_rows
from inna.experiments.study.study import MANIFEST as STUDY
from inna.experiments.study.study import Study

__all__ = ["add_results"]

# Fields of a study that two benchmarks must share to be shown side by side.
_PROTOCOL = ("dataset", "model", "tuning_epochs", "epochs", "seeds", "batch_size", "precision", "trials", "metrics")


def add_results(folder: Path, other: Path) -> list[str]:
    """Check the benchmark in ``other``, copy it into ``folder``, and return notes.

    Its suite and protocol must be those of ``folder``, and every row must match its checksum. Other versions of
    packages, and tasks with another fingerprint (other data, code, Python or processor), are notes.

    Args:
        folder: of one's own benchmark.
        other: of somebody else's. Its name becomes that of the results.

    Raises:
        FileNotFoundError: a folder, or its benchmark.json, does not exist.
        ValueError: the protocols differ, a row is damaged, nothing is done yet, or the name is taken.
        DamagedRowError: benchmark.json or a study.json is damaged.
    """
    ours, theirs = Suite.load(folder), Suite.load(other)
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
        for task in theirs.tasks:
            place = task.folder(track)
            if (other / place / STUDY).is_file():
                rows += _check(folder / place, other / place, task.name, notes)
    if not rows:
        raise ValueError(f"{other}: no run of the benchmark is done yet")
    _copy(other, target, [task.folder(track) for track in TRACKS for task in theirs.tasks])
    return [f"added {count(rows, 'row')} as {name}", *dict.fromkeys(notes)]


def _check(own: Path, other: Path, task: str, notes: list[str]) -> int:
    """Check a study and its rows; return their number."""
    study = Study.load(other)
    if (own / STUDY).is_file():
        mine = Study.load(own)
        if differing := [name for name in _PROTOCOL if getattr(mine, name) != getattr(study, name)]:
            raise ValueError(f"{other} has another protocol than {own}: other {enumerate_words(differing)}")
        if mine.source != study.source:
            notes.append(
                f"{task} has another fingerprint there: other data, code, Python or processor; compare with care"
            )
    damaged: list[str] = []
    rows = read_rows(other, on_damage=damaged.append)
    if damaged:
        raise ValueError(f"{other}: {count(len(damaged), 'damaged row')}; the first: {plain(damaged[0])}")
    if note := versions_note(rows.values()):
        notes.append(note)
    return len(rows)


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
