"""Reading a window, whatever the format: normalise it, fetch runs of bands, cast."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene.metadata import canonicalise

#: Reads rows x cols x bands (slices, steps >= 1) and returns (y, x, band) as stored.
Fetch = Callable[[slice, slice, slice], np.ndarray]


def normalise(window: slice, size: int) -> slice:
    """Give a slice explicit start, stop and step, and a stop that is the last index + 1.

    Raises
    ------
    ValueError
        A step that is not positive.
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
    """Number of indices in a normalised slice."""
    return len(range(window.start, window.stop, window.step))


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


def unreadable(what: str, *window: slice, why: BaseException, hint: str) -> SceneError:
    """The error to raise for a window that could not be read, by rows, columns and bands."""
    where = describe_window(*window)
    return SceneError(f"{what} cannot be read at {where}: {cause(why)}", hint)


def band_runs(bands: np.ndarray, chunk: int) -> list[tuple[slice, slice]]:
    """Split band numbers into runs of neighbouring stored chunks.

    Returns
    -------
    Per run: the enclosing bands to fetch, and which entries of ``bands`` they serve.
    """
    owner = bands // chunk
    starts = np.flatnonzero(np.diff(owner, prepend=-2) > 1)
    runs = []
    for first, last in zip(starts, [*starts[1:], bands.size], strict=True):
        runs.append(
            (
                slice(int(bands[first]), int(bands[last - 1]) + 1, 1),
                slice(int(first), int(last)),
            )
        )
    return runs


def read_window(
    shape: tuple[int, int, int],
    band_chunk: int,
    dtype: str,
    wide_nodata: tuple[float, ...],
    where: str,
    fetch: Fetch,
    rows: slice,
    cols: slice,
    bands: slice | np.ndarray | None,
) -> np.ndarray:
    """Read a window in canonical form; see :meth:`hyperhpc.scene.cube.Scene.read`.

    Peak memory is the window, plus one run of bands as stored where only some bands
    are wanted or the dtype changes.

    Raises
    ------
    SceneError
        From ``fetch``, or for a value beyond int16.
    IndexError
        Band numbers that are not ascending or do not exist.
    """
    rows, cols = normalise(rows, shape[0]), normalise(cols, shape[1])
    if bands is None:
        bands = slice(None)
    if isinstance(bands, slice):
        whole = normalise(bands, shape[2])
        out_shape = (length(rows), length(cols), length(whole))
        if 0 in out_shape:
            return np.empty(out_shape, dtype)
        if whole.step == 1:
            block = canonicalise(fetch(rows, cols, whole), dtype, wide_nodata, where)
            return np.ascontiguousarray(block)
        numbers = np.arange(whole.start, whole.stop, whole.step)
    else:
        numbers = np.asarray(bands, dtype=np.intp)
        ascending = numbers.ndim == 1 and bool(np.all(np.diff(numbers) > 0))
        if not ascending or (numbers.size and not 0 <= numbers[0] <= numbers[-1] < shape[2]):
            raise IndexError(f"band numbers must ascend within 0-{shape[2] - 1}: {numbers}")
    out = np.empty((length(rows), length(cols), numbers.size), dtype)
    if out.size:
        for source, target in band_runs(numbers, band_chunk):
            block = fetch(rows, cols, source)[..., numbers[target] - source.start]
            out[..., target] = canonicalise(block, dtype, wide_nodata, where)
    return out


# Opened arrays, kept per process: a scene travels, its handles do not.

_LIMIT = 16
_lock = threading.RLock()
_open: OrderedDict[tuple, Any] = OrderedDict()


def stamp(path: str) -> tuple[int, int]:
    """Size (bytes) and modification time (ns) of a file.

    Raises
    ------
    OSError
        The file is not there any more.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def cached(kind: str, path: str, watch: str, opener: Callable[[], Any]) -> Any:
    """Return the open handle of ``path``, opening it if new or changed. Thread-safe.

    Parameters
    ----------
    kind
        Keeps formats and their options apart.
    path
        What is opened.
    watch
        File whose size and time tell a changed ``path``.
    opener
        Opens it; what it raises is passed on and nothing is kept.

    Notes
    -----
    Handles here hold metadata, no open file (an HDF5 file is opened for each read), so
    the oldest are simply let go.
    """
    key = (kind, path, *stamp(watch))
    with _lock:
        if key in _open:
            _open.move_to_end(key)
            return _open[key]
        handle = opener()
        for old in [other for other in _open if other[:2] == key[:2]]:
            del _open[old]
        _open[key] = handle
        while len(_open) > _LIMIT:
            _open.popitem(last=False)
        return handle
