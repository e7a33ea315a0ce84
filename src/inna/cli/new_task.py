"""The command ``inna new-task``."""

from __future__ import annotations

import shlex
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import UsageError, checking
from inna.experiments.formatting import print_line
from inna.files import check_folder

__all__ = ["new_task"]


def new_task(
    file: Annotated[Path, Parameter(help="The file to write, such as my_task.py. An existing file is refused.")],
    /,
    *,
    kind: Annotated[
        Literal["classification", "regression", "text"],
        Parameter(help="Kind of task: class labels, numbers, or the next byte of a text."),
    ] = "classification",
) -> int:
    """Write a file with a task to start from.

    It runs as it is, on generated data; comments mark the parts to replace. Compare optimizers on it with
    inna compare --task FILE.
    """
    if file.suffix != ".py" or file.name == ".py":
        raise UsageError(f"the file's name must end in .py, got {str(file)!r}")
    skeleton = resources.files("inna").joinpath("cli", "skeletons", f"{kind}.py.txt").read_text(encoding="utf-8")
    name = shlex.quote(str(file))
    with checking():
        check_folder(file.parent)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as written:
            written.write(skeleton.replace("FILE", name))
    except FileExistsError:
        raise UsageError(f"{file} exists; give another name, or remove it first") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror or error}") from None
    console = Console()
    print_line(console, f"task: {file} ({kind})")
    print_line(console, "Replace the marked parts, or try it as it is:")
    print_line(console, f"  inna compare --task {name}")
    return 0
