"""Options that several commands share: their values, defaults and refusals."""

from __future__ import annotations

import json
import os
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Group, Parameter

from inna.checks import did_you_mean
from inna.experiments.formatting import enumerate_words, print_line
from inna.experiments.rows.run import NAMED_SCHEDULES, check_schedule
from inna.experiments.study.options import ComputeOptions, ProtocolOptions, TuningMethod
from inna.experiments.sweep.options import SweepOptions
from inna.experiments.tasks.catalogue import split_subset, with_width
from inna.experiments.tasks.data_file import has_changed, is_data_file
from inna.files import check_folder

if TYPE_CHECKING:
    from rich.console import Console

    from inna.experiments.study.study import Study

__all__ = [
    "OUTPUT",
    "AsJson",
    "BuiltinTask",
    "BuiltinTaskOptions",
    "Compute",
    "DataFolder",
    "DataFolderOptions",
    "Protocol",
    "ProtocolArguments",
    "Show",
    "Sweep",
    "Task",
    "TaskOptions",
    "UsageError",
    "arguments",
    "checking",
    "default_folder",
    "folder_for",
    "format_default",
    "listed",
    "open_pages",
    "print_json",
    "waiting",
]


TASK_FUNCTION = "make_task"
"""The function of a task's file that ``--task FILE`` calls."""


class UsageError(Exception):
    """A value that the user gave cannot be used; its text is one line."""


@contextmanager
def checking() -> Iterator[None]:
    """Turn the errors of a block that checks the user's values into a `UsageError`."""
    try:
        yield
    except (ValueError, FileNotFoundError, NotADirectoryError, ImportError) as error:
        raise UsageError(str(error)) from error


def _check_output(_: Any, folder: Path | None) -> None:
    if folder is not None:
        check_folder(folder)


OUTPUT = Parameter(validator=_check_output)
"""For a folder that a command writes into: it is refused before anything is computed if it cannot be made."""


def listed(
    kind: Callable[[str], object], kinds: str = "words", *, blanks: bool = True, known: Sequence[str] = ()
) -> Parameter:
    """Return the parameter of several values of one kind.

    They are separated by commas, or by blanks too; ``kinds`` names them, and the ``known`` words are proposed.
    """

    def convert(target: Any, tokens: Sequence[cyclopts.Token]) -> tuple[Any, ...]:
        parts = [part for token in tokens for part in token.value.split(",")]
        values = []
        for part in parts:
            try:
                values.append(kind(part))
            except ValueError:
                text = f"must be {kinds}, separated by commas{' or blanks' if blanks else ''}; got {part!r}"
                raise ValueError(text + did_you_mean(part, known)) from None
        return tuple(values)

    return Parameter(converter=convert, consume_multiple=blanks)


def listed_seeds() -> Parameter:
    """Return the parameter of the seeds: whole numbers, or ``auto`` with a cap."""
    numbers = listed(int, "whole numbers, auto or auto:CAP")

    def convert(target: Any, tokens: Sequence[cyclopts.Token]) -> tuple[int, ...] | str:
        if len(tokens) == 1 and tokens[0].value.startswith("auto"):
            return tokens[0].value
        seeds: tuple[int, ...] = numbers.converter(target, tokens)  # type: ignore[operator, misc]
        return seeds

    return Parameter(converter=convert, consume_multiple=True, n_tokens=-1)


def format_default(value: Any) -> str | None:
    """Return a default as it would be typed.

    None for an empty one, which is not shown.

    >>> format_default((0.000316, 0.1)), format_default("")
    ('0.000316,0.1', None)
    """
    if isinstance(value, tuple):
        value = ",".join(f"{part:g}" if isinstance(part, float) else str(part) for part in value)
    return None if value is False or value in (None, "") else str(value)


@dataclass(frozen=True, kw_only=True)
class DataFolderOptions:
    """The folder of the data sets.

    Attributes:
        data_dir: Folder of the data sets. [default: the variable INNA_DATA, or else the user's cache folder]
    """

    data_dir: Path | None = None

    def use(self) -> None:
        """Make `data_dir` the data folder of this process and of its workers."""
        from inna.experiments.tasks.local_files import FOLDER_VARIABLE

        if self.data_dir is not None:
            os.environ[FOLDER_VARIABLE] = str(self.data_dir.expanduser().absolute())


@dataclass(frozen=True, kw_only=True)
class BuiltinTaskOptions:
    """A built-in task.

    Attributes:
        dataset: Built-in task: digits, mnist, fashion-mnist, cifar10 or cifar100. Or your own data as FILE.npz with the
            arrays x_train, y_train, x_test and y_test. [default: digits]
        model: Its network: small-cnn for digits; lenet5 or nin for mnist and fashion-mnist; nin for cifar10 and
            cifar100; for a file, those of its shape, and mlp. [default: the first of these]
        width: Fraction of nin's channels, 0.01 to 1; they are rounded to multiples of 16. The network is then called
            nin-w0.333 in results.
    """

    dataset: str | None = None
    model: str = ""
    width: float = 1.0

    @property
    def network(self) -> str:
        """The network's name, with its width.

        Raises:
            ValueError: the width is out of range, or not for this network.
        """
        return with_width(self.model, self.width)

    @property
    def name(self) -> str:
        """The task's name."""
        return self.dataset or "digits"

    def check(self) -> None:
        """Check the names of data set and network, or the file of your own task.

        Raises:
            ValueError: a name is unknown, or the file missing.
        """
        from inna.experiments.tasks.catalogue import builtin_model
        from inna.experiments.tasks.data_file import data_path
        from inna.experiments.tasks.own_code import task_file

        if is_data_file(self.name):
            data_path(self.name)
        elif ":" not in split_subset(self.name)[0]:
            builtin_model(self.name, self.network)
        elif self.name.rpartition(":")[0].endswith(".py"):
            task_file(self.name)


@dataclass(frozen=True, kw_only=True)
class TaskOptions(BuiltinTaskOptions):
    """A built-in task or the user's own.

    Attributes:
        task: Your own task: my_task.py for its function make_task, my_task.py:function or package.module:function.
            inna new-task writes one.
    """

    task: str | None = None

    @property
    def name(self) -> str:
        """The task's name.

        Raises:
            ValueError: two are given, or one without its function.
        """
        if self.dataset is not None and self.task is not None:
            raise ValueError("give --dataset or --task, not both")
        if self.task is None:
            return super().name
        if any("\ud800" <= letter <= "\udfff" for letter in self.task):
            raise ValueError("--task: this locale cannot read the name; set the environment variable PYTHONUTF8=1")
        if ":" in self.task:
            return self.task
        if not self.task.endswith(".py"):
            raise ValueError(
                f"--task must be written my_task.py, my_task.py:function or package.module:function, got {self.task!r}"
            )
        return f"{self.task}:{TASK_FUNCTION}"


@dataclass(frozen=True, kw_only=True)
class ProtocolArguments(ProtocolOptions):
    """The protocol, with lists separated by commas or blanks."""

    seeds: Annotated[tuple[int, ...] | str, listed_seeds()] = ProtocolOptions.seeds
    tuning: TuningMethod | None = ProtocolOptions.tuning
    grid: Annotated[tuple[float, ...] | None, listed(float, "numbers")] = ProtocolOptions.grid
    schedules: Annotated[
        tuple[float | str, ...],
        listed(check_schedule, "powers q, linear, cosine or hold", known=("constant", *NAMED_SCHEDULES)),
    ] = ProtocolOptions.schedules


_TASK = Group("Task", sort_key=1)
BuiltinTask = Annotated[BuiltinTaskOptions, Parameter(name="*", group=_TASK)]
Task = Annotated[TaskOptions, Parameter(name="*", group=_TASK)]
DataFolder = Annotated[DataFolderOptions, Parameter(name="*", group=_TASK)]
Protocol = Annotated[ProtocolArguments, Parameter(name="*", group=Group("Protocol", sort_key=2))]
Compute = Annotated[ComputeOptions, Parameter(name="*", group=Group("Computation", sort_key=3))]
Sweep = Annotated[SweepOptions, Parameter(name="*", group=Group("Sweep", sort_key=4))]

AsJson = Annotated[bool, Parameter(name="--json", help="Print one JSON object instead of the table.")]
Show = Annotated[bool, Parameter(help="Open the page in the browser.")]


def arguments() -> list[str]:
    """Return the command line as text, also where the locale cannot read it."""
    return ["inna", *(os.fsencode(argument).decode(errors="replace") for argument in sys.argv[1:])]


@contextmanager
def waiting(console: Console, text: str) -> Iterator[None]:
    """Show a spinner and ``text`` during a block, on a terminal; then remove them."""
    with console.status(text, spinner="line") if console.is_terminal else nullcontext():
        yield


def open_pages(pages: Sequence[Path]) -> None:
    """Open pages in the browser.

    Raises:
        RuntimeError: no browser can be started.
    """
    if not all(webbrowser.open(page.resolve().as_uri()) for page in pages):
        raise RuntimeError("no browser could be started; open the file by hand")


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document of plain values as JSON, in one line."""
    sys.stdout.write(json.dumps(document, allow_nan=False) + "\n")


def folder_for(study: Study, usual: Path, console: Console) -> Path:
    """Return the folder of ``study``.

    ``usual``, or one named by its digest where ``usual`` contains another study.

    So a study that is made again is found again, and none replaces another.
    """
    from inna.experiments.rows.row_files import DamagedRowError
    from inna.experiments.study.study import Study

    own = usual.with_name(f"{usual.name}-{study.digest}")
    if own.is_dir():
        return own
    try:
        before = Study.load(usual)
        differences = enumerate_words(study.differences(before))
    except FileNotFoundError:
        return usual
    except DamagedRowError as error:
        print_line(console, f"{error}; the results are in {own}")
        return own
    changed = has_changed((before.dataset, before.source), (study.dataset, study.source))
    if changed or not differences:
        return usual  # the sweep refuses a changed file
    print_line(
        console,
        f"{usual} contains another study (other {differences}); the results are in {own}. To share runs: --out {usual}",
    )
    return own


def default_folder(name: str, *endings: str, beginning: str = "") -> Path:
    """Return the usual folder for the results of the task ``name``.

    It is ``runs/BEGINNING-NAME-ENDING-...``.

    >>> str(default_folder("mnist[:1000]", "nin")), str(default_folder("tasks/sine.py:make", "", "train"))
    ('runs/mnist-1000-nin', 'runs/sine-make-train')
    >>> str(default_folder("package.module:make"))
    'runs/package.module-make'
    >>> str(default_folder("data/mine.npz[:100]", "quick", beginning="reproduce"))
    'runs/reproduce-mine-100-quick'
    """
    whole, images = split_subset(name)
    if images is not None:
        endings = (str(images), *endings)
    place, _, function = (Path(whole).stem if is_data_file(whole) else whole).partition(":")
    parts = [Path(place).stem if place.endswith(".py") else place, function] if function else [place]
    return Path("runs") / "-".join(filter(None, [beginning, *parts, *endings]))
