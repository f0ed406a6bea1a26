"""Chunk files that are not there: empty ones are never written, others were lost.

The specification makes no difference: what has no file reads as no-data. Stores written
here therefore list which files have none because there is nothing in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zarr import Array

#: Attribute of a cube: names of the chunk files that hold no data and were not written.
EMPTY = "empty_chunks"


def _names(array: Array) -> Iterator[str]:
    """Names of all chunk files, or shards, of an array."""
    sides = array.shards or array.chunks
    counts = (-(-size // side) for size, side in zip(array.shape, sides, strict=True))
    for place in product(*map(range, counts)):
        yield array.metadata.encode_chunk_key(place)


def count_files(array: Array) -> int:
    """How many chunk files an array has if none is empty."""
    return sum(1 for _ in _names(array))


def absent_files(array: Array, folder: str) -> list[str]:
    """Names of the chunk files of an array in ``folder`` that are not there."""
    return [name for name in _names(array) if not os.path.exists(os.path.join(folder, name))]


def mark_empty(array: Array, folder: str) -> None:
    """List the files that are not there now, when all has been written."""
    array.attrs[EMPTY] = absent_files(array, folder)


def known_empty(array: Array) -> frozenset[str] | None:
    """The files that may be absent; None if the store does not say."""
    names = array.attrs.get(EMPTY)
    if not isinstance(names, list):
        return None
    return frozenset(name for name in names if isinstance(name, str))
