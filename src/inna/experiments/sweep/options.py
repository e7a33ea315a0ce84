"""The options of a sweep: how many runs at once, where, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from inna.checks import check_range, check_whole
from inna.experiments.training.tensorboard import check_tensorboard

__all__ = ["LogOptions", "SweepOptions"]


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """The place where runs are logged.

    Attributes:
        tensorboard: Also log the curves of each run into this folder, for TensorBoard. [default: no logs]
    """

    tensorboard: Path | None = None

    def check(self) -> None:
        """Check that the logs can be written.

        Raises:
            ValueError: the package tensorboard is not installed.
        """
        check_tensorboard(self.tensorboard)


@dataclass(frozen=True, kw_only=True)
class SweepOptions(LogOptions):
    """The number of runs at once, their place, and the time they may take.

    Attributes:
        jobs: Runs at once, >= 1. [default: one per core; 1 on a GPU]
        backend: local runs processes on this machine, dask uses the workers of a Dask cluster.
        scheduler: Address of the Dask scheduler for --backend dask, such as tcp://10.0.0.1:8786. Start workers with one
            thread each. They need the same version of inna and their own copy of a built-in data set, but no common
            folder. [default: none]
        minutes: Stop after this many minutes. Active runs finish their epoch and leave a checkpoint. Run the same
            command to resume. [default: no limit]
    """

    jobs: int | None = None
    backend: Literal["local", "dask"] = "local"
    scheduler: str | None = None
    minutes: float | None = None

    def check(self) -> None:
        """Check the values and that they fit together.

        Raises:
            ValueError: a value is out of range, an option is missing or does not go with another, or a package that it
                needs is not installed.
        """
        if self.jobs is not None:
            check_whole("jobs", self.jobs, minimum=1)
        if self.minutes is not None:
            check_range("minutes", self.minutes, minimum=0.0, exclusive=True)
        if self.backend == "local" and self.scheduler is not None:
            raise ValueError("--scheduler goes with --backend dask")
        if self.backend == "dask":
            if self.scheduler is None:
                raise ValueError("--backend dask needs --scheduler ADDRESS, such as tcp://10.0.0.1:8786")
            if self.jobs is not None:
                raise ValueError("--jobs is for processes on this machine; a Dask cluster does one run per worker")
            if find_spec("distributed") is None:
                raise ValueError("--backend dask needs the package distributed: pip install 'inna[dask]'")
        super().check()

    def processes(self, device: str) -> int:
        """Return the runs at once on ``device``: `jobs`, one per core, or one on a GPU."""
        from inna.experiments.training.hardware import cores

        return self.jobs or (cores() if device == "cpu" else 1)
