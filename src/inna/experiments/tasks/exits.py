"""Name the part of a task or an optimizer whose code tries to end the program."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import NoReturn

from inna.interrupts import was_signalled

__all__ = ["ExitError", "ExitGuard", "describe_exit", "raised_by_code"]


class ExitError(RuntimeError):
    """Code of a task or an optimizer tried to end the program."""


class _SystemLevelExit(SystemExit):
    """``os._exit`` was called."""


class ExitGuard:
    """Raise an `ExitError` where the code of a block tries to end the program.

    A context manager.

    Ends are ``sys.exit``, ``os._exit`` in this thread, KeyboardInterrupt, and every other exception that is no
    `Exception`. Interrupts by a signal pass. What kills the process, such as ``os.abort``, is beyond it.

    >>> with ExitGuard("the loss"):
    ...     raise SystemExit(3)
    Traceback (most recent call last):
    ...
    inna.experiments.tasks.exits.ExitError: the loss called sys.exit(3)

    Attributes:
        part: whose code is running; it may change within the block.
    """

    def __init__(self, part: str = "it") -> None:
        self.part = part

    def __enter__(self) -> ExitGuard:
        before, process, thread = os._exit, os.getpid(), threading.get_ident()

        def raise_instead(status: int) -> NoReturn:
            if (os.getpid(), threading.get_ident()) != (process, thread):
                before(status)  # a forked child ends so, too
            raise _SystemLevelExit(status)

        self._before, os._exit = before, raise_instead
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os._exit = self._before
        if error is not None and raised_by_code(error):
            raise ExitError(f"{self.part} {describe_exit(error)}") from error


def raised_by_code(error: BaseException) -> bool:
    """Return whether ``error`` would end the program, and no signal caused it."""
    if isinstance(error, KeyboardInterrupt):
        return not was_signalled(error)
    return not isinstance(error, Exception)


def describe_exit(error: BaseException) -> str:
    """Describe the end that ``error`` stands for, in one line.

    >>> describe_exit(SystemExit("no data")), describe_exit(KeyboardInterrupt())
    ("called sys.exit('no data')", 'raised KeyboardInterrupt')
    """
    if isinstance(error, SystemExit):
        call = "os._exit" if isinstance(error, _SystemLevelExit) else "sys.exit"
        return f"called {call}({'' if error.code is None else repr(error.code)})"
    text = next(iter(str(error).splitlines()), "")
    return f"raised {type(error).__name__}{text and f': {text}'}"
