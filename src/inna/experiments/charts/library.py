"""The charting library as one script: Vega, Vega-Lite and Vega-Embed."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version

from inna.experiments.charts.drawing import vega_lite_version
from inna.experiments.kept import kept

__all__ = ["charting_library", "library_file_name"]


@cache
def charting_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one inline script.

    Its line ends are those that a browser hashes. Putting it together takes seconds, so it is kept.
    """
    return str(kept(library_file_name(), lambda: _checked(_bundle())))


def library_file_name() -> str:
    """Return the name under which the script of these versions is kept."""
    return f"charts/vega-lite-{vega_lite_version()}-by-vl-convert-{version('vl-convert-python')}.json"


def _bundle() -> str:
    import vl_convert

    source = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=vega_lite_version())
    return source.replace("\r\n", "\n").replace("\r", "\n")


def _checked(source: str) -> str:
    if "</script" in source.lower() or "<!--" in source:
        raise RuntimeError("the bundle of vl-convert cannot be inlined: it contains a script or comment mark")
    return source
