"""``inna reproduce``: the figures of the paper."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console

from inna.cli.messages import checking, say
from inna.cli.options import Jobs, default_folder, processes

__all__ = ["reproduce"]


def reproduce(
    figure: Annotated[
        Literal["fig1", "fig2", "fig3", "fig4", "all"],
        Parameter(help="Which figure of the paper; figures on one data set share their runs."),
    ] = "all",
    /,
    *,
    dataset: Annotated[str, Parameter(help="A built-in data set; inna compare --help names them.")] = "digits",
    model: Annotated[
        str, Parameter(help="The network, such as nin or lenet5. [default: the data set's first]", show_default=False)
    ] = "",
    scale: Annotated[
        Literal["quick", "medium", "paper"],
        Parameter(
            help="quick: under 15 minutes on two cores (of mnist and the networks beyond digits a small part of the "
            "images, as the data set's name then says). medium: 20 epochs, 3 seeds, all images. paper: 200 epochs, "
            "tuning over 15, 5 seeds."
        ),
    ] = "quick",
    device: Annotated[str, Parameter(help="cpu, cuda, cuda:1, ..., or auto: a GPU where there is one.")] = "auto",
    jobs: Jobs = None,
    dry_run: Annotated[
        bool, Parameter(help="List the runs and estimate their time from a few iterations of each; run nothing.")
    ] = False,
    out: Annotated[
        Path | None, Parameter(help="Folder of rows and report. [default: runs/reproduce-DATASET-NETWORK-SCALE]")
    ] = None,
) -> int:
    """Repeat the paper's experiments: tune every optimizer as the paper does, run the seeds, draw the figures.

    Figure 1 is INNA on a toy function and takes seconds. Figure 2 compares INNA's four (α, β), Figure 3 the best of them
    with SGD, AdaGrad and Adam (and, beyond the paper, heavy ball, AdamW and INNAprop), Figure 4 the powers of the
    step-size decay. Rows that the folder holds already are not run again.
    """
    with checking():
        from inna.experiments.protocol import FIGURES
        from inna.experiments.reproducing import Reproduction

        wanted = FIGURES if figure == "all" else (figure,)
        plan = Reproduction.plan(
            wanted, dataset, model, scale, device=device, command=shlex.join(["inna", *sys.argv[1:]])
        )
        at_once = processes(jobs, plan.device)
    folder = out or Path("runs") / f"reproduce-{dataset}-{plan.model}-{scale}"
    console = Console()
