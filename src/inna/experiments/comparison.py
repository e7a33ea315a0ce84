"""Compare optimizers fairly on one task, from their names to the rows.

Every optimizer starts from the same weights and sees the data in the same order at a given seed. Its learning rate
(γ), schedule and further settings are those with the least training loss that a search finds
(`inna.experiments.study.halving`), on seeds that are kept out of the final runs; or those of a grid, as in the paper's
section 5.2.1. Test data choose nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inna.checks import check_whole, did_you_mean
from inna.experiments.formatting import enumerate_words
from inna.experiments.report.comparison_result import Comparison
from inna.experiments.rows.row_files import load_rows
from inna.experiments.rows.run import Run, Schedule, check_schedule
from inna.experiments.statistics.read import open_results
from inna.experiments.study.optimizer_names import DEFAULT_OPTIMIZERS, NAMED, UNKNOWN_SPACE, Tuned, parse_tuned, split
from inna.experiments.study.options import RunOptions, StudyOptions, accepts
from inna.experiments.study.search_space import LEARNING_RATE, Dimension
from inna.experiments.study.seed_looks import parse_seeds
from inna.experiments.study.study import HALF_DECADES, SCHEDULES, Contender, Study, schedule_order
from inna.experiments.study.tuning import state
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.sweep.sweep import Progress, failure_error, sweep
from inna.experiments.tasks.exits import ExitGuard
from inna.experiments.tasks.fingerprint import fingerprint
from inna.experiments.tasks.load import check_model, load_task
from inna.experiments.tasks.seeds import derive, isolated
from inna.experiments.tasks.task import Data, Metrics, Task, describe_error
from inna.experiments.training import optimizers as named
from inna.experiments.training.devices import PRECISIONS, resolve_device

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "DEFAULT_OPTIMIZERS",
    "Comparison",
    "compare",
    "contender",
    "make_run",
    "make_study",
]

REFERENCE = "SGD"


@accepts(StudyOptions)
def compare(
    task: Task | str | Callable[[], nn.Module] = "digits",
    train: Data | None = None,
    test: Data | None = None,
    loss: Callable[[Any, Any], Tensor] | None = None,
    *,
    metrics: Metrics | None = None,
    name: str = "task",
    optimizers: Sequence[str | Contender] = DEFAULT_OPTIMIZERS,
    model: str = "",
    folder: str | Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    **options: Any,
) -> Comparison:
    """Compare optimizers on a network and data of your own, or on a task.

    Args:
        task: a function without arguments that returns the network; or a `Task`, or the name of one, such as "digits"
            or "my_task.py:make_task", which have their own data and loss.
        train, test: for a function, a pair (inputs, targets) of tensors or a DataLoader.
        loss: for a function, (outputs, targets) -> the mean loss of a batch.
        metrics: for a function, measures on the test set: name -> (function, "max" or "min").
        name: of the function's task in tables and results.
        optimizers: specifications such as "inna:alpha=.5,beta=.1".
        model: which of a built-in task's networks; "" for its first.
        folder: where rows are kept, so that a second call resumes; None keeps none.
        jobs: processes that run at once, >= 1.
        progress: is notified of every event, such as ``inna.experiments.sweep.progress.make_progress(console)``.
        **options: see `StudyOptions`.

    Returns:
        The result, with ``best``, ``verdict``, ``code``, ``table``, ``rows``, ``plot()`` and ``report(path)``.

    Raises:
        TypeError: a part of the task is of the wrong type.
        ValueError: a value is out of range, a name is unknown, or the parts of the task do not fit together.
        SweepError: a run failed (the others are finished and their rows kept), or the sweep had to stop.

    >>> import torch
    >>> x = torch.linspace(-1, 1, 64).unsqueeze(1)
    >>> short = {"epochs": 2, "tuning_epochs": 1, "seeds": [1]}
    >>> found = compare(
    ...     lambda: torch.nn.Linear(1, 1), (x, 2 * x), (x, 2 * x),
    ...     torch.nn.functional.mse_loss,
    ...     optimizers=["sgd", "adam"], grid=[0.1], schedules=[0], **short,
    ... )
    >>> found.best, found.table.optimizer.tolist(), len(found.rows)
    ('Adam', ['Adam', 'SGD'], 4)
    """
    chosen = _task(task, train, test, loss, metrics, name)
    study = make_study(chosen, optimizers, model=model, **options)
    own = chosen if isinstance(chosen, Task) else None
    if folder is not None:
        return _compared(study, Path(folder), own, jobs, progress)
    with tempfile.TemporaryDirectory(prefix="inna-") as temporary:
        return _compared(study, Path(temporary), own, jobs, progress)


@accepts(StudyOptions)
def make_study(
    task: Task | str = "digits",
    optimizers: Sequence[str | Contender] = DEFAULT_OPTIMIZERS,
    *,
    model: str = "",
    command: str = "",
    **options: Any,
) -> Study:
    """Make the study of these optimizers on this task, and try its runs.

    Every optimizer is tuned with the same number of trials, or over the same grid, and with the same schedules, so that
    none has more than another.

    Args:
        task: a `Task`, or a name that `load_task` accepts.
        optimizers: specifications such as "inna:alpha=.5,beta=.1", or contenders.
        model: which of a built-in task's networks; "" for its first.
        command: the command line, for the report.
        **options: see `StudyOptions`.

    Raises:
        ValueError: a value is out of range, a name is unknown, or the parts of the task do not fit together.
    """
    chosen = StudyOptions(**options)
    if isinstance(optimizers, str):
        raise ValueError(f"optimizers must be a list of specifications such as [{optimizers!r}], got {optimizers!r}")
    chosen.check_tuning()
    found, name, source = _identify(task, model)
    contenders = tuple(
        entry
        if isinstance(entry, Contender)
        else contender(entry, chosen.lrs, chosen.schedules, search=chosen.searches, untuned=chosen.untuned)
        for entry in optimizers
    )
    if not contenders:
        raise ValueError("optimizers must name at least one")
    seeds, cap = parse_seeds(chosen.seeds)
    study = Study(
        dataset=name,
        model=found.model_name,
        contenders=contenders,
        reference=_reference(chosen, contenders),
        tuning_epochs=chosen.tuning_epochs,
        epochs=chosen.epochs,
        seeds=seeds,
        seed_cap=cap,
        tuning_seed=chosen.tuning_seed,
        batch_size=_batch_size(found, chosen.batch_size),
        device=str(resolve_device(chosen.device)),
        precision=_precision(chosen.precision),
        source=source,
        metrics=found.measures,
        command=command,
        budget=chosen.budget,
        trials=chosen.trials if chosen.searches else 0,
        loss_samples=chosen.loss_samples,
    )
    found.check()
    for entry in contenders:
        first = state(study, entry, {})
        _try_any(first.plan, found, entry.label)
        _try_any(first.untuned[:1], found, entry.label)
    return study


@accepts(RunOptions)
def make_run(optimizer: str = "inna", task: str = "digits", *, model: str = "", **options: Any) -> Run:
    """Make a single run, and check that it can start.

    Args:
        optimizer: a specification such as "inna:alpha=.5,beta=.1".
        task: a name that `load_task` accepts.
        model: which of a built-in task's networks; "" for its first.
        **options: see `RunOptions`.

    Raises:
        ValueError: as in `make_study`.
    """
    chosen = RunOptions(**options)
    found, name, source = _identify(task, model)
    specification = named.parse(optimizer)
    run = Run(
        dataset=name,
        model=found.model_name,
        optimizer=specification.name,
        lr=named.default_lr(specification) if chosen.lr is None else chosen.lr,
        alpha=specification.alpha,
        beta=specification.beta,
        q=chosen.q,
        settings=specification.settings,
        batch_size=_batch_size(found, chosen.batch_size),
        epochs=chosen.epochs,
        seed=chosen.seed,
        schedule=chosen.schedule,
        device=str(resolve_device(chosen.device)),
        precision=_precision(chosen.precision),
        source=source,
        optimizer_source=specification.source,
        loss_samples=chosen.loss_samples,
    )
    found.check()
    _try(run, found, specification.label)
    return run


def contender(
    text: str,
    grid: Iterable[float] = HALF_DECADES,
    schedules: Iterable[Schedule] = SCHEDULES,
    *,
    search: bool = False,
    untuned: bool = False,
) -> Contender:
    """Return the contender that a specification describes.

    Args:
        text: the specification, which may give a learning rate.
        grid: the learning rates (γ) to try if it does not.
        schedules: the schedules to try.
        search: whether the settings that are not given are searched; the specification may then give ranges.
        untuned: whether it also has untuned runs, with the learning rate given or else the default of its class. A
            class without one has none.

    Raises:
        ValueError: as in `make_study`.

    >>> contender("inna:alpha=.5,beta=1").label
    'INNA (0.5, 1)'
    >>> [each.text for each in contender("heavy-ball", search=True).space]
    ['lr=0.0001..1', 'momentum=0.5..0.99']
    """
    tuned = parse_tuned(text)
    if tuned.ranges and not search:
        raise ValueError(f"{text}: the range {tuned.ranges[0].text} needs --tuning halving, and no grid")
    space = _space(tuned, named.parse(tuned.fixed).optimizer) if search else ()
    given = tuned.lr is not None and LEARNING_RATE in split(text)[1]
    shown = [f"lr={tuned.lr:g}"] if given else []
    spec = named.parse(tuned.fixed, [each.name for each in space], [*shown, *(each.text for each in tuned.ranges)])
    return Contender(
        spec.label,
        spec.name,
        spec.alpha,
        spec.beta,
        spec.settings,
        tuple(sorted(grid)) if tuned.lr is None else (tuned.lr,),
        tuple(sorted(map(check_schedule, schedules), key=schedule_order)),
        spec.source,
        space,
        None if not untuned else named.library_lr(spec) if tuned.lr is None else tuned.lr,
    )


def _space(tuned: Tuned, optimizer: type) -> tuple[Dimension, ...]:
    """Return what a search tunes.

    The ranges given, and those declared of settings that are not given.
    """
    name, given = split(tuned.fixed)
    declared = NAMED[name].space if name in NAMED else _own_space(optimizer)
    if not any(each.name == LEARNING_RATE for each in declared):
        declared = (*UNKNOWN_SPACE, *declared)
    taken = {*given, *(each.name for each in tuned.ranges), *(() if tuned.lr is None else (LEARNING_RATE,))}
    return (*tuned.ranges, *(each for each in declared if each.name not in taken))


def _own_space(optimizer: type) -> tuple[Dimension, ...]:
    """Return the search space that a class declares as ``search_space``.

    This attribute is name -> (low, high).
    """
    ranges = getattr(optimizer, "search_space", {})
    try:
        return tuple(Dimension(name, *ends) for name, ends in dict(ranges).items())
    except (TypeError, ValueError) as error:
        raise ValueError(f"{optimizer.__name__}.search_space must be name -> (low, high): {error}") from None


def _task(
    task: Task | str | Callable[[], nn.Module],
    train: Data | None,
    test: Data | None,
    loss: Callable[[Any, Any], Tensor] | None,
    metrics: Metrics | None,
    name: str,
) -> Task | str:
    if not isinstance(task, (Task, str)):
        missing = [part for part, value in (("train", train), ("test", test), ("loss", loss)) if value is None]
        if callable(task) and missing:
            raise TypeError(f"a function that makes the network needs {enumerate_words(missing)}, too")
        return Task(name, task, train, test, loss, metrics or {})  # type: ignore[arg-type]
    own = {"train": train, "test": test, "loss": loss, "metrics": metrics}
    given = [part for part, value in own.items() if value is not None]
    if given:
        what = "a Task" if isinstance(task, Task) else f"the task {task!r}"
        raise TypeError(f"{what} has its own data and loss; do not give {enumerate_words(given)} (optimizers=[...])")
    return task


def _compared(study: Study, folder: Path, task: Task | None, jobs: int, progress: Progress | None) -> Comparison:
    _, failures = sweep(study, folder, SweepOptions(jobs=jobs), task=task, progress=progress)
    if failures:
        raise failure_error(failures)
    return Comparison(open_results(folder), load_rows(folder))


def _identify(task: Task | str, model: str) -> tuple[Task, str, str]:
    if isinstance(task, Task):
        check_model(task, model)
        return task, task.name, fingerprint(task)
    found, source = load_task(task, model=model)
    return found, task, source


def _reference(chosen: StudyOptions, contenders: Sequence[Contender]) -> str:
    labels, wanted = [contender.label for contender in contenders], chosen.reference
    if wanted is None:
        return REFERENCE if REFERENCE in labels else labels[0]
    if wanted in labels:
        return wanted
    label = contender(wanted, chosen.lrs, chosen.schedules, search=chosen.searches).label
    if label not in labels:
        raise ValueError(f"reference must be one of {', '.join(labels)}; got {wanted!r}{did_you_mean(wanted, labels)}")
    return label


def _batch_size(task: Task, wanted: int | None) -> int:
    own = task.loader_batch_size
    if own is None:
        return Run.batch_size if wanted is None else check_whole("batch_size", wanted, minimum=1)
    if wanted is not None and wanted != own:
        raise ValueError(f"batch_size: the DataLoader of task {task.name} has its own, {own}; got {wanted}")
    return own


def _precision(name: str) -> str:
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    return name


def _try_any(runs: Sequence[Run], task: Task, label: str) -> None:
    """Try the first run whose optimizer accepts its settings.

    Raises:
        ValueError: it fails, or there is none.
    """
    refusal: ValueError | None = None
    for run in runs:
        try:
            _try(run, task, label)
            return
        except ValueError as error:
            if not isinstance(error.__cause__, named.RefusedError):
                raise
            refusal = refusal or error
    if refusal is not None:
        raise refusal


def _try(run: Run, task: Task, label: str) -> None:
    try:
        with ExitGuard(), isolated(derive(run.seed, "try")):
            named.build(run, task.model())
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{label}: {next(iter(str(error).splitlines()), '')}") from error
    except Exception as error:
        raise ValueError(f"{label}: {describe_error(error)}") from error
