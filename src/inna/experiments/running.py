"""Which runs are under way in a folder: a small file for each, beside the rows, for displays in any process."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

from inna.documents import is_alive
from inna.experiments.rows import Run

__all__ = ["Announcement", "UnderWay", "read_running"]

FOLDER = ".running"
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
        text = f"{run.optimizer}{_dampings(run)}, γ0 {run.lr:g}, q {run.q:g}, seed {run.seed}"
        body = {
            "pid": os.getpid(),
            "state": UnderWay(run.key, text, epoch, run.epochs, train_loss)._asdict(),
        }
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):  # a display only: a full disk is reported where the row is written
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(body), encoding="utf-8")
            temporary.replace(self.path)


def read_running(folder: Path) -> list[UnderWay]:
    """The runs under way in ``folder``. Files of processes that are gone are removed."""
    states = []
    for path in sorted((folder / FOLDER).glob("*.json")):
        try:
            body = json.loads(path.read_bytes())
            state, alive = UnderWay(**body["state"]), is_alive(body["pid"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it ended, or was renamed, meanwhile
        if alive:
            states.append(state)
        else:
            path.unlink(missing_ok=True)
    return states


def _dampings(run: Run) -> str:
    return f" ({run.alpha:g}, {run.beta:g})" if run.alpha is not None and run.beta is not None else ""
