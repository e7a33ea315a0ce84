"""Ending a sweep before it is done: at a time, or by Ctrl-C, once for soon and twice for now."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from inna.experiments.sweep.active_runs import FOLDER

__all__ = ["StopSign", "Stopping"]

NAME = "stop"


@dataclass(frozen=True)
class StopSign:
    """Whether to stop, for any process of this machine: a file is there, or ``deadline`` is past (monotonic clock)."""

    path: Path
    deadline: float | None = None

    def __call__(self) -> bool:
        return (self.deadline is not None and time.monotonic() >= self.deadline) or self.path.exists()


class Stopping:
    """While it lasts, the first Ctrl-C puts up the sign, and the second interrupts as if this were not here.

    Attributes:
        sign: what workers look at after each epoch.
        interrupted: whether Ctrl-C was pressed.
    """

    def __init__(self, folder: Path, seconds: float | None, note: Callable[[str], object]) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        self.sign = StopSign((folder / FOLDER / NAME).absolute(), deadline)
        self.note = note
        self.interrupted = False
        self.before: Any = None

    def __enter__(self) -> Stopping:
        self.sign.path.unlink(missing_ok=True)
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self.before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.before is not None and signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, self.before)
        with contextlib.suppress(OSError):
            self.sign.path.unlink(missing_ok=True)
            self.sign.path.parent.rmdir()

    def leave(self) -> NoReturn:
        """End as Ctrl-C ends without this."""
        if callable(self.before):
            self.before(signal.SIGINT, None)
        raise KeyboardInterrupt

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        self.interrupted = True
        signal.signal(signal.SIGINT, self.before)
        try:
            self.sign.path.parent.mkdir(parents=True, exist_ok=True)
            self.sign.path.touch()
        except OSError:
            raise KeyboardInterrupt from None  # no sign can be put up, so there is only now
        with contextlib.suppress(RuntimeError):  # the signal came in the middle of another line
            self.note("stopping after the epochs in progress; Ctrl-C again stops at once")
