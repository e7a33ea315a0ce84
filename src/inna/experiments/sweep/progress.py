"""Show the progress of runs: live on a terminal, in a few lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from inna.experiments.formatting import count, duration, print_line, printable
from inna.experiments.rows.results import divergence_sentence
from inna.experiments.rows.run import Run, describe
from inna.experiments.study.remaining import Outlook
from inna.experiments.study.study import Study
from inna.experiments.sweep.active_runs import read_active_runs

__all__ = ["LiveProgress", "PlainProgress", "TrainingProgress", "make_progress", "outcome"]

PLAIN_LINES = 10  # of progress in a whole sweep or run, where the output is no terminal


def make_progress(console: Console) -> LiveProgress | PlainProgress:
    """Return a `Progress` that suits ``console``; it is a context manager too."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


def outcome(result: Mapping[str, Any]) -> list[str]:
    """Return a result as a few lines: its measurements, or how it diverged."""
    if result["status"] == "done":
        measured = [name for name in result if name == "train_loss" or name.startswith("test_")]
        lines = [", ".join(f"{name.replace('_', ' ')} {result[name]:.4g}" for name in measured)]
    else:
        lines = [f"diverged. {divergence_sentence(result)}"]
    pace = f"{result['seconds_per_epoch']:.3g} s per epoch" if len(result["history"]) > 1 else "no epoch finished"
    return [*lines, f"{pace}, {result['state_bytes_per_parameter']:.3g} bytes of optimizer state per parameter"]


class _Pace:
    """Estimates the time left from the epochs done since the first run started."""

    def __init__(self, outlook: Outlook) -> None:
        self.started = math.nan
        self.outlook, self.before = outlook, outlook.epochs_done

    def advance(self, result: Mapping[str, Any], outlook: Outlook) -> None:
        if math.isnan(self.started):  # the seconds that processes take to start do not count
            self.started = time.monotonic() - result["seconds"]
        self.outlook = outlook

    def seconds_left(self, active: int = 0) -> float:
        epochs = self.outlook.epochs_done - self.before + active
        elapsed = time.monotonic() - self.started
        return max(0, self.outlook.epochs_left - active) * elapsed / epochs if epochs else math.nan


class PlainProgress:
    """Prints a line at the start, about ten on the way, and the notes."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.pace = _Pace(Outlook(0, 0, 0, 0))
        self.before, self.lines = 0, 0

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None:
        """Print what there is to do."""
        self.pace, self.before, self.lines = _Pace(outlook), outlook.done, 0
        print_line(self.console, _headline(study, folder, outlook))

    def finished(self, label: str, run: Run, result: Mapping[str, Any], outlook: Outlook) -> None:
        """Print the progress at every tenth of the way."""
        self.pace.advance(result, outlook)
        done = outlook.done - self.before
        lines = PLAIN_LINES * done // (done + outlook.left)
        if lines > self.lines:
            self.lines = lines
            left = f", {duration(self.pace.seconds_left())} left" if outlook.left else ""
            print_line(
                self.console,
                f"{outlook.done} of {outlook.done + outlook.left} runs done{left}; {_outcome(label, run, result)}",
            )

    def note(self, text: str) -> None:
        """Print a line."""
        print_line(self.console, text)


class LiveProgress:
    """Shows runs done, time left and active runs, four times a second."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.folder = Path()
        self.last = ""
        self.pace = _Pace(Outlook(0, 0, 0, 0))
        self.live = Live(
            console=console, get_renderable=self._render, refresh_per_second=4, transient=True, redirect_stderr=True
        )

    def __enter__(self) -> LiveProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def begin(self, study: Study, folder: Path, outlook: Outlook) -> None:
        """Print what there is to do, and start the display."""
        self.folder, self.pace = folder, _Pace(outlook)
        print_line(self.console, _headline(study, folder, outlook))
        self.live.start()

    def finished(self, label: str, run: Run, result: Mapping[str, Any], outlook: Outlook) -> None:
        """Show the new state."""
        self.pace.advance(result, outlook)
        self.last = _outcome(label, run, result)

    def note(self, text: str) -> None:
        """Print a line above the display."""
        print_line(self.console, text)

    def _render(self) -> RenderableType:
        outlook, states = self.pace.outlook, read_active_runs(self.folder)
        seconds = self.pace.seconds_left(sum(state.epoch for state in states))
        left = f"{duration(seconds)} left" if math.isfinite(seconds) else "starting"
        line = Table.grid(padding=(0, 2))
        line.add_row(
            ProgressBar(total=max(1, outlook.done + outlook.left), completed=outlook.done, width=30),
            Text(f"{outlook.done} of {outlook.done + outlook.left} runs"),
            Text(left if outlook.left else "done"),
        )
        runs = Table.grid(padding=(0, 2))
        for state in states:
            loss = "" if state.train_loss is None else f"loss {state.train_loss:.4g}"
            text = printable(f"  {state.text}", self.console)
            runs.add_row(text, Text(f"epoch {state.epoch}/{state.epochs}"), Text(loss))
        last = printable(f"  last: {self.last}" if self.last else "", self.console)
        last.stylize("dim")
        return Group(line, runs, last)


class TrainingProgress:
    """Shows the progress of one run: a bar on a terminal, about ten lines elsewhere."""

    def __init__(self, console: Console, run: Run) -> None:
        self.console, self.run = console, run
        self.started, self.first = time.monotonic(), -1
        self.entry: dict[str, Any] = {}
        self.live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> TrainingProgress:
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def __call__(self, entry: dict[str, Any]) -> None:
        """Show the newest entry of the history."""
        self.entry = entry
        if self.first < 0:
            self.first, self.started = entry["epoch"], time.monotonic()
        every = max(1, self.run.epochs // PLAIN_LINES)
        if not self.console.is_terminal and (entry["epoch"] % every == 0 or entry["epoch"] == self.run.epochs):
            print_line(self.console, self._line())

    def note(self, text: str) -> None:
        """Print a line."""
        print_line(self.console, text)

    def _line(self) -> str:
        measured = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in self.entry.items() if "_" in name]
        return f"epoch {self.entry['epoch']}/{self.run.epochs}: {', '.join(measured)}{self._left()}"

    def _left(self) -> str:
        done, left = self.entry["epoch"] - self.first, self.run.epochs - self.entry["epoch"]
        elapsed = time.monotonic() - self.started
        return f", {duration(elapsed / done * left)} left" if done and left else ""

    def _render(self) -> RenderableType:
        if not self.entry:
            return Text("starting")
        line = Table.grid(padding=(0, 2))
        done = ProgressBar(total=self.run.epochs, completed=self.entry["epoch"], width=30)
        line.add_row(done, printable(self._line(), self.console))
        return line


def _headline(study: Study, folder: Path, outlook: Outlook) -> str:
    optimizers, done = count(len(study.contenders), "optimizer"), count(outlook.done, "run")
    return f"{study.dataset}: {optimizers}, {done} done, {outlook.left} to do, results in {folder}"


def _outcome(label: str, run: Run, result: Mapping[str, Any]) -> str:
    loss = f"loss {result['train_loss']:.4g}" if result["status"] == "done" else "diverged"
    return f"{describe(run, label)}: {loss}"
