"""The main job: a fair comparison of optimizers on one task, from a handful of names to the rows.

Protocol (the paper's section 5.2.1, and what a fair benchmark adds): every contender starts from the same weights and
sees the data in the same order at a given seed; its gamma_0 has the least training loss after the tuning epochs on a
seed that takes no part in the final runs; test data chooses nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inna.experiments.rows.row_files import load_rows
from inna.experiments.rows.run import Run
from inna.experiments.study.study import (
    EPOCHS,
    HALF_DECADES,
    SCHEDULES,
    SEEDS,
    TUNING_EPOCHS,
    TUNING_SEED,
    Contender,
    Study,
)
from inna.experiments.sweep.sweep import Progress, raised, sweep
from inna.experiments.tasks.fingerprint import fingerprint
from inna.experiments.tasks.load import check_model, load_task
from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.tasks.task import Task
from inna.experiments.training import optimizers
from inna.experiments.training.devices import PRECISIONS, resolve_device
from inna.experiments.training.optimizers import parse

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "DEFAULT_OPTIMIZERS",
    "compare",
    "contender",
    "make_run",
    "make_study",
]

# The paper's four settings of INNA. At a constant gamma = beta INNA is a heavy ball; no half-decade is 1/2, so
# whatever the tuning chooses, (0.5, 0.5) is none.
DEFAULT_OPTIMIZERS = (
    "inna:alpha=.1,beta=.1",
    "inna:alpha=.5,beta=.1",
    "inna:alpha=.5,beta=.5",
    "inna:alpha=.5,beta=1",
    "sgd",
    "heavy-ball",
    "adagrad",
    "adam",
)
REFERENCE = "SGD"
BATCH_SIZE = 32


def make_study(
    task: Task | str = "digits",
    optimizers: Sequence[str | Contender] = DEFAULT_OPTIMIZERS,
    *,
    model: str = "",
    epochs: int = EPOCHS,
    tuning_epochs: int = TUNING_EPOCHS,
    seeds: Sequence[int] = SEEDS,
    tuning_seed: int = TUNING_SEED,
    grid: Sequence[float] = HALF_DECADES,
    schedules: Sequence[float] = SCHEDULES,
    batch_size: int | None = None,
    reference: str | None = None,
    budget: str = "",
    device: str = "cpu",
    precision: str = "float32",
    command: str = "",
) -> Study:
    """The study of these optimizers on this task, tried out so far that its runs can start.

    Every optimizer is tuned over the same grid and the same schedules, the adaptive ones too: a contender that may
    choose between constant and decaying steps has twice the chances of one that may not, so the budget of tuning is
    made equal.

    Args:
        task: a `Task`, or a name that `load_task` understands.
        optimizers: specifications such as "inna:alpha=.5,beta=.1", or contenders.
        model: which of a built-in task's networks; empty for its first.
        epochs: of the final runs, >= 1.
        tuning_epochs: of the tuning runs, >= 1.
        seeds: of the final runs; `tuning_seed` is none of them.
        tuning_seed: of the tuning runs.
        grid: values of gamma_0, > 0; a best value on its edge extends it by half-decades.
        schedules: powers q >= 0 of the decay gamma_0 (k + 1)^-q over iterations.
        batch_size: >= 1, by default 32; a task's DataLoader has its own.
        reference: label or specification of the contender that others are compared with; by default SGD, or the
            first one.
        budget: "20m", "200runs" or "3000epochs" for all together, shared equally; "" for no limit.
        device: "cpu", "cuda", "cuda:1", or "auto".
        precision: "float32", "float64", or "bfloat16" for the layers, with weights, loss and optimizer in float32.
        command: the command line, for the report.

    Raises:
        ValueError: a value is out of range, or a name is unknown, or the parts do not fit; one line says which.
    """
    found, name, source = _identify(task, model)
    contenders = tuple(
        entry if isinstance(entry, Contender) else _contender(entry, grid, schedules) for entry in optimizers
    )
    if not contenders:
        raise ValueError("optimizers must name at least one")
    study = Study(
        dataset=name,
        model=found.model_name,
        contenders=contenders,
        reference=_reference(reference, contenders),
        tuning_epochs=tuning_epochs,
        epochs=epochs,
        seeds=tuple(seeds),
        tuning_seed=tuning_seed,
        batch_size=_batch_size(found, batch_size),
        device=str(resolve_device(device)),
        precision=_precision(precision),
        source=source,
        metrics=found.measures,
        command=command,
        budget=budget,
    )
    found.check()
    for entry in contenders:
        _try(study.tuning_run(entry, entry.grid[0], entry.qs[0]), found, entry.label)
    return study


def make_run(
    optimizer: str = "inna",
    task: str = "digits",
    *,
    model: str = "",
    lr: float | None = None,
    q: float = 0.0,
    epochs: int = 15,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "cpu",
    precision: str = "float32",
) -> Run:
    """A single run, tried out so far that it can start; arguments as in `make_study`.

    Args:
        lr: gamma_0 > 0; by default the optimizer's own.

    Raises:
        ValueError: as in `make_study`.
    """
    found, name, source = _identify(task, model)
    specification = optimizers.parse(optimizer)
    run = Run(
        dataset=name,
        model=found.model_name,
        optimizer=specification.name,
        lr=optimizers.default_lr(specification) if lr is None else lr,
        alpha=specification.alpha,
        beta=specification.beta,
        q=q,
        settings=specification.settings,
        batch_size=_batch_size(found, batch_size),
        epochs=epochs,
        seed=seed,
        device=str(resolve_device(device)),
        precision=_precision(precision),
        source=source,
    )
    found.check()
    _try(run, found, specification.label)
    return run


def compare(
    task: Task | str = "digits",
    optimizers: Sequence[str | Contender] = DEFAULT_OPTIMIZERS,
    *,
    model: str = "",
    budget: str = "",
    epochs: int = EPOCHS,
    tuning_epochs: int = TUNING_EPOCHS,
    seeds: Sequence[int] = SEEDS,
    tuning_seed: int = TUNING_SEED,
    grid: Sequence[float] = HALF_DECADES,
    schedules: Sequence[float] = SCHEDULES,
    batch_size: int | None = None,
    reference: str | None = None,
    device: str = "cpu",
    precision: str = "float32",
    folder: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Compare optimizers on a task and return the rows, one a run; arguments as in `make_study`, and:

    Args:
        folder: where rows are kept, so that a second call goes on where the first was; None keeps none.
        jobs: processes that run at once, >= 1.
        progress: told what happens, such as ``inna.experiments.sweep.progress.watching(console)``.

    Raises:
        ValueError: as in `make_study`.
        SweepError: a run raised (the others are done and their rows kept), or the sweep could not go on.

    >>> rows = compare("digits", ["sgd", "adam"], epochs=1, tuning_epochs=1, seeds=[1], grid=[0.01], schedules=[0])
    >>> rows[["optimizer", "lr", "seed", "status"]].values.tolist()[0]
    ['adam', 0.01, 0, 'done']
    """
    study = make_study(
        task,
        optimizers,
        model=model,
        epochs=epochs,
        tuning_epochs=tuning_epochs,
        seeds=seeds,
        tuning_seed=tuning_seed,
        grid=grid,
        schedules=schedules,
        batch_size=batch_size,
        reference=reference,
        budget=budget,
        device=device,
        precision=precision,
    )
    own = task if isinstance(task, Task) else None
    if folder is not None:
        return _rows(study, Path(folder), own, jobs, progress)
    with tempfile.TemporaryDirectory(prefix="inna-") as place:
        return _rows(study, Path(place), own, jobs, progress)


def _rows(study: Study, folder: Path, task: Task | None, jobs: int, progress: Progress | None) -> pd.DataFrame:
    _, failures = sweep(study, folder, task=task, jobs=jobs, progress=progress)
    if failures:
        raise raised(failures)
    return load_rows(folder)


def _identify(task: Task | str, model: str) -> tuple[Task, str, str]:
    if isinstance(task, Task):
        check_model(task, model)
        return task, task.name, fingerprint(task)
    found, source = load_task(task, model=model)
    return found, task, source


def _contender(text: str, grid: Collection[float], schedules: Collection[float]) -> Contender:
    return contender(text, grid, schedules)


def _reference(wanted: str | None, contenders: Sequence[Contender]) -> str:
    labels = [contender.label for contender in contenders]
    if wanted is None:
        return REFERENCE if REFERENCE in labels else labels[0]
    if wanted in labels:
        return wanted
    label = optimizers.parse(wanted).label
    if label not in labels:
        raise ValueError(f"reference must be one of {', '.join(labels)}; got {wanted!r}")
    return label


def _batch_size(task: Task, wanted: int | None) -> int:
    own = task.loader_batch_size
    if own is None:
        return BATCH_SIZE if wanted is None else _positive(wanted)
    if wanted is not None and wanted != own:
        raise ValueError(f"batch_size: the DataLoader of task {task.name} has its own, {own}; got {wanted}")
    return own


def _positive(batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"batch_size must be a whole number >= 1, got {batch_size}")
    return batch_size


def _precision(name: str) -> str:
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    return name


def _try(run: Run, task: Task, label: str) -> None:
    with isolated(derive(run.seed, "try")):
        network = task.model()
    try:
        optimizers.build(run, network)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{label}: {next(iter(str(error).splitlines()), '')}") from error


def contender(text: str, grid: Iterable[float] = HALF_DECADES, schedules: Iterable[float] = SCHEDULES) -> Contender:
    """The contender that a specification describes.

    >>> contender("inna:alpha=.5,beta=1").label
    'INNA (0.5, 1)'
    """
    spec = parse(text)
    return Contender(
        spec.label, spec.name, spec.alpha, spec.beta, spec.settings, tuple(sorted(grid)), tuple(sorted(schedules))
    )
