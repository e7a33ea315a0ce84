"""SIGKILL, at moments spread over the measured duration of a command, in the middle of writes, and to one worker.

A trial begins in an empty folder and ends when the command, started again after each kill, ends by itself. Then what
it left must equal what an undisturbed command leaves, bit for bit, timings aside.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

import torch

from faults.account import TASK, Account, complaint, environment, inna_command
from inna.cli import run
from inna.experiments import compare
from inna.experiments.rows.row_files import DamagedRowError, read_row
from inna.experiments.training.checkpoint import DamagedCheckpointError, load_checkpoint
from timeless import without_times

__all__ = [
    "Command",
    "contents",
    "differences",
    "kill_often",
    "sweep_command_line",
    "sweep_in_one_process",
    "sweep_in_two_processes",
    "training",
]

BINS = 10
KILLS_PER_TRIAL = 4
PATIENCE = 300.0  # seconds after which a command hangs
Kind = Literal["moment", "write", "worker"]


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves when nothing happens, how long it takes, and from when to when it writes, in seconds."""

    contents: dict[str, Any]
    duration: float
    first_write: float
    last_write: float


class Started:
    """A process that leads a group of its own and writes its errors into a file."""

    def __init__(self, process: subprocess.Popen[bytes] | BaseProcess, errors: Path) -> None:
        self.process, self.pid, self._errors = process, process.pid or 0, errors

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def kill(self) -> None:
        """Send SIGKILL to the process and its workers."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:  # it leads no group yet
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> tuple[int, str]:
        """The exit status and what it wrote to its errors."""
        if isinstance(self.process, subprocess.Popen):
            self.process.wait(PATIENCE)
        else:
            self.process.join(PATIENCE)
        status = self.poll()
        if status is None:
            self.kill()
            raise TimeoutError(f"the command did not end within {PATIENCE:.0f} s")
        return status, self._errors.read_text(encoding="utf-8", errors="replace") if self._errors.exists() else ""


@dataclass(frozen=True)
class Command:
    """Something that writes into a folder, and the kinds of kill that can hit it.

    It is a command line, or a function that is forked from a process which has imported everything already, so that
    most of its time is spent at work.
    """

    name: str
    work: tuple[str, ...] | Callable[[Path], object]
    kinds: tuple[Kind, ...]

    def start(self, folder: Path) -> Started:
        errors = folder.with_name(f"{folder.name}.errors")
        if callable(self.work):
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            process = context.Process(target=_carry_out, args=(self.work, folder, errors))
            process.start()
            return Started(process, errors)
        with errors.open("wb") as file:
            child = subprocess.Popen(
                inna_command(*self.work, "--out", str(folder)),
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=file,
                start_new_session=True,
            )
        return Started(child, errors)


def _carry_out(work: Callable[[Path], object], folder: Path, errors: Path) -> None:
    os.setsid()
    for descriptor, target in ((1, os.devnull), (2, errors)):
        os.dup2(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    work(folder)


TRAINING = ("train", "inna:alpha=.5,beta=.1", "--task", f"{TASK}:make_training_task", "--epochs", "20")
CONTENDERS = ("sgd", "inna", "adam")
SWEEP_TASK = f"{TASK}:make_sweep_task"
SWEEP: dict[str, Any] = {"epochs": 12, "tuning_epochs": 6, "seeds": (1, 2), "grid": (0.01, 0.1)}


def train_warm(folder: Path) -> None:
    """``inna train``, in this process."""
    sys.exit(run([*TRAINING, "--out", str(folder)]))


def sweep_warm(folder: Path) -> None:
    """``inna.experiments.compare``, in this process: the sweep of ``inna compare`` without the page at its end."""
    compare(SWEEP_TASK, CONTENDERS, folder=folder, **SWEEP)


def compare_warm(folder: Path) -> None:
    """``inna compare``, in this process."""
    sys.exit(run([*_compare(jobs=1), "--out", str(folder)]))


def training() -> Command:
    """A training run that writes a checkpoint after each epoch."""
    return Command("training run (inna train)", train_warm, ("moment", "write"))


def sweep_in_one_process() -> Command:
    """A sweep of three optimizers, 27 runs, in one process."""
    return Command("sweep, one process (inna.experiments.compare)", sweep_warm, ("moment", "write"))


def sweep_command_line() -> Command:
    """The same from the command line, with the page at the end."""
    return Command("sweep, one process (inna compare)", compare_warm, ("moment", "write"))


def sweep_in_two_processes() -> Command:
    """The same from the command line, with two workers, nothing imported beforehand."""
    return Command("sweep, two workers (inna compare)", _compare(jobs=2), ("moment", "write", "worker"))


def _compare(jobs: int) -> tuple[str, ...]:
    options = []
    for name, value in SWEEP.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        options += [f"--{name.replace('_', '-')}", text]
    contenders = [part for name in CONTENDERS for part in ("--optimizer", name)]
    return ("compare", "--task", SWEEP_TASK, *contenders, *options, "--jobs", str(jobs))


def kill_often(
    command: Command,
    kills: int,
    seed: int,
    report: Callable[[str], object] = lambda text: None,
    *,
    attempts: int = 3,
) -> Account:
    """Kill ``command`` ``kills`` times and see what is left; half at any moment, the rest as its kinds say.

    Undisturbed, it is carried out ``attempts`` times beforehand.
    """
    random_numbers = random.Random(seed)
    account = Account(
        fault=f"SIGKILL: {command.name}",
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
            shutil.rmtree(folder)
            report(f"{command.name}: {account.trials} of {kills} kills, {len(account.losses)} losses")
    account.extra = {
        "seed": seed,
        "duration_s": usual.duration,
        "completed": trial,
        "moments": histogram(moments),
        "files": len(usual.contents),
    }
    return account


def histogram(fractions: list[float]) -> list[int]:
    """How many of ``fractions`` (of the duration) lie in each of the bins; what is beyond is in the last."""
    counts = Counter(min(BINS - 1, int(BINS * fraction)) for fraction in fractions)
    return [counts[place] for place in range(BINS)]


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """A line for each file that is missing, damaged, different, or should not be there."""
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} was left behind" for name in found.keys() - expected.keys()]
    lines += [
        f"{name} is damaged" if found[name] is None else f"{name} differs"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    return sorted(lines)


def _plan(
    kinds: tuple[Kind, ...], kills: int, random_numbers: random.Random, usual: Undisturbed
) -> list[tuple[Kind, float]]:
    """(kind, seconds after the start), in random order: stratified over the duration, or the time of the writes."""
    shares = {kind: kills // 2 if kind == "moment" else kills // 2 // (len(kinds) - 1) for kind in kinds}
    shares["moment"] += kills - sum(shares.values())
    plan: list[tuple[Kind, float]] = []
    for kind, share in shares.items():
        begin, end = (0.0, usual.duration) if kind == "moment" else (usual.first_write, usual.last_write)
        plan += [(kind, begin + (end - begin) * (place + random_numbers.random()) / share) for place in range(share)]
    random_numbers.shuffle(plan)
    return plan


def _undisturbed(command: Command, place: Path, count: int) -> Undisturbed:
    """The median of ``count`` attempts, which must leave the same."""
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
        account.losses += [f"{command.name} lost {name}" for name in _lost(before, contents(folder))]
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
                target = process.pid if kind == "moment" or _temporaries(folder) - left else 0
            if target and kind == "worker":
                os.kill(target, signal.SIGKILL)
                return "one worker killed"
            if target:
                process.kill()
                process.wait()
                return "a write was cut off" if _temporaries(folder) - left else "no write was under way"
        time.sleep(0.0002 if kind == "write" else 0.002)
    raise TimeoutError(f"the command neither ended nor could be struck within {PATIENCE:.0f} s")


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


def contents(folder: Path) -> dict[str, Any]:
    """File name -> what it holds, timings aside, None where it is damaged; pages are left out."""
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("**/*")) if folder.exists() else ():
        if path.is_dir() or path.suffix == ".html" or path.parent.name == ".running":
            continue
        if path.name.endswith(".row.json"):
            found[path.name] = _row(path)
        elif path.suffix == ".checkpoint":
            found[path.name] = _checkpoint(path)
        else:
            found[path.name] = "present"
    return found


def _row(path: Path) -> Any:
    try:
        run, result = read_row(path)
    except DamagedRowError:
        return None
    return run, json.dumps(without_times(result))  # as text, in which NaN equals NaN


def _checkpoint(path: Path) -> Any:
    try:
        state = load_checkpoint(path)
    except DamagedCheckpointError:
        return None
    return json.dumps(without_times(state), default=_bits, sort_keys=True)


def _bits(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return [
            str(value.dtype),
            list(value.shape),
            value.contiguous().flatten().view(torch.uint8).numpy().tobytes().hex(),
        ]
    raise TypeError(type(value).__name__)


def _lost(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Rows and checkpoints that were whole before a kill and are gone or damaged after it."""
    return [
        name
        for name, content in before.items()
        if content is not None and name.endswith((".row.json", ".checkpoint")) and after.get(name) is None
    ]
