"""Specifications of optimizers as text.

``name`` or ``name:setting=value,setting=value``.
"""

from __future__ import annotations

import re

__all__ = ["parse_settings"]


def parse_settings(specification: str, settings: str) -> dict[str, str]:
    """Parse ``setting=value,setting=value``.

    Commas within parentheses belong to the value.

    Args:
        specification: the whole specification, for the message.
        settings: its settings; "" for none.

    Raises:
        ValueError: a setting is not written in this form, or given twice.

    >>> parse_settings("adam:lr=.01,betas=(.9,.99)", "lr=.01,betas=(.9,.99)")
    {'lr': '.01', 'betas': '(.9,.99)'}
    """
    parsed = {}
    for part in re.split(r",(?![^(]*\))", settings) if settings else ():
        name, _, value = (text.strip() for text in part.partition("="))
        if not name or not value:
            raise ValueError(f"{specification}: settings are written name=value,name=value; got {part!r}")
        if name in parsed:
            raise ValueError(f"{specification}: {name} is given twice")
        parsed[name] = value
    return parsed
