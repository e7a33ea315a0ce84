"""Write figures as PNG and SVG files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from inna.checks import did_you_mean
from inna.experiments.charts.drawing import Figure, still, vega_lite_version
from inna.experiments.charts.themes import LIGHT
from inna.experiments.formatting import enumerate_words
from inna.files import remove_abandoned, write_whole

__all__ = ["FORMATS", "check_formats", "write_pictures"]

FORMATS = ("png", "svg")
# Pixels of a PNG per pixel of the page: enough to print at the width of a column.
PNG_SCALE = 3


def check_formats(formats: Sequence[str]) -> tuple[str, ...]:
    """Return the formats without repetitions.

    Raises:
        ValueError: one is unknown.
    """
    if isinstance(formats, str) or any(format_ not in FORMATS for format_ in formats):
        raise ValueError(f"formats must be of {enumerate_words(FORMATS)}, got {formats!r}{_near(formats)}")
    return tuple(dict.fromkeys(formats))


def _near(formats: Sequence[str]) -> str:
    return next((near for each in formats if each not in FORMATS and (near := did_you_mean(each, FORMATS))), "")


def write_pictures(
    figures: Iterable[Figure], folder: Path, formats: Sequence[str], *, prefix: str = "", scale: int = PNG_SCALE
) -> list[Path]:
    """Write each figure into ``folder`` on white, and return the paths.

    The files are named PREFIXNAME.png or .svg.

    Args:
        figures: to be written.
        folder: created if it does not exist.
        formats: of "png" and "svg".
        prefix: of the names.
        scale: pixels of a PNG per pixel of the page.

    Raises:
        ValueError: an unknown format.
    """
    import vl_convert

    remove_abandoned(folder)
    paths = []
    for figure in figures:
        specification = still(figure, LIGHT)
        for format_ in check_formats(formats):
            path = folder / f"{prefix}{figure.name}.{format_}"
            if format_ == "png":
                content = vl_convert.vegalite_to_png(specification, vl_version=vega_lite_version(), scale=scale)
            else:
                content = vl_convert.vegalite_to_svg(specification, vl_version=vega_lite_version()).encode()
            write_whole(path, content)
            paths.append(path)
    return paths
