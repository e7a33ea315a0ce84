"""Announce the active sweep and its runs in files, for displays in any process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from inna.checks import check_range, check_text, check_whole
from inna.experiments.rows.results import Result, number
from inna.experiments.rows.run import Run, describe
from inna.files import (
    DamagedFileError,
    LockedFile,
    describe_damage,
    is_locked,
    read_document,
    read_file,
    remove_abandoned,
    write_document,
)

__all__ = [
    "ActiveRun",
    "ActiveSweep",
    "Heartbeat",
    "announce_sweep",
    "read_active_runs",
    "read_active_sweep",
    "read_ended_runs",
    "read_failures",
    "remove_leftovers",
    "write_failures",
]

FOLDER = ".running"
SWEEP = "sweep"
FAILURES = "failures.json"
SUFFIX = ".json"
INTERVAL = 0.5  # seconds between two writes of one file


class ActiveRun(NamedTuple):
    """A run in progress: key, description, epochs done, latest training loss."""

    key: str
    text: str
    epoch: int
    epochs: int
    train_loss: float | None


class Heartbeat:
    """Announces a run in ``folder`` while it is active; a context manager.

    The file is written on entering, or at the first update.
    """

    def __init__(self, folder: Path, run: Run) -> None:
        self.run = run
        self.file = LockedFile(folder / FOLDER / f"{run.key}{SUFFIX}")
        self.due = 0.0
        self.lock = threading.Lock()

    def __enter__(self) -> Heartbeat:
        self._write(0, None)
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def update(self, entry: Result) -> None:
        """Announce the newest entry of the history, at most every `INTERVAL`."""
        with self.lock:
            if time.monotonic() >= self.due:
                self._write(entry["epoch"], entry["train_loss"])

    def close(self) -> None:
        """Remove the announcement."""
        with self.lock:
            self.due = float("inf")
            _withdraw(self.file)

    def _write(self, epoch: int, train_loss: float | None) -> None:
        self.due = time.monotonic() + INTERVAL
        active = ActiveRun(self.run.key, describe(self.run), epoch, self.run.epochs, train_loss)
        _announce(self.file, {"pid": os.getpid(), "host": socket.gethostname(), "state": active._asdict()})


def read_active_runs(folder: Path, on_damage: Callable[[str], object] = lambda text: None) -> list[ActiveRun]:
    """Return the active runs of ``folder``.

    Those whose announcements are held by a live process.

    Args:
        folder: of the rows.
        on_damage: called with a message for each announcement that is none, which is skipped.
    """
    return [run for run, active in _read_announcements(folder, on_damage) if active]


def read_ended_runs(folder: Path) -> list[ActiveRun]:
    """Return the runs of ``folder`` whose process was killed.

    `remove_leftovers` removes them.
    """
    return [run for run, active in _read_announcements(folder, lambda text: None) if not active]


def _read_announcements(folder: Path, on_damage: Callable[[str], object]) -> Iterator[tuple[ActiveRun, bool]]:
    for path in sorted((folder / FOLDER).glob(f"*{SUFFIX}")):
        found = None
        with _odd_ones_named(path, on_damage):
            found = _active_run(json.loads(read_file(path))["state"]), is_locked(path)
        if found is not None:
            yield found


class ActiveSweep(NamedTuple):
    """A sweep in progress: process, machine, runs at once, start (Unix time)."""

    pid: int
    host: str
    jobs: int
    started: float


@contextlib.contextmanager
def announce_sweep(folder: Path, jobs: int) -> Iterator[None]:
    """Announce this process as the active sweep of ``folder``."""
    file = LockedFile(folder / FOLDER / SWEEP)
    _announce(file, ActiveSweep(os.getpid(), socket.gethostname(), jobs, time.time())._asdict())
    try:
        yield
    finally:
        _withdraw(file)


def read_active_sweep(folder: Path, on_damage: Callable[[str], object] = lambda text: None) -> ActiveSweep | None:
    """Return the active sweep of ``folder``; None if there is none."""
    path = folder / FOLDER / SWEEP
    with _odd_ones_named(path, on_damage):
        sweep = _active_sweep(json.loads(read_file(path)))
        return sweep if is_locked(path) else None
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove from ``folder`` what killed processes left.

    Temporary files, announcements of runs and of a sweep.
    """
    remove_abandoned(folder)
    remove_abandoned(folder / FOLDER)
    for path in (folder / FOLDER / SWEEP, *(folder / FOLDER).glob(f"*{SUFFIX}")):
        with contextlib.suppress(OSError, DamagedFileError):
            if not is_locked(path):
                path.unlink()
    with contextlib.suppress(OSError):
        (folder / FOLDER).rmdir()


def write_failures(folder: Path, failures: Mapping[Run, str]) -> None:
    """Write the errors of the latest sweep; without any, remove the file."""
    path = folder / FAILURES
    if failures:
        lines = [[run.key, describe(run), error] for run, error in failures.items()]
        write_document(path, {"failures": lines})
    else:
        path.unlink(missing_ok=True)


def read_failures(folder: Path, on_damage: Callable[[str], object] = lambda text: None) -> dict[str, tuple[str, str]]:
    """Return key -> (description, error) of the failed runs of the latest sweep.

    Args:
        folder: of the rows.
        on_damage: called with a message if the file is damaged, which counts as none.
    """
    path = folder / FAILURES
    with _odd_ones_named(path, on_damage):
        failures = {}
        for key, text, error in read_document(path)["failures"]:
            failures[check_text("key", key)] = check_text("run", text), check_text("error", error)
        return failures
    return {}


def _announce(file: LockedFile, body: Mapping[str, Any]) -> None:
    # It is only for displays; a full disk is reported where the row is written.
    with contextlib.suppress(OSError):
        file.write(json.dumps(body).encode())


def _withdraw(file: LockedFile) -> None:
    file.close()
    with contextlib.suppress(OSError):
        file.path.parent.rmdir()  # unless it announces other runs


def _active_run(state: Any) -> ActiveRun:
    active = ActiveRun(**state)
    check_text("key", active.key)
    check_text("text", active.text)
    check_whole("epoch", active.epoch, minimum=0)
    check_whole("epochs", active.epochs, minimum=1)
    if active.train_loss is None:
        return active
    return active._replace(train_loss=number(active.train_loss))


def _active_sweep(body: Any) -> ActiveSweep:
    sweep = ActiveSweep(**body)
    check_whole("pid", sweep.pid, minimum=1)
    check_text("host", sweep.host)
    check_whole("jobs", sweep.jobs, minimum=1)
    check_range("started", sweep.started)
    return sweep


@contextlib.contextmanager
def _odd_ones_named(path: Path, on_damage: Callable[[str], object]) -> Iterator[None]:
    """Report a file that cannot be used; one that has just been removed is none."""
    try:
        yield
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        on_damage(describe_damage(path, error))
