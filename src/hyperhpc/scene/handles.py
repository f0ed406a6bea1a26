"""Opened arrays, kept per process: a scene travels, its handles do not."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

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
