"""The charting library as one script: Vega, Vega-Lite and Vega-Embed."""

from __future__ import annotations

import contextlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from inna.experiments.charts.drawing import vega_lite_version
from inna.files import DamagedFileError, read_document, write_document

__all__ = ["charting_library", "library_file"]


@cache
def charting_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one inline script.

    Its line ends are those that a browser hashes. Putting it together takes seconds, so it is kept in the user's cache
    folder. Without such a folder it is made again each time.
    """
    kept = library_file()
    with contextlib.suppress(OSError, DamagedFileError, KeyError):
        return _checked(str(read_document(kept)["script"]))
    source = _checked(_bundle())
    with contextlib.suppress(OSError):
        write_document(kept, {"script": source})
    return source


def library_file() -> Path:
    """Return the file that keeps the script of these versions."""
    import pooch

    name = f"vega-lite-{vega_lite_version()}-by-vl-convert-{version('vl-convert-python')}.json"
    return Path(pooch.os_cache("inna")) / "charts" / name


def _bundle() -> str:
    import vl_convert

    source = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version())
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _checked(source: str) -> str:
    if "</script" in source.lower() or "<!--" in source:
        raise RuntimeError("the bundle of vl-convert cannot be inlined: it contains a script or comment mark")
    return source
