"""Names of subsets: ``mnist[:10000]`` is mnist with its first 10,000 training images."""

from __future__ import annotations

import re

__all__ = ["split_subset", "subset"]


def subset(name: str, images: int) -> str:
    """Return the name of the data set ``name`` with its first ``images`` training images.

    >>> subset("mnist", 10000)
    'mnist[:10000]'
    """
    return f"{name}[:{images}]"


def split_subset(name: str) -> tuple[str, int | None]:
    """Split a name into the whole data set and the number of its training images, None for all of them.

    >>> split_subset("mnist[:10000]"), split_subset("mnist")
    (('mnist', 10000), ('mnist', None))
    """
    match = re.fullmatch(r"(.+)\[:(\d+)\]", name)
    return (match[1], int(match[2])) if match else (name, None)
