"""Write to streams that lack letters, or whose reader has gone."""

from __future__ import annotations

import codecs
import contextlib
import io
import itertools
import os
import sys
import unicodedata

__all__ = ["close_streams", "spell", "spell_missing_letters"]

_ERRORS = "inna.spell"  # the name under which Python looks up the error handler
_SPELLINGS = {
    "\N{MINUS SIGN}": "-",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{PLUS-MINUS SIGN}": "+-",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{MIDDLE DOT}": "*",
    "\N{INFINITY}": "inf",
    "\N{NABLA}": "grad ",
    "\N{SQUARE ROOT}": "sqrt",
    "\N{VULGAR FRACTION ONE HALF}": "1/2",
    "\N{PRIME}": "'",
    "\N{DOUBLE PRIME}": "''",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{NOT EQUAL TO}": "!=",
    "\N{ALMOST EQUAL TO}": "~",
    "\N{WHITE LEFT-POINTING TRIANGLE}": "<",
    "\N{WHITE RIGHT-POINTING TRIANGLE}": ">",
    "\N{BLACK UP-POINTING TRIANGLE}": "^",
    "\N{LEFT SINGLE QUOTATION MARK}": "'",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "\N{LEFT DOUBLE QUOTATION MARK}": '"',
    "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
}


def spell(text: str, encoding: str) -> str:
    """Return ``text`` with the letters that ``encoding`` lacks written in plain ones.

    >>> spell("γ₀ ± β², café", "ascii"), spell("γ ± 1", "latin-1"), spell("γ", "utf-8")
    ('gamma0 +- beta^2, cafe', 'gamma ± 1', 'γ')
    >>> spell("1 − αγ → ∞", "ascii")
    '1 - alpha gamma -> inf'
    """
    try:
        return text.encode(encoding, _ERRORS).decode(encoding)
    except LookupError:
        return text.encode("ascii", _ERRORS).decode()


def spell_missing_letters() -> None:
    """Make stdout and stderr spell the letters that their encodings lack.

    As `spell` does.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_ERRORS)


def close_streams() -> None:
    """Write what stdout and stderr still hold.

    Drop it without a word where nobody reads it or no space is left.
    """
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError):  # Python flushes once more when it ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _spell_missing(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    spelled = [_spelling(letter) for letter in missing]
    # Of two names in a row, such as those of a product, neither must swallow the other.
    gaps = [" " if len(a) > 1 < len(b) and (a[-1] + b[0]).isalpha() else "" for a, b in itertools.pairwise(spelled)]
    return "".join(map("".join, zip(spelled, [*gaps, ""], strict=True))), error.end


def _spelling(letter: str) -> str:
    if letter in _SPELLINGS:
        return _SPELLINGS[letter]
    raised = "^" if unicodedata.decomposition(letter).startswith("<super>") else ""
    parts = [part for part in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(part)]
    return raised + "".join(part if part.isascii() else _name(part) for part in parts)


def _name(letter: str) -> str:
    words = unicodedata.name(letter, "").split()
    if words[:1] == ["GREEK"] and "LETTER" in words:
        return words[-1].lower() if "SMALL" in words else words[-1].capitalize()
    return _SPELLINGS.get(letter, "?")


codecs.register_error(_ERRORS, _spell_missing)
