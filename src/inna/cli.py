"""The command line: arguments to calls, nothing else. Exit status 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import cyclopts
from cyclopts import App, Parameter
from rich.console import Console

import inna

__all__ = ["app", "run"]

app = App(
    name="inna",
    help="INNA, the inertial Newton algorithm for deep learning: compare it on your problem, train with it.",
    version=inna.__version__,
    help_epilogue="Every command has --help. --debug, anywhere, shows the traceback of an error.",
    default_parameter=Parameter(negative=()),
    suppress_keyboard_interrupt=False,
)


class UsageError(Exception):
    """A value that the user gave cannot be used; its text is one line."""


@contextmanager
def _checking() -> Iterator[None]:
    """What is raised in here is about the user's values."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, ImportError) as error:
        raise UsageError(str(error)) from error


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line and return its exit status.

    Args:
        arguments: without the program's name.
    """
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        # Commands return their exit status; help and version return None.
        status: int | None = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value", error_console=_errors()
        )
        sys.stdout.flush()
        return status or 0
    except cyclopts.CycloptsError as error:
        return _complain(" ".join(str(error).split()), 2, debug, hint=" (see inna --help)")
    except UsageError as error:
        return _complain(str(error), 2, debug)
    except KeyboardInterrupt:
        return _complain("stopped; what is done is kept, the same command goes on from there", 1, debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 1
    except RuntimeError as error:
        return _complain(str(error), 1, debug)
    except Exception as error:
        return _complain(f"{type(error).__name__}: {error}", 1, debug)


def _complain(text: str, status: int, debug: bool, hint: str = "") -> int:
    if debug:
        import traceback

        traceback.print_exc()
    _errors().print(f"inna: {next(iter(text.splitlines()), '')}{hint}", markup=False, highlight=False, soft_wrap=True)
    return status


def _errors() -> Console:
    return Console(stderr=True)


def _listed(kind: type) -> Any:
    """A converter for several values, separated by blanks or commas."""

    def convert(target: Any, tokens: Sequence[cyclopts.Token]) -> tuple[Any, ...]:
        parts = [part for token in tokens for part in token.value.split(",")]
        try:
            return tuple(kind(part) for part in parts)
        except ValueError:
            kinds = {int: "whole numbers", float: "numbers"}[kind]
            raise ValueError(f"must be {kinds}, separated by commas or blanks") from None

    return convert


Dataset = Annotated[
    str | None,
    Parameter(help="A built-in task: digits, mnist, fashion-mnist, cifar10 or cifar100. [default: digits]"),
]
Model = Annotated[
    str,
    Parameter(
        help="Its network: lenet5 or nin for mnist and fashion-mnist; nin for cifar10 and cifar100; small-cnn for "
        "digits. [default: the first of these]",
        show_default=False,
    ),
]
DataDir = Annotated[
    Path | None,
    Parameter(help="Folder of the data sets. [default: the variable INNA_DATA, or else the user's cache folder]"),
]
OwnTask = Annotated[
    str | None, Parameter(name="--task", help="A task of your own: my_task.py:make_task or package.module:make_task.")
]
BatchSize = Annotated[int | None, Parameter(help="Samples in a mini-batch. [default: 32, or the DataLoader's own]")]
Device = Annotated[str, Parameter(help="cpu, cuda, cuda:1, ..., or auto.")]
Precision = Annotated[Literal["float32", "float64"], Parameter(help="Arithmetic of weights and data.")]


@app.command
def compare(
    *,
    dataset: Dataset = None,
    model: Model = "",
    task: OwnTask = None,
    optimizer: Annotated[
        tuple[str, ...],
        Parameter(
            help="A contender, once for each: a name with settings, such as inna:alpha=.5,beta=.1 or "
            "adamw:weight_decay=.01, any optimizer of torch.optim, or a class as package.module:Class. "
            "[default: INNA at (.1,.1), (.5,.1), (.5,.5), (.5,1), SGD, heavy ball, AdaGrad, Adam]",
            show_default=False,
        ),
    ] = (),
    epochs: Annotated[int, Parameter(help="Epochs of the final runs.")] = 30,
    tuning_epochs: Annotated[int, Parameter(help="Epochs of the tuning runs.")] = 15,
    seeds: Annotated[
        tuple[int, ...],
        Parameter(help="Seeds of the final runs: 1,2,3.", converter=_listed(int), consume_multiple=True),
    ] = (1, 2, 3),
    tuning_seed: Annotated[int, Parameter(help="Seed of the tuning runs, none of --seeds.")] = 0,
    grid: Annotated[
        tuple[float, ...] | None,
        Parameter(
            help="Step sizes γ0 that are tried, extended where the best is on the edge. "
            "[default: nine half-decades, 1e-4 to 1]",
            converter=_listed(float),
            consume_multiple=True,
        ),
    ] = None,
    schedules: Annotated[
        tuple[float, ...],
        Parameter(
            help="Powers q of the decay γ0 (k+1)^-q over iterations k that are tried; 0 is a constant step.",
            converter=_listed(float),
            consume_multiple=True,
        ),
    ] = (0.0, 0.5),
    budget: Annotated[
        str,
        Parameter(
            help="At most so much, shared equally among the optimizers: 20m, 1.5h, 200runs, 3000epochs. "
            "[default: no limit]",
            show_default=False,
        ),
    ] = "",
    reference: Annotated[
        str | None, Parameter(help="The contender that others are compared with. [default: sgd, or the first]")
    ] = None,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    jobs: Annotated[int | None, Parameter(help="Runs at once. [default: as many as cores, 1 on a GPU]")] = None,
    data_dir: DataDir = None,
    out: Annotated[Path | None, Parameter(help="Folder of rows and report. [default: runs/NAME]")] = None,
) -> int:
    """Compare optimizers fairly on a task: tune each, run the seeds, show the table, write report.html.

    Each optimizer's γ0 and schedule are those with the least training loss after the tuning epochs; test data chooses
    nothing. Rows that the folder holds already are not run again.
    """
    with _checking():
        from inna.experiments.comparison import DEFAULT_OPTIMIZERS, make_study
        from inna.experiments.progress import watching
        from inna.experiments.study import HALF_DECADES
        from inna.experiments.sweep import raised, sweep

        name = _task_name(dataset, task)
        _keep_data_in(data_dir)
        study = make_study(
            name,
            optimizer or DEFAULT_OPTIMIZERS,
            model=model,
            epochs=epochs,
            tuning_epochs=tuning_epochs,
            seeds=seeds,
            tuning_seed=tuning_seed,
            grid=grid or HALF_DECADES,
            schedules=schedules,
            batch_size=batch_size,
            reference=reference,
            budget=budget,
            device=device,
            precision=precision,
            command=shlex.join(["inna", *sys.argv[1:]]),
        )
        processes = _jobs(jobs, study.device)
    folder = out or _default_folder(name, model)
    console = Console()
    with watching(console) as progress:
        rows, failures = sweep(study, folder, jobs=processes, progress=progress)

    from inna.experiments.report import print_table, summary_table, write_report

    print_table(summary_table(study, rows), console)
    _say(console, f"report: {write_report(folder)}")
    if failures:
        raise raised(failures)
    return 0


@app.command
def train(
    optimizer: Annotated[
        str, Parameter(help="A name with settings, such as inna:alpha=.5,beta=.1, as for inna compare.")
    ] = "inna",
    /,
    *,
    dataset: Dataset = None,
    model: Model = "",
    task: OwnTask = None,
    lr: Annotated[float | None, Parameter(help="Step size γ0. [default: the optimizer's own]")] = None,
    q: Annotated[
        float, Parameter(help="Power of the decay γ0 (k+1)^-q over iterations k; 0 is a constant step.")
    ] = 0.0,
    epochs: Annotated[int, Parameter(help="Passes over the training data.")] = 15,
    seed: Annotated[int, Parameter(help="Decides the initial weights and the order of the data.")] = 0,
    batch_size: BatchSize = None,
    device: Device = "cpu",
    precision: Precision = "float32",
    data_dir: DataDir = None,
    out: Annotated[Path | None, Parameter(help="Folder of row and checkpoint. [default: runs/NAME-train]")] = None,
) -> int:
    """Train with one optimizer: live progress, a checkpoint after each epoch, a row at the end.

    The same command goes on from the checkpoint of an interrupted run, bit for bit. The checkpoint of a finished run
    stays; it holds the weights.
    """
    console = Console()
    with _checking():
        from inna.experiments.comparison import make_run
        from inna.experiments.progress import TrainingProgress, outcome
        from inna.experiments.rows import DamagedRowError, read_row, row_path
        from inna.experiments.training import checkpoint_path
        from inna.experiments.training import train as train_run

        name = _task_name(dataset, task)
        _keep_data_in(data_dir)
        run = make_run(
            optimizer,
            name,
            model=model,
            lr=lr,
            q=q,
            epochs=epochs,
            seed=seed,
            batch_size=batch_size,
            device=device,
            precision=precision,
        )
    folder = out or _default_folder(name, model, "train")
    path = row_path(folder, run)
    try:
        _, result = read_row(path)
        _say(console, "this run is done already")
    except FileNotFoundError:
        result = None
    except DamagedRowError as error:
        _say(console, f"{error}; it is run again")
        result = None
    if result is None:
        with TrainingProgress(console, run) as progress:
            result = train_run(run, folder=folder, on_epoch=progress, on_note=progress.note)
    for line in outcome(result):
        _say(console, line)
    _say(console, f"row: {path}")
    if checkpoint_path(folder, run).exists():
        _say(console, f"checkpoint: {checkpoint_path(folder, run)}")
    return 0


@app.command
def datasets(
    name: Annotated[str | None, Parameter(help="One of them, to see its files. [default: a list of all]")] = None,
    /,
    *,
    download: Annotated[bool, Parameter(help="Fetch what is not here of NAME.")] = False,
    data_dir: DataDir = None,
) -> int:
    """Show the data sets: size, checksums, terms of use, and whether an intact copy is here; fetch one.

    inna compare and inna train fetch what they need by themselves.
    """
    console = Console()
    with _checking():
        from inna.experiments.catalogue import entry
        from inna.experiments.dataset_table import describe, overview
        from inna.experiments.downloads import fetch

        _keep_data_in(data_dir)
        described = None if name is None else entry(name)
        if download and described is None:
            raise ValueError("--download needs the name of a data set")
    if described is None:
        console.print(overview())
        return 0
    if download:
        fetch(described)
    for line in describe(described):
        _say(console, line)
    return 0


@app.command
def info() -> int:
    """Show versions, hardware, the paths of the optimizers that are available here, and where data are cached."""
    from inna.experiments.machine import report

    console = Console()
    for name, value in report().items():
        _say(console, f"{name:<22} {value}")
    return 0


@app.command
def report(
    folder: Annotated[Path, Parameter(help="A folder that inna compare wrote, such as runs/digits.")],
    /,
    *,
    figures: Annotated[
        tuple[str, ...],
        Parameter(
            help="Also write the figures into FOLDER/figures: png, svg or both. [default: none]",
            consume_multiple=True,
            show_default=False,
        ),
    ] = (),
) -> int:
    """Write report.html anew from the rows of a folder, and show the table. Needs no torch."""
    console = Console()
    with _checking():
        from inna.experiments.report import print_table, summary_table, write_figures, write_report
        from inna.experiments.rows import read_rows
        from inna.experiments.study import Study

        study = Study.load(folder)
        rows = read_rows(folder, on_damage=lambda text: _say(console, text))
        page = write_report(folder)
        drawn = write_figures(folder, [name for listed in figures for name in listed.split(",")]) if figures else []
    print_table(summary_table(study, rows), console)
    _say(console, f"report: {page}")
    for path in drawn:
        _say(console, f"figure: {path}")
    return 0


@app.command
def theory_check(
    *,
    only: Annotated[
        tuple[str, ...],
        Parameter(
            help="Demonstrations to run, by name: rates stability. [default: all]",
            consume_multiple=True,
            show_default=False,
        ),
    ] = (),
) -> int:
    """Run the demonstrations of the theory; print for each statement, expected, measured, and whether it holds.

    Takes well under three minutes on two cores. Exit status 1 if one does not hold.
    """
    from rich.table import Table
    from rich.text import Text

    console = Console()
    with _checking():
        from inna.theory.demonstrations import run_demonstrations

        findings = run_demonstrations(only or None)
    total = failed = 0
    with console.status("running"):
        for finding in findings:
            total += 1
            failed += not finding.holds
            verdict = ("holds", "green") if finding.holds else ("DOES NOT HOLD", "red")
            shown = finding.demonstration
            console.print(Text.assemble((shown.name, "bold"), ": ", verdict, f"  ({finding.seconds:.1f} s)"))
            lines = Table.grid(padding=(0, 1))
            for label, words in (
                ("  statement", shown.statement),
                ("  expected", shown.expected),
                ("  measured", finding.measured),
                ("  source", shown.source),
            ):
                lines.add_row(Text(label, style="dim"), Text(words, overflow="fold"))
            console.print(lines)
    _say(console, f"{total - failed} of {total} hold")
    return 1 if failed else 0


def _task_name(dataset: str | None, task: str | None) -> str:
    if dataset is not None and task is not None:
        raise ValueError("give --dataset or --task, not both")
    if task is not None and ":" not in task:
        raise ValueError(f"--task must be written my_task.py:make_task or package.module:make_task, got {task!r}")
    return task or dataset or "digits"


def _default_folder(name: str, *endings: str) -> Path:
    place, _, function = name.partition(":")
    parts = [Path(place).stem, function] if function else [place]
    return Path("runs") / "-".join([*parts, *filter(None, endings)])


def _keep_data_in(folder: Path | None) -> None:
    """Make ``folder`` the data folder of this process and of its workers, which inherit the variable."""
    from inna.experiments.downloads import FOLDER_VARIABLE

    if folder is not None:
        os.environ[FOLDER_VARIABLE] = str(folder.expanduser().absolute())


def _jobs(wanted: int | None, device: str) -> int:
    from inna.experiments.machine import cores
    from inna.experiments.rows import check_whole

    return (cores() if device == "cpu" else 1) if wanted is None else check_whole("jobs", wanted, minimum=1)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
