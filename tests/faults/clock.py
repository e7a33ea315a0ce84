"""A clock that jumps back by an hour in mid-sweep.

The system's own clock is everybody's, so a small library is loaded before libc's. It subtracts an hour from the time of
day in every process of the sweep as soon as a file exists. Times of files stay as they are, an hour ahead. Needs Linux
and a C compiler.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from faults.account import Account, environment, inna_command
from faults.commands import Command, short_sweep
from faults.contents import contents, differences

__all__ = ["set_back_often", "unavailable"]

JUMP = 3600
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long jump(void) {
    const char *mark = getenv("INNA_CLOCK_MARK");
    return mark && access(mark, F_OK) == 0 ? JUMP : 0;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int status = real(clock, at);
    if (status == 0 && clock == CLOCK_REALTIME) at->tv_sec -= jump();
    return status;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def unavailable() -> str:
    """Why this machine cannot make a clock jump; "" if it can."""
    if sys.platform != "linux":
        return "the clock can be set back on Linux only"
    return "" if shutil.which("cc") else "setting back the clock needs a C compiler"


def set_back_often(
    trials: int,
    seed: int,
    report: Callable[[str], object] = lambda text: None,
    *,
    command: Command | None = None,
) -> Account:
    """Set the clock back under ``command``, by default a sweep with two workers, and ask for its status meanwhile."""
    random_numbers = random.Random(seed)
    command = command or short_sweep(jobs=2)
    account = Account(
        fault=f"the clock jumps back by an hour in mid-run ({command.name})",
        expected="rows of an undisturbed sweep, no negative duration in them or in inna status",
    )
    with tempfile.TemporaryDirectory(prefix="inna-faults-") as place:
        usual = Path(place) / "usual"
        began = time.monotonic()
        status, errors = command.start(usual).wait()
        duration = time.monotonic() - began
        if status != 0:
            raise RuntimeError(f"left alone, the {command.name} ended with status {status}: {errors}")
        expected = contents(usual)
        library = _library(Path(place))
        for trial in range(trials):
            folder, mark = Path(place) / f"trial{trial}", Path(place) / f"mark{trial}"
            due = time.monotonic() + duration * (trial + random_numbers.random()) / trials
            with mock.patch.dict(os.environ, LD_PRELOAD=str(library), INNA_CLOCK_MARK=str(mark)):
                process = command.start(folder)
                while process.poll() is None and time.monotonic() < due:
                    time.sleep(0.01)
                struck = process.poll() is None
                mark.touch()
                losses = _status_losses(folder) if struck else []
                status, errors = process.wait()
            if status != 0:
                losses.append(f"ended with status {status}: {errors.strip()}")
            losses += differences(expected, contents(folder)) + _negative(folder)
            account.outcomes["ended by itself" if struck else "had just ended"] += 1
            account.losses += [f"trial {trial + 1}: {loss}" for loss in losses]
            report(f"clock: {trial + 1} of {trials}, {len(account.losses)} losses")
    account.extra = {"seed": seed}
    return account


def _library(place: Path) -> Path:
    source, library = place / "clock.c", place / "clock.so"
    source.write_text(SOURCE, encoding="utf-8")
    command = ["cc", "-shared", "-fPIC", f"-DJUMP={JUMP}", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    read = [sys.executable, "-c", "import time; print(time.time())"]
    environment = os.environ | {"LD_PRELOAD": str(library), "INNA_CLOCK_MARK": str(source)}
    shown = float(subprocess.run(read, env=environment, capture_output=True, text=True, check=True).stdout)
    if not -5 < time.time() - JUMP - shown < 5:
        raise RuntimeError("the library does not set the clock back")
    return library


def _status_losses(folder: Path) -> list[str]:
    """What is wrong with `inna status` after the jump; a sweep that has not begun to write has no status."""
    if not (folder / "study.json").exists():
        return []
    done = subprocess.run(inna_command("status", str(folder)), env=environment(), capture_output=True, text=True)
    shown = done.stdout + done.stderr
    wrong = done.returncode != 0 or _shows_negative(shown)
    return [f"inna status ended with {done.returncode}: {shown.strip()}"] if wrong else []


def _shows_negative(text: str) -> bool:
    words = text.replace("\N{MINUS SIGN}", "-").split()
    return any(word.startswith("-") and word[1:2].isdigit() for word in words)


def _negative(folder: Path) -> list[str]:
    """The durations in rows that are below zero."""
    return [
        f"{path.name}: {name} is {value}"
        for path in folder.glob("*.row.json")
        for name, value in _durations(json.loads(path.read_bytes()))
        if value < 0
    ]


def _durations(value: Any, name: str = "") -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _durations(part, key)]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [pair for part in value for pair in _durations(part, name)]
    return [(name, value)] if name.startswith("seconds") and isinstance(value, (int, float)) else []
