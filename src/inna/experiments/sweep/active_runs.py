"""What is under way in a folder: a small file for each run and for the sweep, for displays in any process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from inna.experiments.rows.run import Run
from inna.files import is_alive, read_document, write_document

__all__ = [
    "Announcement",
    "SweepAtWork",
    "SweepState",
    "UnderWay",
    "read_failures",
    "read_running",
    "sweep_at_work",
    "write_failures",
]

FOLDER = ".running"
SWEEP = "sweep"
FAILURES = "failures.json"
# A file of another machine, whose processes cannot be asked for, counts for so many seconds after it was written.
FRESH = 3600.0
INTERVAL = 0.5  # seconds between two writes of one file


class UnderWay(NamedTuple):
    """A run in progress: its key, what it is in short, how far it is, its training loss so far."""

    key: str
    text: str
    epoch: int
    epochs: int
    train_loss: float | None


class Announcement:
    """Announces a run in ``folder`` while it lasts; a context manager."""

    def __init__(self, folder: Path, run: Run) -> None:
        self.run = run
        self.path = folder / FOLDER / f"{run.key}.json"
        self.due = 0.0

    def __enter__(self) -> Announcement:
        self._write(0, None)
        return self

    def __exit__(self, *exception: object) -> None:
        self.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()  # the last one out

    def update(self, entry: dict[str, Any]) -> None:
        """Take over the newest entry of a run's history."""
        if time.monotonic() >= self.due:
            self._write(entry["epoch"], entry["train_loss"])

    def _write(self, epoch: int, train_loss: float | None) -> None:
        self.due = time.monotonic() + INTERVAL
        run = self.run
        text = _text(run)
        body = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "state": UnderWay(run.key, text, epoch, run.epochs, train_loss)._asdict(),
        }
        _announce(self.path, body)


def read_running(folder: Path) -> list[UnderWay]:
    """The runs under way in ``folder``. Files of processes that are gone are removed."""
    states = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            body = json.loads(path.read_bytes())
            state, alive = UnderWay(**body["state"]), _lasts(path, body["host"], body["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it ended, or was renamed, meanwhile
        if alive:
            states.append(state)
        else:
            path.unlink(missing_ok=True)
    return states


class SweepState(NamedTuple):
    """A sweep at work: its process, its machine, how many runs at once, and when it began (seconds since 1970)."""

    pid: int
    host: str
    jobs: int
    started: float


class SweepAtWork:
    """Announces this process as the sweep at work on ``folder``, while it lasts; a context manager."""

    def __init__(self, folder: Path, jobs: int) -> None:
        self.path = folder / FOLDER / SWEEP
        self.jobs = jobs

    def __enter__(self) -> SweepAtWork:
        _announce(self.path, SweepState(os.getpid(), socket.gethostname(), self.jobs, time.time())._asdict())
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.parent.rmdir()


def sweep_at_work(folder: Path) -> SweepState | None:
    """The sweep at work on ``folder``; None where there is none."""
    path = folder / FOLDER / SWEEP
    try:
        state = SweepState(**json.loads(path.read_bytes()))
        return state if _lasts(path, state.host, state.pid) else None
    except (OSError, ValueError, TypeError):
        return None


def write_failures(folder: Path, failures: Mapping[Run, str]) -> None:
    """Keep which runs of the latest sweep raised what, for `read_failures`; none removes the file."""
    path = folder / FAILURES
    if failures:
        write_document(path, {"failures": [[run.key, _text(run), error] for run, error in failures.items()]})
    else:
        path.unlink(missing_ok=True)


def read_failures(folder: Path) -> dict[str, tuple[str, str]]:
    """Key -> (the run in short, what it raised) for the runs of the latest sweep that raised.

    Raises:
        DamagedRowError: the file that says so is damaged.
    """
    path = folder / FAILURES
    try:
        return {key: (text, error) for key, text, error in read_document(path)["failures"]}
    except FileNotFoundError:
        return {}


def _announce(path: Path, body: Mapping[str, Any]) -> None:
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with contextlib.suppress(OSError):  # a display only: a full disk is reported where the row is written
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(body), encoding="utf-8")
        temporary.replace(path)


def _lasts(path: Path, host: str, pid: int) -> bool:
    if host == socket.gethostname():
        return is_alive(pid)
    return time.time() - path.stat().st_mtime < FRESH


def _text(run: Run) -> str:
    return f"{run.optimizer}{_dampings(run)}, γ0 {run.lr:g}, q {run.q:g}, seed {run.seed}"


def _dampings(run: Run) -> str:
    return f" ({run.alpha:g}, {run.beta:g})" if run.alpha is not None and run.beta is not None else ""
