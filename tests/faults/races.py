"""Two sweeps that start on one folder at the same instant, and a folder that is deleted under a sweep."""

from __future__ import annotations

import functools
import random
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from faults.account import Account, complaint
from faults.commands import SHORT_SWEEP, Command, compare_arguments, inna_warm, short_sweep
from faults.contents import contents, differences
from inna.experiments.sweep.workers import store

__all__ = ["delete_often", "start_twice_often"]

# Four runs, so that many trials fit.
RACE = SHORT_SWEEP | {"epochs": 2, "tuning_epochs": 1, "seeds": (1,), "grid": (0.1,)}
HEAD_START = 0.6  # seconds until both have been forked


def start_twice_often(trials: int, report: Callable[[str], object] = lambda text: None) -> Account:
    """Start two sweeps on an empty folder at the same instant, ``trials`` times."""
    account = Account(
        fault="two sweeps of four runs started at the same instant on one folder (inna compare)",
        expected="one sweeps, the other is refused in one line or finds everything done; each run is done once",
    )
    with tempfile.TemporaryDirectory(prefix="inna-faults-") as place:
        usual = Path(place) / "usual"
        _finish(_at(0.0), usual)
        expected = contents(usual)
        for trial in range(trials):
            folder = Path(place) / f"trial{trial}" / "rows"
            folder.parent.mkdir()
            due = _at(time.monotonic() + HEAD_START)
            first, second = due.start(folder), due.start(folder.with_name("rows "))
            ends = [process.wait() for process in (first, second)]
            statuses = sorted(status for status, _ in ends)
            account.outcomes["both swept in turn" if statuses == [0, 0] else "one was refused in one line"] += 1
            losses = [
                unclear for status, errors in ends if status and (unclear := complaint(status, errors)) is not None
            ]
            if statuses[0] != 0:
                losses.append(f"neither swept: {ends}")
            if any(status and "a sweep is running on" not in errors for status, errors in ends):
                losses.append(f"refused for another reason: {ends}")
            written, rows = len(list((folder.parent / "written").iterdir())), len(list(folder.glob("*.row.json")))
            if written != rows:
                losses.append(f"{written} runs were done for {rows} rows")
            losses += differences(expected, contents(folder))
            account.losses += [f"trial {trial + 1}: {loss}" for loss in losses]
            shutil.rmtree(folder.parent)
            if trial % 10 == 9:
                report(f"two sweeps at once: {trial + 1} of {trials}, {len(account.losses)} losses")
    return account


def _at(instant: float) -> Command:
    return Command("sweep of four runs (inna compare)", functools.partial(_compare_at, instant), ("moment",))


def _compare_at(instant: float, folder: Path) -> None:
    """Begin a short sweep, without page and table, at an instant of the monotonic clock; mark each run that it does."""
    time.sleep(max(0.0, instant - time.monotonic() - 0.002))
    while time.monotonic() < instant:
        pass
    # Both write their errors beside a folder of their own, but sweep on the same one.
    folder = folder.with_name(folder.name.strip())
    marks = folder.with_name("written")
    marks.mkdir(exist_ok=True)

    def store_and_mark(*arguments: Any, **options: Any) -> None:
        (marks / secrets.token_hex(8)).touch()
        store(*arguments, **options)

    with (
        mock.patch("inna.experiments.sweep.workers.store", store_and_mark),
        mock.patch("inna.experiments.report.write.write_report", lambda folder: folder / "report.html"),
        mock.patch("inna.experiments.report.write.print_summary"),
    ):
        inna_warm(compare_arguments(RACE, jobs=1), folder)


def delete_often(trials: int, seed: int, report: Callable[[str], object] = lambda text: None) -> Account:
    """Delete the folder under a sweep, ``trials`` times; one in four has two workers and nothing imported."""
    random_numbers = random.Random(seed)
    account = Account(
        fault="the folder is deleted under a short sweep (inna compare)",
        expected="one line and status 1; the same command then ends as an undisturbed one",
    )
    commands = [short_sweep(jobs=1)] * 3 + [short_sweep(jobs=2)]
    with tempfile.TemporaryDirectory(prefix="inna-faults-") as place:
        usual = Path(place) / "usual"
        _finish(short_sweep(jobs=1), usual)
        expected = contents(usual)
        rows = sum(name.endswith(".row.json") for name in expected)
        for trial in range(trials):
            folder, command = Path(place) / f"trial{trial}", commands[trial % len(commands)]
            after = int(rows * (trial + random_numbers.random()) / trials)
            process = command.start(folder)
            while process.poll() is None and len(list(folder.glob("*.row.json"))) < after:
                time.sleep(0.001)
            time.sleep(random_numbers.random() / 20)
            struck = process.poll() is None
            _delete(folder)
            status, errors = process.wait()
            left = contents(folder)
            losses = []
            if not struck:
                outcome = "had just ended"
            elif status == 0:
                outcome = "all results were written"
                losses += [f"status 0, but {line}" for line in differences(expected, left)]
            else:
                outcome = "refused in one line"
                if unclear := complaint(status, errors):
                    losses.append(unclear)
                elif str(folder) not in errors:
                    losses.append(f"the message does not name the folder: {errors.strip()}")
            _finish(command, folder)
            losses += differences(expected, contents(folder))
            account.outcomes[outcome] += 1
            account.losses += [f"deleted after {after} rows, {command.name}: {loss}" for loss in losses]
            shutil.rmtree(folder)
            report(f"deleted folders: {trial + 1} of {trials}, {len(account.losses)} losses")
    account.extra = {"seed": seed}
    return account


def _delete(folder: Path) -> None:
    """Remove a folder into which somebody writes."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def _finish(command: Command, folder: Path) -> None:
    status, errors = command.start(folder).wait()
    if status != 0:
        raise RuntimeError(f"left alone, the {command.name} ended with status {status}: {errors}")
