"""The command line: turns arguments into calls.

Exit status: 0 done, 1 failed or stopped, 2 wrong usage, 128 + n ended by signal n.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import cyclopts
from cyclopts import App, Parameter
from rich.console import Console

import inna
from inna.checks import did_you_mean
from inna.cli.datasets import datasets
from inna.cli.find_lr import find_lr
from inna.cli.info import info
from inna.cli.landscape import landscape
from inna.cli.new_task import new_task
from inna.cli.options import UsageError, format_default
from inna.cli.studies.benchmark import benchmark
from inna.cli.studies.compare import compare
from inna.cli.studies.pack import pack
from inna.cli.studies.report import report
from inna.cli.studies.reproduce import reproduce
from inna.cli.studies.status import status
from inna.cli.theory_check import theory_check
from inna.cli.train import train
from inna.experiments.formatting import print_line
from inna.experiments.tasks.exits import describe_exit
from inna.interrupts import STOPPED, exit_status

__all__ = ["app", "run"]


def _check_whole_numbers(app: App, commands: tuple[str, ...], parsed: Iterable[Any]) -> None:
    """Refuse fractions for whole numbers; cyclopts would round them."""
    for argument in parsed:
        for token in argument.tokens if argument.hint in (int, int | None) else ():
            if "." in token.value:
                raise UsageError(f"{argument.name} must be a whole number, got {token.value!r}")


app = App(
    name="inna",
    help="INNA, the inertial Newton algorithm for deep learning: compare it on your problem, train with it.",
    version=inna.__version__,
    help_epilogue="Every command has --help. --debug, anywhere, shows the traceback of an error. "
    "Exit status: 0 done, 1 failed or stopped by Ctrl-C, 2 wrong usage, 128 + n ended by signal n.",
    default_parameter=Parameter(negative=(), show_default=format_default),
    suppress_keyboard_interrupt=False,
    config=_check_whole_numbers,
)
_COMMANDS: tuple[Callable[..., int], ...] = (
    *(compare, benchmark, find_lr, new_task, train, reproduce, datasets),
    *(status, report, pack, landscape, info, theory_check),
)
for command in _COMMANDS:
    app.command(command)


def run(arguments: Sequence[str]) -> int:
    """Run a command line and return its exit status.

    Args:
        arguments: without the program's name.
    """
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        # Commands return their exit status; help and version return None.
        status: int | None = app(
            arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
            error_console=Console(stderr=True),
        )
        if sys.stdout is not None:
            sys.stdout.flush()
        return status or 0
    except cyclopts.CycloptsError as error:
        return _complain(_describe(error), 2, debug, hint=f" (see {_help_command(arguments)})")
    except UsageError as error:
        return _complain(str(error), 2, debug)
    except KeyboardInterrupt as error:
        return _complain(STOPPED, exit_status(error), debug)
    except BrokenPipeError:
        return 1
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # Rich ends the program when the reader has gone
            return 1
        return _complain(f"some code {describe_exit(error)}", 1, debug)
    except RuntimeError as error:
        return _complain(str(error), 1, debug)
    except Exception as error:
        return _complain(f"{type(error).__name__}: {error}", 1, debug)


def _complain(text: str, status: int, debug: bool, hint: str = "") -> int:
    if debug:
        import traceback

        traceback.print_exc()
    print_line(Console(stderr=True), f"inna: {next(iter(text.splitlines()), '')}{hint}")
    return status


def _describe(error: cyclopts.CycloptsError) -> str:
    """Return the message of a wrong command line.

    An option is proposed only if it resembles the given one.
    """
    if isinstance(error, cyclopts.UnusedCliTokensError):
        unused = error.unused_tokens or []
        return f"Unexpected argument{'s' if len(unused) > 1 else ''}: {' '.join(unused)}."
    text = " ".join(str(error).split())
    if isinstance(error, cyclopts.UnknownOptionError):
        text, _, guess = text.partition(" Did you mean ")
        given = error.token.keyword or error.token.value
        near = did_you_mean(given.lstrip("-"), [guess.strip("-?")])
        return f"{text} Did you mean {guess}" if near else text
    return text


def _help_command(arguments: list[str]) -> str:
    """Return the command that shows the help of the command line at fault."""
    return " ".join(["inna", *(name for name in arguments[:1] if name in app and not name.startswith("-")), "--help"])
