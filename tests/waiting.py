"""Wait for a condition rather than for a time: what takes a moment on an idle machine takes minutes on a busy one."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE = 600.0  # seconds after which nothing is expected any more, on the busiest machine


def wait_until(condition: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    """Wait until ``condition()`` is true; fail where ``process`` ends before."""
    begun = time.monotonic()
    while not condition():
        assert process is None or process.poll() is None, "the process ended before"
        assert time.monotonic() - begun < PATIENCE, f"nothing happened within {PATIENCE:.0f} s"
        time.sleep(0.005)


def happens(condition: Callable[[], object], seconds: float) -> bool:
    """Whether ``condition()`` becomes true within ``seconds``."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            return False
        time.sleep(0.005)
    return True
