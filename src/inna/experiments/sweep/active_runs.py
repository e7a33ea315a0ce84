"""Announce the active sweep and its runs in files, for displays in any process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from inna.experiments.rows.results import Result
from inna.experiments.rows.run import Run, describe
from inna.files import is_alive, read_document, remove_abandoned, replacing, write_document

__all__ = [
    "ActiveRun",
    "ActiveSweep",
    "Heartbeat",
    "announce_sweep",
    "read_active_runs",
    "read_active_sweep",
    "read_failures",
    "write_failures",
]

FOLDER = ".running"
SWEEP = "sweep"
FAILURES = "failures.json"
# Processes of another machine cannot be asked; their files count for so many seconds after they were written.
FRESH = 3600.0
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
        self.path = folder / FOLDER / f"{run.key}.json"
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
            self.path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()  # unless it announces other runs

    def _write(self, epoch: int, train_loss: float | None) -> None:
        self.due = time.monotonic() + INTERVAL
        active = ActiveRun(self.run.key, describe(self.run), epoch, self.run.epochs, train_loss)
        _announce(self.path, {"pid": os.getpid(), "host": socket.gethostname(), "state": active._asdict()})


def read_active_runs(folder: Path) -> list[ActiveRun]:
    """Return the active runs of ``folder``; remove the files of dead processes."""
    runs = []
    remove_abandoned(folder / FOLDER)
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            body = json.loads(path.read_bytes())
            run, active = ActiveRun(**body["state"]), _is_active(path, body["host"], body["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it has just ended
        if active:
            runs.append(run)
        else:
            path.unlink(missing_ok=True)
    return runs


class ActiveSweep(NamedTuple):
    """A sweep in progress: process, machine, runs at once, start (Unix time)."""

    pid: int
    host: str
    jobs: int
    started: float


@contextlib.contextmanager
def announce_sweep(folder: Path, jobs: int) -> Iterator[None]:
    """Announce this process as the active sweep of ``folder``."""
    path = folder / FOLDER / SWEEP
    _announce(path, ActiveSweep(os.getpid(), socket.gethostname(), jobs, time.time())._asdict())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            path.parent.rmdir()


def read_active_sweep(folder: Path) -> ActiveSweep | None:
    """Return the active sweep of ``folder``; None if there is none."""
    path = folder / FOLDER / SWEEP
    try:
        sweep = ActiveSweep(**json.loads(path.read_bytes()))
        return sweep if _is_active(path, sweep.host, sweep.pid) else None
    except (OSError, ValueError, TypeError):
        return None


def write_failures(folder: Path, failures: Mapping[Run, str]) -> None:
    """Write the errors of the latest sweep; without any, remove the file."""
    path = folder / FAILURES
    if failures:
        lines = [[run.key, describe(run), error] for run, error in failures.items()]
        write_document(path, {"failures": lines})
    else:
        path.unlink(missing_ok=True)


def read_failures(folder: Path) -> dict[str, tuple[str, str]]:
    """Return key -> (description, error) of the failed runs of the latest sweep.

    Raises:
        DamagedFileError: the file is damaged.
    """
    path = folder / FAILURES
    try:
        return {key: (text, error) for key, text, error in read_document(path)["failures"]}
    except FileNotFoundError:
        return {}


def _announce(path: Path, body: Mapping[str, Any]) -> None:
    # It is only for displays; a full disk is reported where the row is written.
    with contextlib.suppress(OSError), replacing(path) as temporary:
        temporary.write_text(json.dumps(body), encoding="utf-8")


def _is_active(path: Path, host: str, pid: int) -> bool:
    if host == socket.gethostname():
        return is_alive(pid)
    return time.time() - path.stat().st_mtime < FRESH
