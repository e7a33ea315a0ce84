"""The command ``inna reproduce``."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import (
    OUTPUT,
    BuiltinTask,
    BuiltinTaskOptions,
    DataFolder,
    DataFolderOptions,
    Show,
    Sweep,
    arguments,
    checking,
    default_folder,
    waiting,
)
from inna.cli.studies.run_study import DryRun, conclude, print_plan, run_study
from inna.experiments.formatting import print_line
from inna.experiments.study.options import DeviceOptions
from inna.experiments.sweep.options import SweepOptions

if TYPE_CHECKING:
    from inna.experiments.sweep.sweep import Failure

__all__ = ["reproduce"]


@dataclass(frozen=True, kw_only=True)
class DeviceArguments(DeviceOptions):
    device: str = "auto"


def reproduce(
    figure: Annotated[
        Literal["fig1", "fig2", "fig3", "fig4", "all"],
        Parameter(help="The figure of the paper; figures on one data set share their runs."),
    ] = "all",
    /,
    *,
    scale: Annotated[
        Literal["quick", "medium", "paper"],
        Parameter(
            help="quick: under 15 minutes on two cores (with a small part of the images for mnist and the networks "
            "beyond digits; the data set's name shows it). medium: 20 epochs, 3 seeds, all images. paper: 200 epochs, "
            "tuning over 15, 5 seeds."
        ),
    ] = "quick",
    refine: Annotated[
        Literal["quarters", "eighths"] | None,
        Parameter(
            help="Also try learning rates (γ₀) around the best of the grid: a quarter of a decade to both sides, and "
            "with eighths then an eighth around the best of these. [default: the grid of half-decades alone]"
        ),
    ] = None,
    initial_speed: Annotated[
        float,
        Parameter(
            help="s in INNA's initial velocity -s grad J(theta_0). The paper states 1; the authors' PyTorch code has "
            "beta, which is 0.1 in the recommended setting."
        ),
    ] = 1.0,
    compute: Annotated[DeviceArguments, Parameter(name="*")] = DeviceArguments(),
    dry_run: DryRun = False,
    show: Show = False,
    out: Annotated[
        Path | None,
        OUTPUT,
        Parameter(
            help="Folder for results and report. [default: runs/reproduce-DATASET-NETWORK-SCALE, with the initial "
            "speed if it is not 1; runs/reproduce-fig1 for fig1 alone]",
        ),
    ] = None,
    task: BuiltinTask = BuiltinTaskOptions(),
    data: DataFolder = DataFolderOptions(),
    sweep: Sweep = SweepOptions(),
) -> int:
    """Repeat the paper's experiments and judge its claims.

    Every optimizer is tuned as in the paper, the final seeds are run, and the figures are drawn. Figure 1 is INNA on a
    toy function and takes seconds. Figure 2 compares INNA's four (α, β), Figure 3 the best of them with SGD, AdaGrad
    and Adam (and, beyond the paper, heavy ball, AdamW and INNAprop), Figure 4 the powers of the learning rate's decay.
    Finished runs in the folder are not repeated, nor are those of the grid with --refine.
    """
    console = Console()
    with checking():
        sweep.check()
        compute.check_device()
        from inna.paper.protocol import FIGURES, INITIAL_SPEED
        from inna.paper.runs import described, study_of

        data.use()
        figures = FIGURES if figure == "all" else (figure,)
        command = shlex.join(arguments())
        with waiting(console, "loading" if figures == ("fig1",) else f"loading {task.name}"):
            study = study_of(
                figures,
                task.name,
                task.network,
                scale,
                device=compute.device,
                command=command,
                initial_speed=initial_speed,
                refinement={None: 0, "quarters": 4, "eighths": 8}[refine],
                load=not dry_run,
            )
    folder = out or (
        default_folder(
            task.name,
            study.model,
            scale,
            "" if initial_speed == INITIAL_SPEED else f"speed{initial_speed:g}",
            beginning="reproduce",
        )
        if study
        else default_folder("-".join(["reproduce", *figures]))
    )
    if dry_run:
        if "fig1" in figures:
            print_line(console, "fig1: six descents of 88,000 iterations on the toy function, a few seconds")
        if study is not None:
            print_plan(study, folder, console, sweep)
        return 0
    if "fig1" in figures:
        from inna.paper.descents import descend

        with waiting(console, "fig1: 88,000 iterations on the toy function"):
            descents = descend(folder)
        for descent in descents:
            dips = ", ".join(map(str, descent.dips)) or "none"
            print_line(
                console, f"fig1 {descent.label} {descent.name}, initial speed {descent.initial_speed:g}: dips at {dips}"
            )
    from inna.paper.page import write_reproduction

    pages: list[Path] = []
    failures: list[Failure] = []
    if study is not None:
        pages, failures = run_study(study, folder, console, sweep, description=described(study, folder))
    if pages or "fig1" in figures:
        print_line(console, "Writing reproduction.html.")
        pages.append(write_reproduction(folder))
    return conclude(console, pages, failures, show=show)
