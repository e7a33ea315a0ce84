"""Stop a sweep early, after a time, by Ctrl-C or by a signal to end."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from inna.experiments.sweep.active_runs import FOLDER
from inna.interrupts import SIGNALS, Interrupt, leave_dead_terminal, raising_interrupts

__all__ = ["StopFlag", "Stopping", "at_most_every"]

NAME = "stop"


@dataclass(frozen=True)
class StopFlag:
    """True once a stop is requested: a file exists, or the deadline has passed.

    Any process of this machine can call it.
    """

    path: Path
    deadline: float | None = None

    def __call__(self) -> bool:
        """Return whether to stop."""
        return (self.deadline is not None and time.monotonic() >= self.deadline) or self.path.exists()


class Stopping:
    """Handle Ctrl-C and signals to end; a context manager.

    The first Ctrl-C requests a stop after the current epoch; the second interrupts at once, where `raise_if_urgent` is
    called or within `interruptible`. Further ones are ignored, so that cleaning up is not interrupted. Other
    signals request a stop as the first Ctrl-C does, however many arrive: a scheduler may send them to a process and to
    its group. Those that the process ignores or handles in its own way are left alone.

    Attributes:
        requested: the flag that workers check after each epoch.
        presses: 1 after a request to stop, more after further presses of Ctrl-C.
        signum: the signal that requested the stop.
    """

    def __init__(self, folder: Path, seconds: float | None, note: Callable[[str], object]) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        self.requested = StopFlag((folder / FOLDER / NAME).absolute(), deadline)
        self.note = note
        self.presses = 0
        self.signum: int = signal.SIGINT
        self.before: dict[int, Any] = {}
        self._interruptible = False

    def __enter__(self) -> Stopping:
        self.requested.path.unlink(missing_ok=True)
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                if self._is_ours_to_handle(signum):
                    self.before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, before in self.before.items():
            if signal.getsignal(signum) == self._handle:
                signal.signal(signum, before)
        with contextlib.suppress(OSError):
            self.requested.path.unlink(missing_ok=True)
            self.requested.path.parent.rmdir()

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the second Ctrl-C raise KeyboardInterrupt anywhere in a block."""
        self._interruptible = True
        try:
            self.raise_if_urgent()
            yield
        finally:
            self._interruptible = False

    def raise_if_urgent(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C was pressed twice."""
        if self.presses >= 2:
            self.leave()

    def leave(self) -> NoReturn:
        """Raise `Interrupt` for the signal that requested the stop.

        The handler before may do so, too.
        """
        self._interruptible = False
        before = self.before.get(self.signum)
        with contextlib.suppress(KeyboardInterrupt):
            if callable(before):
                before(self.signum, None)
        raise Interrupt(self.signum)

    @staticmethod
    def _is_ours_to_handle(signum: int) -> bool:
        before = signal.getsignal(signum)
        if signum == signal.SIGINT:
            return callable(before)
        return before == signal.SIG_DFL or getattr(before, "raises_interrupt", False)

    @raising_interrupts
    def _handle(self, signum: int, frame: FrameType | None) -> None:
        leave_dead_terminal()
        if self.presses == 0:
            self.presses, self.signum = 1, signum
            try:
                self.requested.path.parent.mkdir(parents=True, exist_ok=True)
                self.requested.path.touch()
            except OSError:
                self.presses = 2  # workers cannot be asked, only killed
            else:
                with contextlib.suppress(RuntimeError, OSError):  # the signal interrupted the printing of another line
                    self.note("stopping after the current epoch; Ctrl-C again stops at once")
        elif signum == signal.SIGINT:
            self.presses += 1
        if self.presses >= 2 and self._interruptible:
            self.leave()


def at_most_every(seconds: float, function: Callable[..., Any]) -> Callable[..., Any]:
    """Limit calls of ``function`` to one in ``seconds``.

    Others return its last value.
    """
    due, value = -math.inf, None

    def call(*arguments: Any) -> Any:
        nonlocal due, value
        if time.monotonic() >= due:
            value = function(*arguments)
            due = time.monotonic() + seconds
        return value

    return call
