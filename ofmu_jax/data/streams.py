"""Streams of batches that know their position, made and changed on the way."""

from collections.abc import Callable
from typing import Any

import grain


def iterate(batches: grain.MapDataset) -> grain.DatasetIterator:
    """The batches in turn, with a position to resume from."""
    # Gathering rows of arrays in memory: threads would cost more than they hide.
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
    return iter(batches.to_iter_dataset(options))


class Mapped:
    """``function`` of each batch of a stream, with the position of that stream.

    >>> import itertools
    >>> numbers = iter(grain.MapDataset.range(5).to_iter_dataset())
    >>> squares = Mapped(numbers, lambda x: x * x)
    >>> list(itertools.islice(squares, 3)), (position := squares.get_state())
    ([0, 1, 4], {'next_index': 3})
    >>> list(squares)
    [9, 16]
    >>> squares.set_state(position)
    >>> next(squares)
    9
    """

    def __init__(self, stream: grain.DatasetIterator, function: Callable[[Any], Any]):
        self._stream, self._function = stream, function

    def __iter__(self) -> "Mapped":
        return self

    def __next__(self) -> Any:
        return self._function(next(self._stream))

    def get_state(self) -> dict[str, Any]:
        """The position, a JSON-able value."""
        return self._stream.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes to a position."""
        self._stream.set_state(state)


def named(stream: grain.DatasetIterator, name: str) -> Mapped:
    """``{name: batch}`` of each batch, as methods take them."""
    return Mapped(stream, lambda batch: {name: batch})
