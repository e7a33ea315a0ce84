"""The registry of demonstrations, and a function that runs them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from inna.checks import did_you_mean

__all__ = ["Demonstration", "Finding", "demonstration", "names", "run_demonstrations"]

# The measured values as text, and whether the statement holds.
Outcome = tuple[str, bool]


@dataclass(frozen=True)
class Demonstration:
    """A statement and the computation that shows it.

    Attributes:
        name: a short name for the command line.
        statement: the statement.
        expected: the value or sign that the theory gives, with its tolerance.
        source: the origin of the statement.
        measure: () -> (measured values as text, whether the statement holds).
    """

    name: str
    statement: str
    expected: str
    source: str
    measure: Callable[[], Outcome]


@dataclass(frozen=True)
class Finding:
    """The result of a demonstration: measured values, verdict and seconds."""

    demonstration: Demonstration
    measured: str
    holds: bool
    seconds: float


_DEMONSTRATIONS: dict[str, Demonstration] = {}


def demonstration(
    name: str, *, statement: str, expected: str, source: str
) -> Callable[[Callable[[], Outcome]], Callable[[], Outcome]]:
    """Register the decorated function as the `Demonstration` called ``name``."""

    def register(measure: Callable[[], Outcome]) -> Callable[[], Outcome]:
        if name in _DEMONSTRATIONS:
            raise ValueError(f"there is already a demonstration named {name!r}")
        _DEMONSTRATIONS[name] = Demonstration(name, statement, expected, source, measure)
        return measure

    return register


def names() -> list[str]:
    """Return the names of all demonstrations, in the order in which they run."""
    return list(_DEMONSTRATIONS)


def run_demonstrations(only: Sequence[str] | None = None) -> Iterator[Finding]:
    """Run the demonstrations one after the other and yield the result of each.

    Args:
        only: names of the demonstrations to run; None: all, in under three minutes on two cores.

    Raises:
        ValueError: a name is unknown; nothing is run.
        ModuleNotFoundError: a demonstration with a network is requested and torch is not installed.
    """
    wanted = names() if only is None else list(only)
    unknown = [name for name in wanted if name not in _DEMONSTRATIONS]
    if unknown:
        raise ValueError(
            f"there is no demonstration {unknown[0]!r}; there are {', '.join(names())}"
            f"{did_you_mean(unknown[0], names())}"
        )
    return _run([_DEMONSTRATIONS[name] for name in wanted])


def _run(wanted: list[Demonstration]) -> Iterator[Finding]:
    for one in wanted:
        began = time.perf_counter()
        measured, holds = one.measure()
        yield Finding(one, measured, bool(holds), time.perf_counter() - began)
