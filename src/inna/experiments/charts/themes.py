"""Colours, dashes and shapes of optimizers, distinct for colour-blind readers.

There are sets for light and for dark backgrounds.

INNA and its variants are blue and differ by lightness, dash and shape; the reference is grey; every other optimizer
takes the next colour of Okabe and Ito ("Color Universal Design", 2008), darkened on a light background and lightened on
a dark one to a contrast of at least 3:1 (WCAG 2, criterion 1.4.11).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "DARK",
    "LIGHT",
    "Style",
    "Theme",
    "assign",
]


@dataclass(frozen=True)
class Theme:
    """The colours of a page around its marks, as #rrggbb."""

    name: str
    background: str
    text: str
    muted: str
    line: str


LIGHT = Theme("light", background="#ffffff", text="#1b1f24", muted="#57606a", line="#d8dee4")
DARK = Theme("dark", background="#14181d", text="#e8ecf1", muted="#9aa5b1", line="#2c343d")


@dataclass(frozen=True)
class Style:
    """The style of one optimizer.

    A colour per theme, a dash pattern in pixels, a Vega symbol.
    """

    light: str
    dark: str
    dash: tuple[int, ...]
    shape: str

    def color(self, theme: Theme) -> str:
        """Return the colour for ``theme``."""
        return self.dark if theme is DARK else self.light


_SOLID = (1, 0)
_DASHES = (_SOLID, (7, 3), (2, 2), (9, 3, 2, 3))
_SHAPES = ("circle", "square", "diamond", "triangle-up")
_BLUES = (("#0a2f7a", "#8fbcff"), ("#0072b2", "#3fb2f2"), ("#3f7fe0", "#7f8fff"), ("#5089b8", "#5f9fd0"))
_REFERENCE = ("#4a4a4a", "#d6d6d6")
_OTHERS = (
    ("#c2559d", "#e79cc9"),  # reddish purple
    ("#008a65", "#1fc796"),  # bluish green
    ("#d55e00", "#ff8b3d"),  # vermilion
    ("#a87b00", "#f0c000"),  # yellow, darkened to ochre on white
    ("#7a5195", "#b794f4"),  # beyond Okabe and Ito: violet
    ("#8a4b2a", "#d2a07a"),  # and brown
)


def assign(contenders: Iterable[tuple[str, str]], reference: str) -> dict[str, Style]:
    """Return label -> style for pairs (label, optimizer).

    ``reference`` is one of the labels.
    """
    chosen: dict[str, Style] = {}
    blues = others = 0
    for label, optimizer in contenders:
        if optimizer.lower().startswith("inna"):
            colors, turn = _BLUES[blues % len(_BLUES)], blues + blues // len(_BLUES)
            blues += 1
        elif label == reference:
            colors, turn = _REFERENCE, 0
        else:
            colors, turn = _OTHERS[others % len(_OTHERS)], others // len(_OTHERS)
            others += 1
        chosen[label] = Style(*colors, _DASHES[turn % len(_DASHES)], _SHAPES[turn % len(_SHAPES)])
    return chosen
