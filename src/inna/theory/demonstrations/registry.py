"""The list of demonstrations, and how they are run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Demonstration", "Finding", "demonstration", "names", "run_demonstrations"]

# What was measured, in words, and whether the statement holds.
Outcome = tuple[str, bool]


@dataclass(frozen=True)
class Demonstration:
    """A statement and the computation that shows it.

    Attributes:
        name: short, for the command line.
        statement: what is claimed.
        expected: the value or sign that theory gives, with its tolerance.
        source: where the claim comes from.
        measure: () -> (what was measured, whether the statement holds).
    """

    name: str
    statement: str
    expected: str
    source: str
    measure: Callable[[], Outcome]


@dataclass(frozen=True)
class Finding:
    """What a demonstration gave: the words, the verdict, and the seconds it took."""

    demonstration: Demonstration
    measured: str
    holds: bool
    seconds: float


_DEMONSTRATIONS: dict[str, Demonstration] = {}


def demonstration(
    name: str, *, statement: str, expected: str, source: str
) -> Callable[[Callable[[], Outcome]], Callable[[], Outcome]]:
    """Registers the decorated function under ``name``; the arguments are those of `Demonstration`."""

    def register(measure: Callable[[], Outcome]) -> Callable[[], Outcome]:
        if name in _DEMONSTRATIONS:
            raise ValueError(f"there is already a demonstration named {name!r}")
        _DEMONSTRATIONS[name] = Demonstration(name, statement, expected, source, measure)
        return measure

    return register


def names() -> list[str]:
    """The names of all demonstrations, in the order in which they run."""
    return list(_DEMONSTRATIONS)


def run_demonstrations(only: Sequence[str] | None = None) -> Iterator[Finding]:
    """Runs the demonstrations one after the other and yields what each gave.

    Args:
        only: names of those to run; None: all, in about a minute on one core.

    Raises:
        ValueError: there is no demonstration of a name; nothing is run then.
        ModuleNotFoundError: torch is missing and a demonstration with a network is asked for.
    """
    wanted = names() if only is None else list(only)
    unknown = [name for name in wanted if name not in _DEMONSTRATIONS]
    if unknown:
        raise ValueError(f"there is no demonstration {unknown[0]!r}; there are {', '.join(names())}")
    return _run([_DEMONSTRATIONS[name] for name in wanted])


def _run(wanted: list[Demonstration]) -> Iterator[Finding]:
    for one in wanted:
        began = time.perf_counter()
        measured, holds = one.measure()
        yield Finding(one, measured, bool(holds), time.perf_counter() - began)
