"""Colours, dashes and shapes of optimizers, distinct for colour-blind readers.

An optimizer has the same on every page, for light and for dark backgrounds. INNA's variants are one family: blue, and
different in lightness, dash and shape. Every other optimizer has a colour of its own, in part those of Okabe and Ito
("Color Universal Design", 2008), darkened on a light background and lightened on a dark one to a contrast of at least
3:1 (WCAG 2, criterion 1.4.11).
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

__all__ = [
    "BOTH",
    "DARK",
    "LIGHT",
    "Style",
    "Theme",
    "assign",
    "in_theme",
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
# What is drawn in it holds the colours of both; `in_theme` chooses.
BOTH = Theme(
    "both", *(f"{getattr(LIGHT, name)}|{getattr(DARK, name)}" for name in ("background", "text", "muted", "line"))
)
_BOTH = re.compile(r"(#[0-9a-f]{6})\|(#[0-9a-f]{6})")


def in_theme(text: str, theme: Theme) -> str:
    """Replace the colours of `BOTH` in ``text`` by those of ``theme``.

    >>> in_theme('{"color": "#1b1f24|#e8ecf1"}', DARK)
    '{"color": "#e8ecf1"}'
    """
    return _BOTH.sub(r"\2" if theme is DARK else r"\1", text)


@dataclass(frozen=True)
class Style:
    """The style of one optimizer.

    A colour per theme, a dash pattern in pixels, a Vega symbol, and the name of its family, if it has one.
    """

    light: str
    dark: str
    dash: tuple[int, ...]
    shape: str
    family: str = ""

    def color(self, theme: Theme) -> str:
        """Return the colour for ``theme``."""
        if theme is BOTH:
            return f"{self.light}|{self.dark}"
        return self.dark if theme is DARK else self.light


# Colours for light and dark pages, and the place of a dash and a shape.
_Place = tuple[tuple[str, str], int]

_DASHES = ((1, 0), (7, 3), (2, 2), (9, 3, 2, 3))
_SHAPES = ("circle", "square", "diamond", "triangle-up")
_BLUES = (("#0072b2", "#3fb2f2"), ("#0a2f7a", "#8fbcff"), ("#3f7fe0", "#7f8fff"), ("#5089b8", "#5f9fd0"))
# Label -> place of the colour among the blues, and of the dash.
_INNA = {
    "INNA (0.5, 0.1)": (0, 0),
    "INNA (0.5, 0.5)": (1, 1),
    "INNA (0.1, 0.1)": (2, 2),
    "INNA (0.5, 1)": (3, 3),
    "INNA (0.5, 0.1), q = 1/4": (3, 1),
    "INNA (0.5, 0.1), q = 1/8": (1, 2),
    "INNA (0.5, 0.1), q = 1/16": (2, 3),
}
_COLORS = {
    "sgd": ("#4a4a4a", "#d6d6d6"),
    "gd": ("#4a4a4a", "#d6d6d6"),
    "heavy-ball": ("#c2559d", "#e79cc9"),
    "nesterov": ("#8a4b2a", "#d2a07a"),
    "adagrad": ("#008a65", "#1fc796"),
    "adam": ("#d55e00", "#ff8b3d"),
    "adamw": ("#a87b00", "#f0c000"),
    "rmsprop": ("#5f6b00", "#c0d13a"),
    "innaprop": ("#6b1f5e", "#9a5cff"),
    "innaprop-lr-free": ("#9c27b0", "#d98ff0"),
    "muon-adamw": ("#b0003a", "#ff7f9f"),
    "schedule-free-adamw": ("#007c85", "#39d0d8"),
    "prodigy": ("#7a5195", "#b794f4"),
    "dog": ("#3f7a1f", "#9ccf5a"),
    "momo": ("#2c5aa0", "#8fb8ff"),
}
# For optimizers without a colour of their own.
_OTHERS = (("#a3246f", "#ff8ac4"), ("#2f6f4f", "#8fd0b8"), ("#9a3b00", "#ffb27a"), ("#6d6a00", "#d8cf5a"))


def assign(contenders: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """Return label -> style for pairs (label, optimizer).

    The style of an optimizer without a fixed one begins at a place that its label decides, and moves on where that is
    taken, so that no two have the same colour and dash.
    """
    pairs = list(contenders)
    styles: dict[str, Style] = {}
    # Fixed styles first, so that no other takes them.
    for label, optimizer in sorted(pairs, key=lambda pair: _fixed(*pair) is None):
        fixed, family = _fixed(label, optimizer), "INNA" if _is_inna(optimizer) else ""
        if fixed is None or _used(fixed, styles.values()):
            fixed = _first_free(label, optimizer, styles.values())
        colors, turn = fixed
        styles[label] = Style(*colors, _DASHES[turn], _SHAPES[turn], family)
    return {label: styles[label] for label, _ in pairs}


def _is_inna(optimizer: str) -> bool:
    return optimizer.lower().startswith("inna") and not optimizer.lower().startswith("innaprop")


def _fixed(label: str, optimizer: str) -> _Place | None:
    """Return the style that an optimizer has on every page; None without one."""
    if label in _INNA and _is_inna(optimizer):
        blue, turn = _INNA[label]
        return _BLUES[blue], turn
    own = _COLORS.get(optimizer.lower())
    return None if own is None or "=" in label else (own, 0)


def _used(place: _Place, taken: Collection[Style]) -> bool:
    return any((style.light, style.dash) == (place[0][0], _DASHES[place[1]]) for style in taken)


def _first_free(label: str, optimizer: str, taken: Collection[Style]) -> _Place:
    """Return a style that is not taken.

    If possible of a dash that no similar one has.
    """
    own = _COLORS.get(optimizer.lower())
    similar = _BLUES if _is_inna(optimizer) else (own,) if own else _OTHERS
    dashes = {style.dash for style in taken if (style.light, style.dark) in similar}
    places = _turned(label, similar)
    fresh = [place for place in places if _DASHES[place[1]] not in dashes]
    every = [*fresh, *places, *_turned(label, [*_OTHERS, *_COLORS.values()])]
    return next((place for place in every if not _used(place, taken)), places[0])


def _turned(label: str, colors: Sequence[tuple[str, str]]) -> list[_Place]:
    places = [(each, turn) for turn in range(len(_DASHES)) for each in colors]
    start = zlib.crc32(label.encode()) % len(places)
    return places[start:] + places[:start]
