"""Tasks on images, for machines that have the data."""

from __future__ import annotations

from inna.experiments.benchmark.suite import SuiteTask
from inna.experiments.tasks.local_files import missing_files

__all__ = ["IMAGES", "image_tasks"]

IMAGES = (
    SuiteTask("mnist", "mnist[:5000]", 8, "lenet5"),
    SuiteTask("fashion-mnist", "fashion-mnist[:5000]", 8, "lenet5"),
    SuiteTask("cifar10", "inna.experiments.benchmark.tasks.images:cifar10", 8),
)


def image_tasks() -> list[SuiteTask]:
    """Return the tasks of `IMAGES` whose data are in the data folder.

    Raises:
        ValueError: there are none.
    """
    found = [task for task in IMAGES if not missing_files(task.name)]
    if not found:
        raise ValueError(
            "none of mnist, fashion-mnist and cifar10 is in the data folder; `inna datasets NAME` says more"
        )
    return found
