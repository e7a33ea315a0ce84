"""What commands say, and how they refuse a value."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

__all__ = ["UsageError", "checking", "errors", "say"]


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
