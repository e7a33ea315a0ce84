"""The suite: tasks and protocol of a benchmark."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inna.checks import check_range, check_text, check_whole, did_you_mean
from inna.experiments.formatting import slug
from inna.experiments.rows.row_files import DamagedRowError, read_document
from inna.files import write_document

__all__ = ["DEFAULT_SUITE", "PROTOCOL", "QUICK_SUITE", "TRACKS", "Suite", "SuiteTask", "read_suite_file"]

# Raise it whenever tasks, budgets or searches change so that rows of before cannot be compared. Another optimizer
# changes no row of the others.
PROTOCOL = 1
TRACKS = ("tuned", "untuned")
MANIFEST = "benchmark.json"
_TASKS = "inna.experiments.benchmark.tasks"


@dataclass(frozen=True)
class SuiteTask:
    """A task of a suite, and the epochs that a run has.

    Attributes:
        name: in tables and names of folders, unique within the suite.
        task: a built-in data set, ``file.py:function`` or ``package.module:function``.
        epochs: of each run, tuning runs included, >= 1.
        model: which of a built-in data set's networks; "" for its first.
        batch_size: samples per mini-batch; None for 32, or the DataLoader's own.
        targets: measure -> the value to reach, such as ``{"train_loss": 0.1}``; of the embedded tasks those of
            `inna.experiments.benchmark.targets`.

    Raises:
        ValueError: a value is out of range.
    """

    name: str
    task: str
    epochs: int
    model: str = ""
    batch_size: int | None = None
    targets: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("name", "task", "model"):
            check_text(name, getattr(self, name))
        if not self.name or slug(self.name) != self.name:
            raise ValueError(f"a task's name must consist of letters, digits, dots and dashes, got {self.name!r}")
        if not self.task:
            raise ValueError(f"task {self.name} must give its task, such as my_task.py:make_task")
        check_whole("epochs", self.epochs, minimum=1)
        if self.batch_size is not None:
            check_whole("batch_size", self.batch_size, minimum=1)
        if not isinstance(self.targets, Mapping):
            raise ValueError(f"targets of task {self.name} must be measure = number, got {self.targets!r}")
        targets = {name: check_range(f"target {name}", value) for name, value in self.targets.items()}
        for name in targets:
            if not name.startswith(("train_", "test_")):
                raise ValueError(f"a target must be for train_loss, test_loss or test_<metric>, got {name!r}")
        object.__setattr__(self, "targets", targets)

    def folder(self, track: str) -> str:
        """Return the name of the folder of the task's results in a track."""
        return f"{self.name}-{track}"


@dataclass(frozen=True)
class Suite:
    """Tasks, and the protocol that all of them share.

    Attributes:
        tasks: the tasks, none twice.
        seeds: of the final runs.
        trials: of the search of each optimizer in the tuned track.
        tuning: what a search may take, in runs of full length; each optimizer has the same.
        quick: whether it is a part of the default suite with a smaller budget.

    Raises:
        ValueError: a value is out of range, or two tasks have the same name.
    """

    tasks: tuple[SuiteTask, ...]
    seeds: tuple[int, ...] = (1, 2, 3)
    trials: int = 8
    tuning: int = 12
    quick: bool = False

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"a suite must contain at least one task, none twice; got {', '.join(names) or 'none'}")
        for name in ("trials", "tuning"):
            check_whole(name, getattr(self, name), minimum=1)
        for seed in self.seeds:
            check_whole("seeds", seed, minimum=1)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must contain at least one seed, none twice; got {list(self.seeds)}")

    def protocol(self, task: SuiteTask, track: str, optimizers: int) -> dict[str, Any]:
        """Return the fields of the study of a task in a track that all optimizers share.

        Args:
            task: a task of the suite.
            track: "tuned" or "untuned".
            optimizers: how many the study compares; each has the same share of the budget.

        >>> suite = Suite((SuiteTask("sine", "sine.py:make_task", 20),))
        >>> suite.protocol(suite.tasks[0], "tuned", 2)["budget"]
        '600epochs'
        """
        tuned = track == "tuned"
        epochs = optimizers * (self.tuning + len(self.seeds)) * task.epochs
        return {
            "epochs": task.epochs,
            "tuning_epochs": task.epochs if tuned else 1,
            "seeds": self.seeds,
            "trials": self.trials if tuned else 0,
            "budget": f"{epochs}epochs" if tuned else "",
        }

    def save(self, folder: Path) -> None:
        """Write the suite into ``folder`` as benchmark.json, atomically."""
        write_document(folder / MANIFEST, {"protocol": PROTOCOL, "suite": dataclasses.asdict(self)})

    @classmethod
    def load(cls, folder: Path) -> Suite:
        """Read the suite of ``folder``.

        Raises:
            FileNotFoundError: there is no benchmark.json.
            DamagedRowError: it is damaged, or of another version of the protocol.
        """
        path = folder / MANIFEST
        try:
            document = read_document(path)
        except FileNotFoundError:
            raise FileNotFoundError(f"{folder}: no {MANIFEST} here; `inna benchmark` writes one") from None
        if document.get("protocol") != PROTOCOL:
            raise DamagedRowError(f"{path}: protocol {document.get('protocol')!r}; this inna has protocol {PROTOCOL}")
        try:
            return _suite(dict(document["suite"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedRowError(f"{path}: not a suite ({error})") from None


def read_suite_file(path: Path) -> Suite:
    """Read a suite from a TOML file.

    It has a table ``[[tasks]]`` for each task, with the attributes of `SuiteTask`, and may give those of `Suite`::

        seeds = [1, 2, 3]

        [[tasks]]
        name = "sine"
        task = "my_task.py:make_task"
        epochs = 20
        targets = { train_loss = 0.01 }

    Raises:
        ValueError: the file cannot be read, is no TOML, or has an unknown or invalid entry.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"suite {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"suite {path}: no TOML ({error})") from None
    try:
        return _suite(document)
    except (TypeError, ValueError) as error:
        raise ValueError(f"suite {path}: {error}") from None


def _suite(document: Mapping[str, Any]) -> Suite:
    _check_names(document, Suite, "the suite")
    tasks = document.get("tasks", ())
    if not isinstance(tasks, Sequence) or not all(isinstance(task, Mapping) for task in tasks):
        raise ValueError("tasks must be tables, each beginning with [[tasks]]")
    for task in tasks:
        _check_names(task, SuiteTask, "a task")
    parts: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items()
    }
    return Suite(**(parts | {"tasks": tuple(SuiteTask(**task) for task in tasks)}))


def _check_names(given: Mapping[str, Any], kind: type, what: str) -> None:
    known = [each.name for each in dataclasses.fields(kind)]
    for name in given:
        if name not in known:
            raise ValueError(f"{what} has no {name!r}; it has {', '.join(known)}{did_you_mean(name, known)}")
    for each in dataclasses.fields(kind):
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and each.name not in given:
            raise ValueError(f"{what} needs {each.name}")


DEFAULT_SUITE = Suite(
    (
        SuiteTask("breast-cancer", f"{_TASKS}.tables:breast_cancer", 30),
        SuiteTask("diabetes", f"{_TASKS}.tables:diabetes", 40),
        SuiteTask("poisson", f"{_TASKS}.physics:poisson", 30),
        SuiteTask("digits-autoencoder", f"{_TASKS}.digits:autoencoder", 15),
        SuiteTask("digits-cnn", f"{_TASKS}.digits:cnn", 12),
        SuiteTask("gpt", f"{_TASKS}.text:gpt", 8),
    )
)
# 420 seconds of CPU time in all on a busy machine, with the untuned track.
QUICK_SUITE = dataclasses.replace(
    DEFAULT_SUITE, tasks=DEFAULT_SUITE.tasks[:3], seeds=(1,), trials=4, tuning=6, quick=True
)
