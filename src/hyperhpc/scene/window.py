"""Windows of scenes: slices of rows, columns and bands."""

from __future__ import annotations

import numpy as np


def normalise(window: slice, size: int) -> slice:
    """Give a slice explicit start, stop and step, and a stop that is the last index + 1.

    Raises ValueError: a step that is not positive.
    """
    start, stop, step = window.indices(size)
    if step < 1:
        raise ValueError(f"step {step}: only positive steps are read")
    count = len(range(start, stop, step))
    return slice(start, start + (count - 1) * step + 1 if count else start, step)


def mirror(window: slice, size: int) -> slice:
    """The same rows of a normalised slice, counted from the other end (ascending)."""
    return slice(size - window.stop, size - window.start, window.step)


def length(window: slice) -> int:
    """Number of indices in a normalised slice, which may have no step."""
    return len(range(window.start, window.stop, window.step or 1))


def intersect(window: slice, first: int, size: int) -> tuple[slice, slice] | None:
    """Indices of a window that fall on [first, first + size): there, and in the window."""
    step = window.step
    skipped = max(0, -(-(first - window.start) // step))
    count = len(range(window.start + skipped * step, min(window.stop, first + size), step))
    if not count:
        return None
    start = window.start + skipped * step - first
    there = slice(start, start + (count - 1) * step + 1, step)
    return there, slice(skipped, skipped + count)


def describe_window(*window: slice) -> str:
    """Rows, columns and bands, as far as they are given: ``rows 0-9, columns 5-9``."""
    named = zip(("rows", "columns", "bands"), window, strict=False)
    return ", ".join(f"{name} {part.start}-{part.stop - 1}" for name, part in named)


def band_runs(bands: np.ndarray, chunk: int) -> list[tuple[slice, slice]]:
    """Split band numbers into runs of neighbouring stored chunks.

    Returns: per run: the enclosing bands to fetch, and which entries of ``bands`` they serve.
    """
    owner = bands // chunk
    starts = np.flatnonzero(np.diff(owner, prepend=-2) > 1)
    return [
        (slice(int(bands[first]), int(bands[last - 1]) + 1, 1), slice(int(first), int(last)))
        for first, last in zip(starts, [*starts[1:], bands.size], strict=True)
    ]
