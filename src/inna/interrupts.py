"""Handle Ctrl-C and the signals that ask a program to end.

One line and an exit status, at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, TypeVar

try:
    import termios
except ImportError:  # not on Windows
    termios = None  # type: ignore[assignment]

__all__ = [
    "SIGNALS",
    "STOPPED",
    "Interrupt",
    "exit_status",
    "handle_interrupts",
    "ignore_interrupts",
    "leave_dead_terminal",
    "raising_interrupts",
    "was_signalled",
]

STOPPED = "Stopped. Finished runs are saved; run the same command to resume."
# Ctrl-C; kill, timeout, Slurm, docker stop; a terminal that closes; what else schedulers send to end a program.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGXCPU", "SIGUSR1", "SIGUSR2")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))

_Handler = TypeVar("_Handler", bound=Callable[..., Any])
_exit = os._exit  # a guard replaces it while it runs the code of a task


class Interrupt(KeyboardInterrupt):
    """A signal asked the program to end.

    Unlike a KeyboardInterrupt that some code raised.
    """

    def __init__(self, signum: int = signal.SIGINT) -> None:
        super().__init__()
        self.signum = signum


def exit_status(error: KeyboardInterrupt) -> int:
    """Return the exit status after an interrupt.

    1 after Ctrl-C, 128 + n after another signal of number n.

    >>> exit_status(Interrupt()), exit_status(Interrupt(signal.SIGTERM))
    (1, 143)
    """
    signum = error.signum if isinstance(error, Interrupt) else signal.SIGINT
    return 1 if signum == signal.SIGINT else 128 + signum


def raising_interrupts(handler: _Handler) -> _Handler:
    """Mark a signal handler that raises `Interrupt`.

    Rather than a plain KeyboardInterrupt.
    """
    handler.raises_interrupt = True  # type: ignore[attr-defined]
    return handler


def was_signalled(error: KeyboardInterrupt) -> bool:
    """Return whether a signal caused ``error``; where one cannot know, yes."""
    if isinstance(error, Interrupt):
        return True
    if threading.current_thread() is not threading.main_thread():
        return False  # handlers run in the main thread
    handler = signal.getsignal(signal.SIGINT)
    return callable(handler) and not getattr(handler, "raises_interrupt", False)


def handle_interrupts() -> None:
    """Raise `Interrupt` at the first of `SIGNALS`; ignore further ones.

    Signals other than Ctrl-C that the program's parent ignored, as nohup does, stay ignored. The exception could be
    lost where it is not expected: in an import, which may turn it into another one, or in a callback of the garbage
    collector. There the process ends instead.
    """
    for signum in SIGNALS:
        if signum == signal.SIGINT or signal.getsignal(signum) != signal.SIG_IGN:
            signal.signal(signum, _interrupt)
    sys.unraisablehook = _end_if_interrupted


def ignore_interrupts() -> None:
    """Ignore `SIGNALS` from now on."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def leave_dead_terminal() -> None:
    """Write into nothing where stdout or stderr is a closed terminal."""
    for descriptor in (1, 2):
        if termios is not None:
            try:
                termios.tcgetattr(descriptor)
            except termios.error as error:
                if error.args[0] == errno.EIO:
                    with contextlib.suppress(OSError):
                        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@raising_interrupts
def _interrupt(signum: int, frame: FrameType | None) -> None:
    ignore_interrupts()
    leave_dead_terminal()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end(exit_status(Interrupt(signum)))
        frame = frame.f_back
    raise Interrupt(signum)


def _end_if_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _end(exit_status(unraisable.exc_value))
    sys.__unraisablehook__(unraisable)


def _end(status: int) -> NoReturn:
    if os.isatty(1):
        os.write(1, b"\x1b[?25h")  # a live display hides the cursor
    with contextlib.suppress(OSError):
        os.write(2, f"inna: {STOPPED}\n".encode())
    _exit(status)
