"""Signals do by default what they do, however the test run was started: a shell's `&` ignores Ctrl-C, nohup SIGHUP."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from inna.interrupts import SIGNALS


@pytest.fixture(autouse=True)
def default_signals() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in SIGNALS}
    for signum in SIGNALS:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)
