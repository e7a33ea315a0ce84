"""Write the files of a landscape: a self-contained page and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from inna.checks import did_you_mean
from inna.experiments.charts.drawing import vega_lite_version
from inna.experiments.charts.page import chart_page
from inna.experiments.charts.themes import LIGHT
from inna.experiments.formatting import count, enumerate_words
from inna.files import remove_abandoned, write_whole
from inna.landscape.picture import Picture, figure, path_summaries, still

__all__ = ["FORMATS", "check_formats", "write_picture"]

FORMATS = ("html", "png", "svg")
# Pixels of a PNG per pixel of the page.
PNG_SCALE = 2


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return ``formats`` without repetitions.

    Raises:
        ValueError: one is not in `FORMATS`, or there is none.

    >>> check_formats(["svg", "html", "svg"])
    ('svg', 'html')
    """
    wanted = tuple(dict.fromkeys(formats))
    if not wanted or not set(wanted) <= set(FORMATS) or isinstance(formats, str):
        near = next((near for each in wanted if each not in FORMATS and (near := did_you_mean(each, FORMATS))), "")
        raise ValueError(f"formats must be of {enumerate_words(FORMATS)}, got {', '.join(wanted) or 'none'}{near}")
    return wanted


def write_picture(picture: Picture, folder: Path, formats: Sequence[str], command: Sequence[str] = ()) -> list[Path]:
    """Write landscape.html, landscape.png or landscape.svg into ``folder``.

    Each file is written under a temporary name first, then renamed. The page needs no network.

    Args:
        picture: what to draw.
        folder: created if it does not exist.
        formats: any of `FORMATS`.
        command: the command line, shown on the page.

    Returns:
        The paths of the files.

    Raises:
        ValueError: as `check_formats`.
    """
    import vl_convert

    remove_abandoned(folder)
    panels = figure(picture)
    paths = []
    for format_ in check_formats(formats):
        if format_ == "html":
            content = _page(picture, command).encode()
        elif format_ == "png":
            content = vl_convert.vegalite_to_png(
                still(picture, panels, LIGHT), vl_version=vega_lite_version(), scale=PNG_SCALE
            )
        else:
            content = vl_convert.vegalite_to_svg(still(picture, panels, LIGHT), vl_version=vega_lite_version()).encode()
        path = folder / f"landscape.{format_}"
        write_whole(path, content)
        paths.append(path)
    return paths


def _page(picture: Picture, command: Sequence[str]) -> str:
    panels = figure(picture)
    start = ", ".join(f"{coordinate:g}" for coordinate in picture.paths[0].theta[0])
    named = enumerate_words([path.optimizer.label for path in picture.paths])
    return chart_page(
        "landscape/landscape.html",
        title=f"{panels.title}: {named}",
        styles=picture.styles,
        figures=[panels],
        heading=panels.title,
        lead=f"{named} from ({start}), {count(picture.steps, 'iteration')} on the exact gradient.",
        summaries=path_summaries(picture),
        command=shlex.join(command),
    )
