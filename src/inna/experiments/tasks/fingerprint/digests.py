"""The fingerprints of a task and of an optimizer's class."""

from __future__ import annotations

from types import ModuleType

import torch

from inna.experiments.tasks.exits import ExitGuard
from inna.experiments.tasks.fingerprint.walk import RefusedError, Walk
from inna.experiments.tasks.packages import is_own
from inna.experiments.tasks.seeds import THREADS, derive, isolated, threads
from inna.experiments.tasks.task import Task, describe_error

__all__ = ["SCHEME", "fingerprint", "fingerprint_and_modules", "fingerprint_class"]

# It is the beginning of each fingerprint. Before the scheme had a name, a fingerprint was 64 digits.
SCHEME = "v3:"


def fingerprint(task: Task) -> str:
    """Return a digest of everything that a task consists of.

    It covers the data, the network that ``model()`` makes, and whatever the functions can reach: their code, default
    arguments, closures and attributes, the state of their objects, and the globals that they use, through the user's
    own modules. Installed packages count by name and version. It is the same in every process of one Python version.

    Raises:
        ValueError: a part has no fingerprint, such as an open file, a generator or a lock, and the task has no version;
            or the network cannot be made.
    """
    return fingerprint_and_modules(task)[0]


def fingerprint_and_modules(task: Task, source: str = "") -> tuple[str, list[ModuleType]]:
    """Return the `fingerprint` of a task, and the user's own modules in it.

    Args:
        task: the task.
        source: the digest of the file that defines it, which becomes part of the fingerprint.
    """
    walk = Walk(task.version)
    header = (task.name, task.model_name, tuple(task.measures), task.channels_last, task.version, source)
    try:
        walk.visit(header, "task")
        walk.visit(task.model, "model")
        try:
            with ExitGuard(), threads(THREADS), isolated(derive(0, "fingerprint")):
                network = task.model()
        except Exception as error:
            raise ValueError(f"task {task.name}: its model cannot be made: {describe_error(error)}") from error
        walk.visit(network, "model()")
        walk.visit(task.loss, "loss")
        for name, (function, _) in task.metrics.items():
            walk.visit(function, f"metrics[{name!r}]")
        walk.visit(task.train, "train")
        walk.visit(task.test, "test")
        walk.visit_held_modules()
    except RefusedError as error:
        raise ValueError(
            f"task {task.name}: {error}; give the task a version, as in Task(..., version='1'), which stands for this "
            "part, and another one whenever it changes"
        ) from None
    return SCHEME + walk.digest(), [*walk.modules.values()]


def fingerprint_class(optimizer: type[torch.optim.Optimizer]) -> str:
    """Return the digest of an optimizer's class.

    Its own code, or the name and version of its package.

    It is empty for classes of torch and inna, whose versions every row contains.

    Raises:
        ValueError: a part has no fingerprint.
    """
    if optimizer.__module__.partition(".")[0] in ("inna", "torch") and not is_own(optimizer.__module__):
        return ""
    version = getattr(optimizer, "version", "")
    walk = Walk(version if isinstance(version, str) else "")
    try:
        walk.visit(optimizer, optimizer.__name__)
        walk.visit_held_modules()
    except RefusedError as error:
        raise ValueError(
            f"optimizer {error}; give the class an attribute version = '1', which stands for this part, and another "
            "one whenever it changes"
        ) from None
    return SCHEME + walk.digest()
