"""The command ``inna landscape``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from inna.cli.options import OUTPUT, Show, arguments, checking, listed, open_pages
from inna.dynamics import INNA_DEFAULTS
from inna.experiments.formatting import print_line

__all__ = ["landscape"]


def landscape(
    *,
    objective: Annotated[
        str,
        Parameter(
            help="rosenbrock-v, rosenbrock, beale, double-well, monkey-saddle, spurious-corner, quadratic, or a "
            "quadratic of given eigenvalues: quadratic:1,25."
        ),
    ] = "rosenbrock-v",
    alpha: Annotated[float, Parameter(help="INNA's viscous damping, >= 0.")] = INNA_DEFAULTS.alpha,
    beta: Annotated[float, Parameter(help="INNA's Newtonian damping, >= 0.")] = INNA_DEFAULTS.beta,
    lr: Annotated[
        float | None,
        Parameter(help="Learning rate (γ) of INNA; others derive theirs from it. [default: the objective's]"),
    ] = None,
    initial_speed: Annotated[
        float | None, Parameter(help="The s of INNA's initial velocity -s ∇J. [default: beta, as in the authors' code]")
    ] = None,
    loss_bound: Annotated[
        float | None,
        Parameter(help="The f* <= min J of INNA's guard, which cuts steps that are too long. [default: no guard]"),
    ] = None,
    q: Annotated[
        float, Parameter(help="Power q >= 0 of the decay γ (k+1)^-q, for every optimizer; 0 is constant.")
    ] = 0.0,
    start: Annotated[
        tuple[float, float] | None, Parameter(help="Initial point, such as -1 1.5. [default: the objective's]")
    ] = None,
    steps: Annotated[int | None, Parameter(help="Iterations. [default: the objective's]")] = None,
    beside: Annotated[
        tuple[str, ...],
        Parameter(
            help="An optimizer beside INNA; repeat the option for each: gd, heavy-ball, nesterov, adam, or another "
            "inna, with settings as in adam:lr=.01, heavy-ball:momentum=.9, inna:alpha=1.3; or none. Without an lr, gd "
            "and adam take γ, heavy-ball and nesterov γ² and momentum 1 - αγ.",
        ),
    ] = ("gd", "heavy-ball", "adam"),
    frame: Annotated[
        tuple[float, float, float, float] | None,
        Parameter(help="The region shown: left right bottom top. [default: the objective's, and the start]"),
    ] = None,
    formats: Annotated[
        tuple[str, ...],
        listed(str),
        Parameter(help="Files to write: html, png, svg."),
    ] = ("html",),
    interactive: Annotated[
        bool,
        Parameter(help="Write playground.html instead, a page with sliders that runs the optimizers in the browser."),
    ] = False,
    show: Show = False,
    out: Annotated[
        Path | None, OUTPUT, Parameter(help="Folder of the files. [default: runs/landscape-OBJECTIVE]")
    ] = None,
) -> int:
    """Draw the paths of INNA and other optimizers on a landscape.

    The page has the loss and the energy, too. Needs no torch.

    The paper's Figure 1: inna landscape --alpha .3 --beta .1 --initial-speed .1.
    """
    from rich.progress import Progress

    console = Console()
    with checking():
        from inna.landscape.optimizers import distinguish, make_optimizer, parse_optimizer
        from inna.landscape.paths import check_course, follow
        from inna.landscape.picture import Picture, path_summaries
        from inna.landscape.playground.page import Opening, write_playground
        from inna.landscape.scenes import Frame, find_scene
        from inna.landscape.write import check_formats, write_picture

        scene = find_scene(objective)
        folder = out or Path("runs") / f"landscape-{scene.stem}"
        gamma = scene.lr if lr is None else lr
        origin = start or scene.start
        total = scene.steps if steps is None else steps
        check_course(origin, total, q)
        inna_itself = make_optimizer(
            "inna", gamma, alpha, {"beta": beta, "initial_speed": initial_speed, "loss_bound": loss_bound}
        )
        others = [parse_optimizer(text, inna_itself) for text in beside if text != "none"]
        optimizers = distinguish([inna_itself, *others])
        shown = Frame(*frame) if frame else scene.frame.around(origin)
        wanted = check_formats(formats)
        if interactive:
            if wanted != ("html",):
                raise ValueError(f"--interactive writes html alone, got --formats {','.join(wanted)}")
            opening = Opening(
                replace(scene, frame=shown),
                alpha,
                beta,
                lr=gamma,
                initial_speed=initial_speed,
                q=q,
                start=origin,
                steps=steps,
                beside=[text for text in beside if text != "none"],
                loss_bound=loss_bound,
            )
    if interactive:
        page = write_playground(folder / "playground.html", opening)
        print_line(console, f"html: {page}")
        return _conclude([page], show)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("iterations", total=total)
        paths = follow(scene, optimizers, origin, total, q=q, on_progress=lambda done: bar.update(task, completed=done))
    picture = Picture(scene, shown, paths, total, q)
    for label, settings, end in path_summaries(picture):
        print_line(console, f"{label}, {settings}: {end}")
    files = write_picture(picture, folder, wanted, arguments())
    for path in files:
        print_line(console, f"{path.suffix[1:]}: {path}")
    return _conclude([path for path in files if path.suffix == ".html"], show)


def _conclude(pages: Sequence[Path], show: bool) -> int:
    if show:
        open_pages(pages)
    return 0
