"""SIGKILL and SIGTERM, at moments spread over the measured duration of a command, in writes, and to one worker.

A trial begins in an empty folder and ends when the command, started again after each kill, ends by itself. Then what
it left must equal what an undisturbed command leaves, bit for bit, timings aside.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faults.account import Account, complaint
from faults.commands import Command, Kind, Started
from faults.contents import contents, differences, lost
from waiting import PATIENCE
from warm_processes import warm_context

__all__ = ["BINS", "kill_often"]

BINS = 10
KILLS_PER_TRIAL = 4
TERMINATED = 128 + signal.SIGTERM


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves when nothing happens, how long it takes, and from when to when it writes, in seconds."""

    contents: dict[str, Any]
    duration: float
    first_write: float
    last_write: float


def kill_often(
    command: Command,
    kills: int,
    seed: int,
    report: Callable[[str], object] = lambda text: None,
    *,
    attempts: int = 3,
) -> Account:
    """Kill ``command`` ``kills`` times and see what is left; half as its first kind says, the rest as the others.

    Undisturbed, it is carried out ``attempts`` times beforehand.
    """
    random_numbers = random.Random(seed)
    account = Account(
        fault=f"{name_of(command.kinds)}: {command.name}",
        expected="rows and checkpoints equal to an undisturbed run's, bit for bit",
    )
    with tempfile.TemporaryDirectory(prefix="inna-faults-") as place:
        usual = _undisturbed(command, Path(place), attempts)
        report(f"{command.name}: undisturbed it takes {usual.duration:.1f} s and leaves {len(usual.contents)} files")
        plan = _plan(command.kinds, kills, random_numbers, usual)
        moments: list[float] = []
        trial = 0
        while plan:
            folder = Path(place) / f"trial{trial}"
            trial += 1
            for kind, fraction, struck in _until_done(command, folder, plan, usual.duration, account):
                moments.append(fraction)
                account.outcomes[f"{kind}: {struck}"] += 1
            found = contents(folder)
            account.losses += [f"{command.name}, trial {trial}: {line}" for line in differences(usual.contents, found)]
            shutil.rmtree(folder, ignore_errors=True)  # a command that failed may have left none
            report(f"{command.name}: {account.trials} of {kills} kills, {len(account.losses)} losses")
    account.extra |= {
        "seed": seed,
        "duration_s": usual.duration,
        "completed": trial,
        "moments": histogram(moments),
        "files": len(usual.contents),
    }
    return account


def name_of(kinds: tuple[Kind, ...]) -> str:
    """What is sent to a command, for the table."""
    if kinds == ("worker",):
        return "SIGKILL of one worker"
    return "SIGTERM" if "terminate" in kinds else "SIGKILL"


def histogram(fractions: list[float]) -> list[int]:
    """How many of ``fractions`` (of the duration) lie in each of the bins; what is beyond is in the last."""
    counts = Counter(min(BINS - 1, int(BINS * fraction)) for fraction in fractions)
    return [counts[place] for place in range(BINS)]


def _plan(
    kinds: tuple[Kind, ...], kills: int, random_numbers: random.Random, usual: Undisturbed
) -> list[tuple[Kind, float]]:
    """(kind, seconds after the start), in random order: stratified over the duration, or the time of the writes."""
    first, *others = kinds
    shares = {kind: kills // 2 // len(others) for kind in others}
    shares[first] = kills - sum(shares.values())
    plan: list[tuple[Kind, float]] = []
    for kind, share in shares.items():
        spread = kind in ("moment", "terminate", "terminate all")
        begin, end = (0.0, usual.duration) if spread else (usual.first_write, usual.last_write)
        plan += [(kind, begin + (end - begin) * (place + random_numbers.random()) / share) for place in range(share)]
    random_numbers.shuffle(plan)
    return plan


def _undisturbed(command: Command, place: Path, count: int) -> Undisturbed:
    """The median of ``count`` attempts, which must leave the same."""
    warm_context()  # whose start is no part of the duration
    attempts = []
    for attempt in range(count):
        folder = place / f"undisturbed{attempt}"
        started, clock = time.monotonic(), time.time()
        process = command.start(folder)
        first = None
        while process.poll() is None:
            if first is None and _written(folder):
                first = time.monotonic() - started
            time.sleep(0.01)
        _finish(process)
        duration = time.monotonic() - started
        last = max(path.stat().st_mtime for path in _written(folder)) - clock
        attempts.append(Undisturbed(contents(folder), duration, duration if first is None else first, last))
    if any(attempt.contents != attempts[0].contents for attempt in attempts):
        raise RuntimeError(f"undisturbed, the {command.name} does not leave the same each time")
    return sorted(attempts, key=lambda attempt: attempt.duration)[count // 2]


def _written(folder: Path) -> list[Path]:
    return [*folder.glob("*.row.json"), *folder.glob("*.checkpoint")]


def _finish(process: Started) -> None:
    status, errors = process.wait()
    if status != 0:
        raise RuntimeError(f"left alone, the command ended with status {status}: {errors}")


def _until_done(
    command: Command, folder: Path, plan: list[tuple[Kind, float]], duration: float, account: Account
) -> Iterator[tuple[Kind, float, str]]:
    """Take kills from ``plan``, a few, or until the command ends before one strikes, which stays, somewhat earlier.

    Yields:
        Kind, moment as a fraction of the duration, and what was struck.
    """
    for _ in range(min(KILLS_PER_TRIAL, len(plan))):
        kind, seconds = plan[-1]
        before = contents(folder)
        started = time.monotonic()
        process = command.start(folder)
        struck = _strike(process, kind, folder, started + seconds)
        moment = (time.monotonic() - started) / duration
        if struck is None:
            status, errors = process.wait()
            if status != 0:
                account.losses.append(f"{command.name} ended with status {status} before it was killed: {errors}")
            if not before:
                plan[-1] = kind, 0.9 * seconds
            return
        plan.pop()
        if kind == "worker":
            status, errors = process.wait()
            if status != 0 and (unclear := complaint(status, errors)):
                account.losses.append(f"{command.name} after a worker was killed: {unclear}")
        elif kind in ("terminate", "terminate all"):
            asked = time.monotonic()
            struck, unclear = _judge_ending(*process.wait(), written=contents(folder) != before)
            account.extra["slowest_end_s"] = max(account.extra.get("slowest_end_s", 0.0), time.monotonic() - asked)
            if unclear:
                account.losses.append(f"{command.name} at {100 * moment:.0f} %, {kind}: {unclear}")
        account.losses += [f"{command.name} lost {name}" for name in lost(before, contents(folder))]
        yield kind, min(1.0, moment), struck
    _finish(command.start(folder))


def _strike(process: Started, kind: Kind, folder: Path, due: float) -> str | None:
    """Kill at ``due``, or at the first occasion for ``kind`` after it; None if the process ended before."""
    deadline = time.monotonic() + PATIENCE
    left = _temporaries(folder)
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return None
        if time.monotonic() >= due:
            if kind == "worker":
                target = _worker(folder, process.pid)
            else:
                target = process.pid if kind != "write" or _temporaries(folder) - left else 0
            if target and kind == "worker":
                os.kill(target, signal.SIGKILL)
                return "one worker killed"
            if kind == "terminate":
                os.kill(process.pid, signal.SIGTERM)
                return "asked to end"
            if kind == "terminate all":
                process.kill(signal.SIGTERM)
                return "asked to end"
            if target:
                process.kill()
                process.wait()
                return "a write was cut off" if _temporaries(folder) - left else "no write was under way"
        time.sleep(0.0002 if kind == "write" else 0.002)
    raise TimeoutError(f"the command neither ended nor could be struck within {PATIENCE:.0f} s")


def _judge_ending(status: int, errors: str, *, written: bool) -> tuple[str, str | None]:
    """How a command ended after SIGTERM, and what is unclear about it."""
    if status == 0:
        return "had just ended", None
    if status == -signal.SIGTERM and not written and not errors:
        return "had not begun", None  # not even to import: the system ends it
    unclear = complaint(status, errors, TERMINATED)
    if unclear is None and "Stopped." not in errors:
        unclear = f"the message does not say that it stopped: {errors.strip()}"
    return f"one line and status {TERMINATED}", unclear


def _temporaries(folder: Path) -> set[str]:
    """Temporary files in ``folder``: writes that are under way, or were cut off."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.name.endswith(".tmp")}
    except FileNotFoundError:
        return set()


def _worker(folder: Path, parent: int) -> int:
    """A process that announces a run in ``folder``; 0 if there is none but ``parent``."""
    for path in (folder / ".running").glob("*.json"):
        try:
            pid = int(json.loads(path.read_bytes())["pid"])
        except (OSError, ValueError):
            continue  # it has just ended
        if pid != parent:
            return pid
    return 0
