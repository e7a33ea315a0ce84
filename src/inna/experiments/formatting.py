"""Numbers, durations and lists in words."""

from __future__ import annotations

import functools
import math
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from inna.streams import spell

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = [
    "DASH",
    "MINUS",
    "count",
    "decimals",
    "duration",
    "enumerate_words",
    "fixed",
    "percent",
    "plain",
    "print_line",
    "printable",
    "schedule",
    "seeds",
    "setting_name",
    "setting_value",
    "short",
    "signed",
    "slug",
]


MINUS = "\N{MINUS SIGN}"


DASH = "–"


def plain(text: str) -> str:
    r"""Return ``text`` on one line, with U+FFFD for control characters.

    A terminal would obey them.

    >>> plain("a\x1b[31mb")
    'a\ufffd[31mb'
    """
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") else c for c in text)


def short(value: float) -> str:
    """Format with three significant digits.

    >>> short(0.031623), short(-1.5), short(1234567.0), short(float("nan"))
    ('0.0316', '−1.5', '1.23e6', '–')
    """
    if not math.isfinite(value):
        return DASH if math.isnan(value) else f"{'' if value > 0 else MINUS}∞"
    text = f"{value:.3g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{value:.0f}" if 0 <= int(exponent) < 6 else f"{mantissa}e{int(exponent)}"
    return text.replace("-", MINUS)


def fixed(value: float, places: int) -> str:
    """Format with ``places`` decimals and a true minus sign.

    Very large or small numbers as `short` does.

    >>> fixed(0.98333, 3), fixed(-2.0, 1), fixed(1e9, 2), fixed(1e-9, 3)
    ('0.983', '−2.0', '1e9', '1e-9')
    """
    if not math.isfinite(value) or abs(value) >= 1e6 or 0 < abs(value) < 0.5 * 10**-places:
        return short(value).replace(f"e{MINUS}", "e-")
    return f"{value:.{places}f}".replace("-", MINUS)


def signed(value: float, places: int) -> str:
    """Format a difference with ``places`` decimals, and its sign unless it is 0.

    A very large one is formatted as `short` does.

    >>> signed(0.5, 1), signed(-0.5, 1), signed(-0.001, 1), signed(2e7, 1)
    ('+0.5', '−0.5', '0.0', '+2e7')
    """
    if not math.isfinite(value) or abs(value) >= 1e6:
        return f"+{short(value)}" if value > 0 else short(value)
    text = f"{abs(value):.{places}f}"
    return f"{'' if float(text) == 0 else '+' if value > 0 else MINUS}{text}"


def decimals(values: Iterable[float], spreads: Iterable[float] = ()) -> int:
    """Return the decimals of a column.

    Three digits of its least number, two of its median spread, 6 at most.

    >>> decimals([0.981, 0.97], spreads=[0.004, 0.005, 0.006]), decimals([12.0, 150.0]), decimals([])
    (4, 1, 3)
    """
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0]
    gaps = sorted(gap for gap in spreads if math.isfinite(gap) and gap > 0)
    places = 2 - math.floor(math.log10(min(sizes))) if sizes else 3
    if gaps:
        places = max(places, 1 - math.floor(math.log10(gaps[len(gaps) // 2])))
    return min(max(places, 0), 6)


def duration(seconds: float) -> str:
    """Format a length of time.

    >>> duration(0.21), duration(59.0), duration(125.0), duration(7380.0)
    ('0.21 s', '59 s', '2 min 5 s', '2 h 3 min')
    """
    if not math.isfinite(seconds):
        return DASH
    if seconds < 60:
        return f"{short(seconds) if seconds < 9.5 else round(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


@functools.lru_cache(maxsize=1024)
def slug(text: str, *, squeeze: bool = False) -> str:
    """Return the ASCII letters and digits of ``text`` for a file name.

    At most 40 characters; others become hyphens.

    Args:
        text: any text.
        squeeze: one hyphen for several, none at the ends.

    >>> slug("task.py:make (x)"), slug("task.py:make (x)", squeeze=True)
    ('task-py-make--x-', 'task-py-make-x')
    """
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
    return ("-".join(part for part in letters.split("-") if part) if squeeze else letters)[:40]


def count(n: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun.

    >>> count(1, "seed"), count(1797, "row")
    ('1 seed', '1,797 rows')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def percent(share: float) -> str:
    r"""Format a share in whole per cent, with a no-break space.

    >>> percent(0.95)
    '95\xa0%'
    """
    return f"{share:.0%}".replace("%", "\N{NO-BREAK SPACE}%") if math.isfinite(share) else DASH


def enumerate_words(words: Sequence[str], conjunction: str = "and") -> str:
    """Join words with commas and a conjunction.

    >>> enumerate_words(["a"]), enumerate_words(["a", "b", "c"], "or")
    ('a', 'a, b or c')
    """
    return f"{', '.join(words[:-1])} {conjunction} {words[-1]}" if len(words) > 1 else "".join(words)


def seeds(numbers: Sequence[int]) -> str:
    """Name seeds.

    >>> seeds([3]), seeds([1, 2, 3])
    ('seed 3', 'seeds 1, 2 and 3')
    """
    return f"seed{'s' if len(numbers) > 1 else ''} {enumerate_words([str(each) for each in numbers])}"


def schedule(decay: float | str) -> str:
    """Format the factor of the learning rate at iteration k.

    >>> schedule(0.0), schedule(0.5), schedule(0.25)
    ('constant', '1/√(k+1)', '(k+1)^−0.25')
    >>> schedule("linear"), schedule("hold")
    ('linear to 0', 'constant, then to 0')
    """
    if decay == "hold":
        return "constant, then to 0"
    if isinstance(decay, str):
        return f"{decay} to 0"
    if decay == 0:
        return "constant"
    return "1/√(k+1)" if decay == 0.5 else f"(k+1)^{MINUS}{decay:g}"


def setting_name(name: str) -> str:
    """Return the name of an optimizer's setting as reports show it.

    >>> setting_name("alpha"), setting_name("lr"), setting_name("momentum")
    ('α', 'γ', 'momentum')
    """
    return {"alpha": "α", "beta": "β", "lr": "γ"}.get(name, name)


def setting_value(value: object) -> str:
    """Return the value of an optimizer's setting as reports show it.

    >>> setting_value(0.95), setting_value((0.9, 0.999))
    ('0.95', '(0.9, 0.999)')
    """
    return f"{value:g}" if isinstance(value, float) else str(value)


def printable(text: str, console: Console) -> Text:
    """Return ``text`` for ``console`` without markup and control characters.

    Emoji codes are not replaced.

    Letters that the console's stream lacks are spelled: gamma, +-, ->.
    """
    from rich.text import Text

    return Text(spell(plain(text), console.encoding))


def print_line(console: Console, text: str) -> None:
    """Print ``text`` on one line as `printable` makes it, not highlighted."""
    console.print(printable(" ".join(text.replace("\t", " ").splitlines()), console), soft_wrap=True)
