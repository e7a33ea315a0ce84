"""The commands that are disturbed, and how they are started, struck and awaited."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from faults.account import TASK, environment, inna_command
from inna.__main__ import main
from inna.experiments import compare
from waiting import PATIENCE
from warm_processes import warm_context

__all__ = [
    "SHORT_SWEEP",
    "Command",
    "Kind",
    "Started",
    "compare_arguments",
    "inna_warm",
    "short_sweep",
    "sweep_command_line",
    "sweep_in_one_process",
    "sweep_in_two_processes",
    "training",
]

# The last two are SIGTERM, to the command alone and to its workers too; the others are SIGKILL.
Kind = Literal["moment", "write", "worker", "terminate", "terminate all"]


class Started:
    """A process that leads a group of its own and writes its errors into a file."""

    def __init__(self, process: subprocess.Popen[bytes] | BaseProcess, errors: Path) -> None:
        self.process, self.pid, self._errors = process, process.pid or 0, errors

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def kill(self, signum: int = signal.SIGKILL) -> None:
        """Send a signal to the process and its workers."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            try:
                os.killpg(self.pid, signum)
            except ProcessLookupError:  # it leads no group yet
                os.kill(self.pid, signum)

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
        errors.unlink(missing_ok=True)  # a process that is killed at once leaves those of the one before
        if callable(self.work):
            process = warm_context().Process(target=_carry_out, args=(self.work, folder, errors))
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


TRAINING = ("train", "inna:alpha=.5,beta=.1", "--task", f"{TASK}:make_training_task", "--epochs")
SWEEP_TASK = f"{TASK}:make_sweep_task"
SWEEP: dict[str, Any] = {
    "optimizer": ("sgd", "inna", "adam"),
    "epochs": 12,
    "tuning_epochs": 6,
    "seeds": (1, 2),
    "grid": (0.01, 0.1),
}
# A dozen runs: for faults that need a command of their own each time.
SHORT_SWEEP = SWEEP | {"optimizer": ("sgd", "inna"), "epochs": 6, "tuning_epochs": 4, "schedules": (0.0,)}


def inna_warm(arguments: tuple[str, ...], folder: Path) -> None:
    """``inna`` with these arguments and ``--out folder``, in this process."""
    sys.argv = ["inna", *arguments, "--out", str(folder)]
    main()


def sweep_warm(folder: Path) -> None:
    """``inna.experiments.compare``, in this process: the sweep of ``inna compare`` without the page at its end."""
    options = {name: value for name, value in SWEEP.items() if name != "optimizer"}
    compare(SWEEP_TASK, optimizers=SWEEP["optimizer"], folder=folder, **options)


def training(kinds: tuple[Kind, ...] = ("moment", "write"), epochs: int = 20) -> Command:
    """A training run that writes a checkpoint after each epoch."""
    return Command("training run (inna train)", functools.partial(inna_warm, (*TRAINING, str(epochs))), kinds)


def sweep_in_one_process() -> Command:
    """A sweep of three optimizers, 27 runs, in one process."""
    return Command("sweep, one process (inna.experiments.compare)", sweep_warm, ("moment", "write"))


def sweep_command_line() -> Command:
    """The same from the command line, with the page at the end."""
    return Command(
        "sweep, one process (inna compare)",
        functools.partial(inna_warm, compare_arguments(SWEEP, jobs=1)),
        ("moment", "write"),
    )


def sweep_in_two_processes() -> Command:
    """The same from the command line, with two workers, nothing imported beforehand."""
    return Command("sweep, two workers (inna compare)", compare_arguments(SWEEP, jobs=2), ("moment", "write", "worker"))


def short_sweep(jobs: int, kinds: tuple[Kind, ...] = ("moment",)) -> Command:
    """A sweep of a dozen runs from the command line; with two workers nothing is imported beforehand."""
    arguments = compare_arguments(SHORT_SWEEP, jobs)
    if jobs == 1:
        return Command("short sweep, one process (inna compare)", functools.partial(inna_warm, arguments), kinds)
    return Command("short sweep, two workers (inna compare)", arguments, kinds)


def compare_arguments(sweep: dict[str, Any], jobs: int | None = None) -> tuple[str, ...]:
    """The arguments of a sweep for ``inna``."""
    options = [] if jobs is None else ["--jobs", str(jobs)]
    for name, value in sweep.items():
        if name == "optimizer":
            options += [part for each in value for part in ("--optimizer", each)]
        else:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            options += [f"--{name.replace('_', '-')}", text]
    return ("compare", "--task", SWEEP_TASK, *options)
