"""What is written down of one kind of fault."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import inna

TASK = Path(__file__).with_name("task.py")


@dataclass
class Account:
    """One kind of fault: how often it was tried, what came of it, and whatever was lost.

    Attributes:
        fault: what was done to what, for the table.
        expected: what has to come of it, for the table.
        outcomes: what came of the trials -> how often.
        losses: a line for each trial after which something was lost, wrong or unclear. There should be none.
        extra: numbers that belong to this kind only.
    """

    fault: str
    expected: str
    outcomes: Counter[str] = field(default_factory=Counter)
    losses: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        return self.outcomes.total()

    def row(self) -> dict[str, Any]:
        """The account as plain JSON."""
        return vars(self) | {"outcomes": dict(self.outcomes), "trials": self.trials}


def inna_command(*arguments: str) -> list[str]:
    """The command line ``inna ...`` of this source tree, for a process."""
    return [sys.executable, "-m", "inna", *arguments]


def environment() -> dict[str, str]:
    """The variables under which `inna_command` finds this source tree; output is not wrapped."""
    source = str(Path(inna.__file__).parents[1])
    return os.environ | {"PYTHONPATH": source, "COLUMNS": "200"}


def complaint(status: int, errors: str, expected: int = 1) -> str | None:
    """What is unclear about how a failed command ended; None if it was one line and status ``expected``."""
    lines = errors.splitlines()
    if status == expected and len(lines) == 1 and lines[0].startswith("inna: "):
        return None
    return f"exit status {status}, {len(lines)} lines of errors, the last: {lines[-1] if lines else 'none'}"
