"""The command ``inna find-lr``."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.console import Console

from inna.checks import check_range, check_whole
from inna.cli.options import (
    AsJson,
    DataFolder,
    DataFolderOptions,
    Task,
    TaskOptions,
    UsageError,
    checking,
    listed,
    open_pages,
    print_json,
    waiting,
)
from inna.experiments.formatting import count, fixed, print_line, short
from inna.experiments.study.optimizer_names import check_has_lr
from inna.experiments.study.options import DeviceOptions
from inna.files import check_folder, write_whole

if TYPE_CHECKING:
    from inna.experiments.learning_rate import LearningRateSearch
    from inna.experiments.rows.run import Run

__all__ = ["find_lr"]

FORMATS = (".png", ".svg")
LEAST = 8  # steps of each learning rate


def find_lr(
    *,
    optimizer: Annotated[
        str, Parameter(help="A name with settings, such as inna:alpha=.5,beta=.1, as for inna compare; no lr.")
    ] = "inna",
    steps: Annotated[
        int,
        Parameter(help="Steps in total, at least 8 (n + 1) for n learning rates. More are taken if none trains."),
    ] = 600,
    grid: Annotated[
        tuple[float, ...],
        listed(float, "numbers"),
        Parameter(help="Learning rates (γ) to try, > 0. [default: half-decades from 1e-5 to 10]"),
    ] = (),
    seed: Annotated[int, Parameter(help="Seed of the weights, the order of the batches, and dropout.")] = 0,
    batch_size: Annotated[
        int | None, Parameter(help="Samples per mini-batch, >= 1. [default: 32, or the DataLoader's own]")
    ] = None,
    compute: Annotated[DeviceOptions, Parameter(name="*")] = DeviceOptions(),
    as_json: AsJson = False,
    plot: Annotated[
        Path | None, Parameter(help="Draw the losses against the learning rate into this file, .png or .svg.")
    ] = None,
    show: Annotated[bool, Parameter(help="Open the plot; needs --plot.")] = False,
    task: Task = TaskOptions(),
    data: DataFolder = DataFolderOptions(),
) -> int:
    """Find a learning rate (γ) for an optimizer by short races.

    Copies of the network train at each learning rate on the same batches, and the best continue, for about 600 steps in
    all. The result is a starting point for a constant learning rate. inna compare tunes with full training runs.
    """
    with checking():
        name = task.name
        task.check()
        check_has_lr(optimizer)
        compute.check_device()
        least = LEAST * ((len(set(grid)) or 13) + 1)
        check_whole("steps", steps, least)
        check_whole("seed", seed, 0)
        for lr in grid:
            check_range("grid", lr, minimum=0.0, exclusive=True)
        if grid and len(set(grid)) < 2:
            raise UsageError(f"grid must have at least two learning rates, got {','.join(map(short, grid))}")
        if batch_size is not None:
            check_whole("batch_size", batch_size, minimum=1)
        if plot is not None:
            if plot.suffix not in FORMATS:
                raise UsageError(f"--plot must end in {' or '.join(FORMATS)}, got {str(plot)!r}")
            check_folder(plot.parent)
        if show and plot is None:
            raise UsageError("--show needs --plot FILE")
    console = Console(stderr=as_json)
    with waiting(console, f"loading {name}"), checking():
        from inna.experiments.learning_rate import prepare
        from inna.experiments.training.allocation import keep_freed_memory

        data.use()
        keep_freed_memory()
        race = prepare(optimizer, name, model=task.network, batch_size=batch_size, device=compute.device, seed=seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with waiting(console, f"racing learning rates of {optimizer} on {name}, {count(steps, 'step')}"):
            found = race.search(grid or None, steps)
    notes = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
    trains = "trained" in found.status.values()
    if as_json:
        print_json(document(race.run, optimizer, found, notes, trains=trains))
    else:
        print_search(found, console)
    if plot is not None:
        draw(found, plot)
        print_line(console, f"plot: {plot}")
        if show:
            open_pages([plot])
    if not trains:
        raise RuntimeError(notes[0] if notes else "no learning rate trains")
    for note in notes:
        print_line(console, f"Warning: {note}")
    if not as_json:
        print_line(console, f"learning rate: {found.lr:g}, after {count(found.steps, 'step')}")
        words = ["inna", "train", optimizer, "--task" if task.task else "--dataset", name]
        words += ["--model", task.model] if task.model else []
        words += ["--width", f"{task.width:g}"] if task.width != 1 else []
        words += ["--batch-size", str(batch_size)] if batch_size is not None else []
        words += ["--device", compute.device] if compute.device != DeviceOptions.device else []
        words += ["--lr", f"{found.lr:g}"]
        print_line(console, f"train with it: {shlex.join(words)}")
    return 0


def document(
    run: Run, optimizer: str, found: LearningRateSearch, notes: Sequence[str], *, trains: bool
) -> dict[str, Any]:
    """Return the result as JSON has it.

    Null stands for what is infinite, and for the choice where none trains.
    """
    rows = found.table.to_dict("records")
    return {
        "dataset": run.dataset,
        "model": run.model,
        "optimizer": optimizer,
        "lr": found.lr if trains else None,
        "steps": found.steps,
        "chance": _finite(found.chance),
        "warnings": list(notes),
        "table": [{str(key): _finite(value) for key, value in row.items()} for row in rows],
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and value - value != 0 else value


def print_search(found: LearningRateSearch, console: Console) -> None:
    """Print a line for each learning rate that raced."""
    from rich.table import Table

    grid = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for head in ("learning rate", "steps", "training loss", "projected loss"):
        grid.add_column(head, justify="right")
    grid.add_column("")
    for row in found.table.to_dict("records"):
        chosen = "  <- chosen" if row["lr"] == found.lr and "trained" in found.status.values() else ""
        losses = ["-" if _finite(row[name]) is None else f"{row[name]:.3g}" for name in ("loss", "projected")]
        grid.add_row(f"{row['lr']:g}", str(row["steps"]), *losses, f"{row['status']}{chosen}")
    console.print(grid)
    print_line(console, f"chance: {fixed(found.chance, 3)}")


def draw(found: LearningRateSearch, path: Path) -> None:
    """Draw the losses against the learning rate into a file."""
    import vl_convert

    from inna.experiments.charts.drawing import vega_lite_version

    chart = found.plot().properties(width=480, height=280).to_dict()
    if path.suffix == ".svg":
        write_whole(path, vl_convert.vegalite_to_svg(chart, vl_version=vega_lite_version()).encode())
    else:
        write_whole(path, vl_convert.vegalite_to_png(chart, vl_version=vega_lite_version(), scale=2))
