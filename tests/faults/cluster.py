"""SIGKILL of a Dask worker, and of the scheduler, while a sweep runs on the cluster.

After a worker is killed, the sweep must end by itself on the other workers. After the scheduler is killed, it must end
with one line; on a new cluster the same command must end as an undisturbed one.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from faults.account import Account, complaint, environment
from faults.commands import SHORT_SWEEP, Command, compare_arguments
from faults.contents import contents, differences
from waiting import PATIENCE

__all__ = ["Target", "kill_in_clusters"]

WORKERS = 2
Target = Literal["worker", "scheduler"]


class Cluster:
    """A Dask scheduler and its workers, each a process without a nanny; they share no folder with the sweep."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.workers: list[subprocess.Popen[bytes]] = []
        file = place / "scheduler.json"
        self.scheduler = self._start(
            "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)
        )
        deadline = time.monotonic() + PATIENCE
        while not file.exists():
            if time.monotonic() > deadline or self.scheduler.poll() is not None:
                raise TimeoutError("the Dask scheduler did not start")
            time.sleep(0.05)
        self.address: str = json.loads(file.read_text(encoding="utf-8"))["address"]
        for _ in range(WORKERS):
            self.add_worker()

    def add_worker(self) -> None:
        """Start one more worker."""
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(self.place))
        self.workers.append(self._start("dask_worker", self.address, *options))

    def kill(self, target: Target) -> None:
        """Kill the scheduler, or the worker that was started first, which is replaced."""
        victim = self.scheduler if target == "scheduler" else self.workers.pop(0)
        os.kill(victim.pid, signal.SIGKILL)
        victim.wait()
        if target == "worker":
            self.add_worker()

    def close(self) -> None:
        """Kill what is left."""
        for process in (self.scheduler, *self.workers):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()

    def _start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{program}", *arguments],
            env=environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@contextlib.contextmanager
def _cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="inna-faults-dask-") as place:
        cluster = Cluster(Path(place))
        try:
            yield cluster
        finally:
            cluster.close()


def kill_in_clusters(
    target: Target, trials: int, seed: int, report: Callable[[str], object] = lambda text: None
) -> Account:
    """Kill ``target`` in mid-sweep ``trials`` times, at moments spread over the runs of the sweep."""
    random_numbers = random.Random(seed)
    account = Account(
        fault=f"SIGKILL of a Dask {target}: short sweep on two workers (inna compare)",
        expected="the sweep ends by itself as an undisturbed one"
        if target == "worker"
        else "one line and status 1; on a new cluster, the same command ends as an undisturbed one",
    )
    with tempfile.TemporaryDirectory(prefix="inna-faults-") as place:
        usual = Path(place) / "usual"
        with _cluster() as cluster:
            status, errors = _sweep(cluster).start(usual).wait()
        if status != 0:
            raise RuntimeError(f"undisturbed, the sweep on a cluster ended with status {status}: {errors}")
        expected = contents(usual)
        rows = sum(name.endswith(".row.json") for name in expected)
        for trial in range(trials):
            # After that many rows, and a moment more: in the middle of a run.
            after = int(rows * (trial + random_numbers.random()) / trials)
            outcome, losses = _try(target, Path(place) / f"trial{trial}", after, random_numbers.random() / 10, expected)
            account.outcomes[outcome] += 1
            account.losses += [f"{target} killed after {after} rows: {loss}" for loss in losses]
            report(f"Dask {target}: {trial + 1} of {trials} kills, {len(account.losses)} losses")
    account.extra = {"seed": seed, "files": len(expected)}
    return account


def _sweep(cluster: Cluster) -> Command:
    arguments = (*compare_arguments(SHORT_SWEEP), "--backend", "dask", "--scheduler", cluster.address)
    return Command("sweep on a Dask cluster", arguments, ("moment",))


def _try(target: Target, folder: Path, after: int, wait: float, expected: dict[str, Any]) -> tuple[str, list[str]]:
    """Kill ``target`` once ``folder`` has more than ``after`` rows; the outcome and the losses."""
    losses: list[str] = []
    with _cluster() as cluster:
        process = _sweep(cluster).start(folder)
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and len(list(folder.glob("*.row.json"))) <= after:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the sweep made no more than {after} rows")
            time.sleep(0.01)
        time.sleep(wait)
        struck = process.poll() is None
        cluster.kill(target)
        status, errors = process.wait()
    unfinished = [name for name, content in contents(folder).items() if content is None]
    losses += [f"{name} is damaged" for name in unfinished]
    if target == "worker" or not struck:
        outcome = "ended by itself" if struck else "had just ended"
        if status != 0:
            losses.append(f"the sweep ended with status {status}: {errors.strip()}")
    else:
        outcome = "refused in one line" if status else "had all results"
        if status and (unclear := complaint(status, errors)):
            losses.append(unclear)
        with _cluster() as cluster:
            status, errors = _sweep(cluster).start(folder).wait()
        if status != 0:
            losses.append(f"on a new cluster the sweep ended with status {status}: {errors.strip()}")
    return outcome, losses + differences(expected, contents(folder))
