"""The files of a landscape: a page that stands on its own, and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from inna.experiments.charts.drawing import vega_lite_version
from inna.experiments.charts.page import chart_page
from inna.experiments.charts.themes import LIGHT
from inna.experiments.formatting import count, enumerate_words
from inna.files import write_whole
from inna.landscape import optimizers
from inna.landscape.portrait import Portrait, figure, still, travels

__all__ = ["FORMATS", "check_formats", "write_portrait"]

FORMATS = ("html", "png", "svg")
# Pixels of a PNG per pixel of the page.
PNG_SCALE = 2


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """``formats`` without repetitions, if all are known.

    Raises:
        ValueError: one is not of `FORMATS`, or there is none.

    >>> check_formats(["svg", "html", "svg"])
    ('svg', 'html')
    """
    wanted = tuple(dict.fromkeys(formats))
    if not wanted or not set(wanted) <= set(FORMATS) or isinstance(formats, str):
        raise ValueError(f"formats must be of {enumerate_words(FORMATS)}, got {', '.join(wanted) or 'none'}")
    return wanted


def write_portrait(portrait: Portrait, folder: Path, formats: Sequence[str], command: Sequence[str] = ()) -> list[Path]:
    """Write landscape.html, landscape.png and landscape.svg, as asked for, into ``folder``.

    Each is written under a temporary name first, then renamed. The page needs no network.

    Args:
        portrait: what to draw.
        folder: made if it is not there.
        formats: of `FORMATS`.
        command: the words that make it again, shown on the page.

    Returns:
        The paths of the files.

    Raises:
        ValueError: as `check_formats`.
    """
    import vl_convert

    drawn = figure(portrait)
    paths = []
    for format_ in check_formats(formats):
        if format_ == "html":
            content = _page(portrait, command).encode()
        elif format_ == "png":
            content = vl_convert.vegalite_to_png(
                still(portrait, drawn, LIGHT), vl_version=vega_lite_version(), scale=PNG_SCALE
            )
        else:
            content = vl_convert.vegalite_to_svg(still(portrait, drawn, LIGHT), vl_version=vega_lite_version()).encode()
        path = folder / f"landscape.{format_}"
        write_whole(path, content)
        paths.append(path)
    return paths


def _page(portrait: Portrait, command: Sequence[str]) -> str:
    drawn = figure(portrait)
    start = ", ".join(f"{coordinate:g}" for coordinate in portrait.paths[0].theta[0])
    named = enumerate_words([path.contender.label for path in portrait.paths])
    return chart_page(
        "landscape/landscape.html",
        title=f"{drawn.title}: {named}",
        styles=portrait.styles,
        figures=[drawn],
        heading=drawn.title,
        lead=f"{named} from ({start}), {count(portrait.steps, 'iteration')} on the exact gradient.",
        travels=travels(portrait),
        command=shlex.join(command),
        method=" ".join((optimizers.__doc__ or "").split("\n\n", 1)[1].split()),
    )
