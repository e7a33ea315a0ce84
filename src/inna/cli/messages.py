"""What commands say, and how they refuse a value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from inna.experiments.rows import Run
    from inna.experiments.study import Study
    from inna.experiments.sweep import Failure

__all__ = ["UsageError", "anything_to_report", "checking", "errors", "say"]


class UsageError(Exception):
    """A value that the user gave cannot be used; its text is one line."""


@contextmanager
def checking() -> Iterator[None]:
    """What is raised in here is about the user's values."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, ImportError) as error:
        raise UsageError(str(error)) from error


def errors() -> Console:
    return Console(stderr=True)


def say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def anything_to_report(
    console: Console, study: Study, rows: Mapping[Run, Mapping[str, Any]], failures: Sequence[Failure], *, late: bool
) -> bool:
    """Say what is left where a sweep ended because it was ``late``; and whether a run of ``study`` is done at all."""
    from inna.experiments.outlook import outlook

    ahead = outlook(study, rows, [failure.run for failure in failures])
    if late and ahead.left:
        say(console, f"the time is up; {ahead.left} runs are left, the same command goes on from there")
    return ahead.done > 0
