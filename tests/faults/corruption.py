"""Bytes that are not what was written: rows, descriptions of studies, checkpoints and data files.

Whatever reads the file must say that it is damaged, or go on with exactly what was written. A training run that finds
a damaged checkpoint says so, begins anew, and ends as an undisturbed one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

import tiny_task
from faults.account import Account
from inna.experiments import Run, train
from inna.experiments.comparison import make_run, make_study
from inna.experiments.rows.row_files import DamagedRowError, read_rows, row_path
from inna.experiments.study.study import Study
from inna.experiments.tasks.catalogue import PublishedFile, entry
from inna.experiments.tasks.downloads import contents
from inna.experiments.tasks.local_files import DataError
from inna.experiments.training.train import checkpoint_path
from timeless import without_times

__all__ = ["damage", "damage_files"]

# Reads a file again: what it holds as a text, and whether it was said to be damaged.
Reader = Callable[[], tuple[str, bool]]


def damage(content: bytes, random_numbers: random.Random) -> tuple[str, bytes]:
    """What was done to ``content``, and the bytes that came of it; never ``content`` itself."""
    while True:
        kind = random_numbers.choice(["a bit flipped", "bytes overwritten", "cut short", "a hole of zeros", "repeated"])
        changed = bytearray(content)
        place = random_numbers.randrange(len(content))
        if kind == "a bit flipped":
            changed[place] ^= 1 << random_numbers.randrange(8)
        elif kind == "bytes overwritten":
            noise = random_numbers.randbytes(random_numbers.randint(1, 8))
            changed[place : place + len(noise)] = noise
        elif kind == "cut short":
            del changed[place:]
        elif kind == "a hole of zeros":
            length = min(len(content) - place, random_numbers.randint(1, 512))
            changed[place : place + length] = bytes(length)
        else:
            changed += content[place:]
        if changed != content:
            return kind, bytes(changed)


def damage_files(trials: int, seed: int, report: Callable[[str], object] = lambda text: None) -> Account:
    """Damage files ``trials`` times, the kinds of files in turn, and read them again."""
    random_numbers = random.Random(seed)
    account = Account(
        fault="bytes flipped, overwritten, zeroed, repeated, cut off",
        expected="a clear error, or exactly what was written",
    )
    kinds: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory(prefix="inna-faults-") as place, _subjects(Path(place)) as subjects:
        for trial in range(trials):
            name, (path, reader) = list(subjects.items())[trial % len(subjects)]
            intact = path.read_bytes()
            expected, _ = reader()
            path.write_bytes(intact)
            kind, content = damage(intact, random_numbers)
            path.write_bytes(content)
            try:
                found, noticed = reader()
            except Exception as error:
                account.losses.append(f"{name}, {kind}: {type(error).__name__}: {error}")
                found, noticed = "", True
            else:
                if found != expected and not (noticed and not found):
                    account.losses.append(f"{name}, {kind}: read as something else")
            path.write_bytes(intact)
            outcome = "noticed" if noticed else "read as it was written"
            account.outcomes[outcome] += 1
            kinds.setdefault(name, {}).setdefault(outcome, 0)
            kinds[name][outcome] += 1
            if trial % 100 == 99:
                report(f"damage: {trial + 1} of {trials}, {len(account.losses)} losses")
    account.extra = {"seed": seed, "kinds": kinds}
    return account


@contextmanager
def _subjects(folder: Path) -> Iterator[dict[str, tuple[Path, Reader]]]:
    """Name -> an intact file, and how it is read."""
    run = make_run("inna", tiny_task.PATH, lr=0.1, epochs=3)
    train(run, folder=folder)
    study = make_study(tiny_task.PATH, ["sgd", "inna"])
    study.save(folder)
    with _data_file(folder / "data") as data_file:
        yield {
            "row": (row_path(folder, run), lambda: _row(folder, run)),
            "study": (folder / "study.json", lambda: _study(folder)),
            "checkpoint": (checkpoint_path(folder, run), lambda: _training(folder, run)),
            "data file": data_file,
        }


def _row(folder: Path, run: Run) -> tuple[str, bool]:
    notes: list[str] = []
    rows = read_rows(folder, on_damage=notes.append)
    named = any(str(row_path(folder, run)) in note for note in notes)
    return (json.dumps(without_times(rows[run])) if run in rows else ""), named


def _study(folder: Path) -> tuple[str, bool]:
    try:
        return repr(Study.load(folder)), False
    except DamagedRowError as error:
        return "", "study.json" in str(error)


def _training(folder: Path, run: Run) -> tuple[str, bool]:
    """The row that a run ends with which goes on from the checkpoint."""
    notes: list[str] = []
    row = train(run, folder=folder, on_note=notes.append)
    # A run that begins anew ends as an undisturbed one: noticed or not, the text is the same.
    return repr(without_times(row)), bool(notes)


@contextmanager
def _data_file(folder: Path) -> Iterator[tuple[Path, Reader]]:
    """A small data set in the catalogue's terms, which no address gives again, and how it is read."""
    pixels = np.random.default_rng(0).integers(0, 256, 4 * 28 * 28, np.uint8).tobytes()
    packed = gzip.compress(pixels, mtime=0)
    file = PublishedFile("images.gz", len(packed), hashlib.sha256(packed).hexdigest(), (), {"images": ""})
    described = replace(entry("mnist"), name="small", files=(file,))

    def read() -> tuple[str, bool]:
        try:
            return contents(described)["images"].hex(), False
        except DataError:
            return "", True

    path = folder / described.name / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(packed)
    with mock.patch.dict(os.environ, INNA_DATA=str(folder)):
        yield path, read
