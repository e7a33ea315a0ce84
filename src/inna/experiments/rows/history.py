"""The history of a run: its measurements after each epoch, kept in columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

__all__ = ["History", "by_column"]

Entry = Mapping[str, Any]


class History(Sequence[Entry]):
    """Measurements with the same names after each epoch, in little memory.

    They take a fifth of a list of dictionaries.

    Reads as that list does: each entry is a dictionary, epoch 0 (before training) is the first. ``list(history)`` makes
    the list.

    >>> history = History({"epoch": [0, 1], "train_loss": [2.3, 0.4]})
    >>> len(history), history[-1]["train_loss"]
    (2, 0.4)
    >>> history == [{"epoch": 0, "train_loss": 2.3}, {"epoch": 1, "train_loss": 0.4}]
    True
    """

    __slots__ = ("_columns", "_length")

    def __init__(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Store ``columns``: for each name its values, by epoch.

        Raises:
            ValueError: the columns have different lengths.
        """
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise ValueError("the columns of a history must have the same length")
        self._columns = {name: _compact(values) for name, values in columns.items()}
        self._length = max(lengths, default=0)

    @property
    def columns(self) -> dict[str, list[Any]]:
        """For each name its values, by epoch."""
        return {name: list(values) for name, values in self._columns.items()}

    @property
    def columns_as_stored(self) -> Mapping[str, Sequence[Any]]:
        """As `columns`, without copies: an array where all values are floats."""
        return self._columns

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for values in zip(*self._columns.values(), strict=True):
            yield dict(zip(self._columns, values, strict=True))

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[Entry]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return {name: values[index] for name, values in self._columns.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (History, list, tuple)) and list(self) == list(other)

    def __hash__(self) -> int:
        raise TypeError("a history cannot be hashed")

    def __repr__(self) -> str:
        return repr(list(self))


def by_column(entries: Any) -> Any:
    """Return ``entries`` as a `History` if they are dictionaries of equal names.

    Others are returned unchanged.
    """
    if isinstance(entries, History) or not isinstance(entries, list) or not entries:
        return entries
    if not all(isinstance(entry, Mapping) and entry.keys() == entries[0].keys() for entry in entries):
        return entries
    return History({name: [entry[name] for entry in entries] for name in entries[0]})


def _compact(values: Sequence[Any]) -> Sequence[Any]:
    """Return ``values``, in 8 bytes each where all are floats."""
    return array("d", values) if set(map(type, values)) == {float} else values
