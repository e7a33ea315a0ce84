"""Log the curves of a run for TensorBoard, during the run."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inna.experiments.rows.row_files import trajectory_name
from inna.experiments.rows.run import Run
from inna.files import check_folder

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["EventLog", "check_tensorboard"]


def check_tensorboard(folder: Path | None) -> None:
    """Check that logs can be written into ``folder``; None is always right.

    Raises:
        ValueError: the package tensorboard is not installed, or the folder cannot be made.
    """
    if folder is not None and find_spec("tensorboard") is None:
        raise ValueError("--tensorboard needs the package tensorboard: pip install 'inna[tensorboard]'")
    if folder is not None:
        check_folder(folder)


class EventLog:
    """Logs a run into its own folder under ``folder``, if any; a context manager.

    Over epochs: loss/train, loss/test, test/<metric>, learning rate (γ at the last iteration), seconds (of training).
    A guarded INNA also has guard/share of steps and guard/learning rate (of the last step, after the guard).
    A run that is resumed from a checkpoint continues its log there; entries after the checkpoint are replaced.
    """

    def __init__(self, folder: Path | None, run: Run) -> None:
        self.folder = None if folder is None else folder / trajectory_name(run)
        self.writer: SummaryWriter | None = None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.writer is not None:
            self.writer.close()

    def update(self, entry: dict[str, Any]) -> None:
        """Log an entry of the run's history.

        Raises:
            OSError: the folder cannot be written.
        """
        if self.folder is None:
            return
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.folder), purge_step=entry["epoch"])
        for name, value in entry.items():
            if name != "epoch" and math.isfinite(value):
                self.writer.add_scalar(_tag(name), value, entry["epoch"])


def _tag(name: str) -> str:
    named = {
        "train_loss": "loss/train",
        "test_loss": "loss/test",
        "lr": "learning rate",
        "guarded_share": "guard/share of steps",
        "last_lr": "guard/learning rate",
    }
    return named.get(name, name.replace("test_", "test/", 1))
