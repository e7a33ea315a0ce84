"""The site's pictures and stand-alone pages, made at each build from the rows in results/ and from code."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from sphinx.application import Sphinx
from sphinx.util import logging

from inna.cli import app
from inna.theory.figure1 import RECOVERED

RESULTS = Path(__file__).resolve().parents[2] / "results"
SOURCE = Path(__file__).resolve().parents[2] / "src" / "inna"
COMMANDS = ("", *(name for name in app if not name.startswith("-")))
COMPARISONS = ("digits", "diabetes", "mnist-lenet")
TABLE_WIDTH = 80  # characters
# Name of a picture -> the arguments of `inna landscape`.
LANDSCAPES: dict[str, dict[str, Any]] = {
    **{
        f"figure-1-{curve.panel}": {
            "scene": "rosenbrock-v",
            "dampings": (curve.alpha, curve.beta),
            "speed": curve.initial_speed,
            "beside": (),
        }
        for curve in RECOVERED
    },
    "double-well": {
        "scene": "double-well",
        "dampings": (0.5, 0.1),
        "speed": None,
        "beside": ("gd", "heavy-ball", "adam"),
    },
    "beale": {"scene": "beale", "dampings": (0.5, 0.1), "speed": None, "beside": ("gd", "heavy-ball", "nesterov")},
    "spurious-corner": {"scene": "spurious-corner", "dampings": (0.5, 0.1), "speed": None, "beside": ("gd", "adam")},
}
# The one whose paths are on the first page, and its height there in pixels.
FIRST, FIRST_HEIGHT = "double-well", 320
log = logging.getLogger(__name__)


def draw(app: Sphinx) -> None:
    """Write everything in docs/_generated; repeat it where a row or the code that draws has changed since."""
    out = Path(app.srcdir) / "_generated"
    made = _sources()
    stamp = out / "made-of.txt"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == made:
        return
    shutil.rmtree(out, ignore_errors=True)
    (out / "alone").mkdir(parents=True)
    _help(out)
    for name in COMPARISONS:
        log.info("drawing %s", name)
        _comparison(RESULTS / name, out)
    for name, settings in LANDSCAPES.items():
        log.info("drawing %s", name)
        _landscape(name, out, **settings)
    _stability(out)
    _playground(out / "alone" / "playground.html")
    stamp.write_text(made, encoding="utf-8")


def _sources() -> str:
    """A digest of everything that the pictures are made of."""
    digest = hashlib.sha256()
    code = [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".js", ".css", ".html")]
    for path in sorted([*RESULTS.rglob("*.json"), *RESULTS.rglob("*.jsonl"), *code, Path(__file__)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _help(out: Path) -> None:
    """Write the --help of every command."""
    for command in COMMANDS:
        words = [sys.executable, "-m", "inna", *([command] if command else []), "--help"]
        # Wide enough that no default is broken, narrow enough for the page.
        environment = {**os.environ, "COLUMNS": "88", "PYTHONPATH": str(SOURCE.parent)}
        done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
        (out / f"help{'-' if command else ''}{command}.txt").write_text(done.stdout, encoding="utf-8")


def _save(specification: dict[str, Any], path: Path) -> None:
    import vl_convert

    from inna.experiments.charts.drawing import vega_lite_version
    from inna.files import write_whole

    write_whole(path, vl_convert.vegalite_to_svg(specification, vl_version=vega_lite_version()).encode())


def _comparison(folder: Path, out: Path) -> None:
    from inna.experiments.charts.drawing import still
    from inna.experiments.charts.themes import DARK, LIGHT
    from inna.experiments.report.figures import figures
    from inna.experiments.report.page import build_page
    from inna.experiments.report.terminal import print_table
    from inna.experiments.statistics.read import open_results

    results = open_results(folder)
    for figure in figures(results.summary):
        for theme in (LIGHT, DARK):
            _save(still(figure, theme), out / f"{folder.name}-{figure.name}-{theme.name}.svg")
    (out / "alone" / f"report-{folder.name}.html").write_text(build_page(results), encoding="utf-8")
    table = io.StringIO()
    print_table(results.summary, Console(file=table, width=TABLE_WIDTH))
    lines = [line.rstrip() for line in table.getvalue().rstrip().splitlines()]
    (out / f"{folder.name}-table.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _landscape(
    name: str, out: Path, scene: str, dampings: tuple[float, float], speed: float | None, beside: tuple[str, ...]
) -> None:
    from inna.experiments.charts import drawing
    from inna.experiments.charts.themes import DARK, LIGHT
    from inna.landscape.optimizers import make_optimizer, parse_optimizer
    from inna.landscape.paths import follow
    from inna.landscape.picture import Picture, figure, still
    from inna.landscape.scenes import find_scene

    found = find_scene(scene)
    alpha, beta = dampings
    inna = make_optimizer("inna", found.lr, alpha, {"beta": beta, "initial_speed": speed})
    contenders = [inna, *(parse_optimizer(text, inna) for text in beside)]
    picture = Picture(found, found.frame, follow(found, contenders, found.start, found.steps), found.steps)
    drawn = figure(picture)
    for theme in (LIGHT, DARK):
        _save(still(picture, drawn, theme), out / f"{name}-{theme.name}.svg")
        if name == FIRST:
            plane = replace(drawn, panels=(replace(drawn.panels[0], height=FIRST_HEIGHT),))
            _save(drawing.still(plane, theme), out / f"first-{theme.name}.svg")


def _stability(out: Path) -> None:
    """The largest stable step size over the curvature, for the paper's dampings."""
    import altair as alt
    import numpy as np

    from inna.experiments.charts.drawing import configuration, log_axis
    from inna.experiments.charts.themes import DARK, LIGHT, assign
    from inna.theory.stability import max_lr

    pairs = [(0.1, 0.1), (0.5, 0.1), (0.5, 0.5), (0.5, 1.0)]
    curvatures = np.geomspace(1e-2, 1e4, 121)
    rows = [
        {"dampings": f"({alpha:g}, {beta:g})", "curvature": float(curvature), "lr": float(bound)}
        for alpha, beta in pairs
        for curvature, bound in zip(curvatures, max_lr(alpha, beta, curvatures), strict=True)
    ]
    labels = [f"({alpha:g}, {beta:g})" for alpha, beta in pairs]
    styles = assign([(label, "inna") for label in labels])
    for theme in (LIGHT, DARK):
        chart = (
            alt.Chart(alt.Data(values=rows))
            .mark_line(strokeWidth=2)
            .encode(
                x=alt.X("curvature:Q", title="curvature λ (log)", scale=alt.Scale(type="log"), axis=log_axis()),
                y=alt.Y("lr:Q", title="largest stable γ (log)", scale=alt.Scale(type="log"), axis=log_axis()),
                color=alt.Color(
                    "dampings:N",
                    title="(α, β)",
                    scale=alt.Scale(domain=labels, range=[styles[label].color(theme) for label in labels]),
                ),
                strokeDash=alt.StrokeDash(
                    "dampings:N",
                    title="(α, β)",
                    scale=alt.Scale(domain=labels, range=[list(styles[label].dash) for label in labels]),
                ),
            )
            .properties(width=560, height=300)
            .configure(**configuration(theme), background=theme.background)
        )
        _save(chart.to_dict(), out / f"stability-{theme.name}.svg")


def _playground(path: Path) -> None:
    from inna.landscape.playground.page import LESSONS, write_playground

    write_playground(path, LESSONS[0].opening)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
