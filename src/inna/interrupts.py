"""Handle Ctrl-C at a command line: one line and exit status 1, at any moment."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

__all__ = ["STOPPED", "handle_interrupts", "ignore_interrupts"]

STOPPED = "Stopped. Finished runs are saved; run the same command to resume."


def handle_interrupts() -> None:
    """Raise KeyboardInterrupt at the first Ctrl-C; ignore further ones.

    The exception could be lost where it is not expected: in an import, which may turn it into another one, or in a
    callback of the garbage collector. There the process ends instead.
    """
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _end_if_interrupted


def ignore_interrupts() -> None:
    """Ignore Ctrl-C from now on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    ignore_interrupts()
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _end()
        frame = frame.f_back
    raise KeyboardInterrupt


def _end_if_interrupted(unraisable: sys.UnraisableHookArgs) -> None:
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _end()
    sys.__unraisablehook__(unraisable)


def _end() -> NoReturn:
    if os.isatty(1):
        os.write(1, b"\x1b[?25h")  # a live display hides the cursor
    os.write(2, f"inna: {STOPPED}\n".encode())
    os._exit(1)
