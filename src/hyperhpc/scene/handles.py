"""Open files, kept per process: a scene travels, its handles do not."""

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
    The oldest handles are only let go, not closed: a thread may still read from one, and
    the last reference closes it. The process number is in the key since an HDF5 handle
    must not cross a fork.
    """
    key = (os.getpid(), kind, path, *stamp(watch))
    with _lock:
        if key in _open:
            _open.move_to_end(key)
            return _open[key]
        handle = opener()
        for old in [other for other in _open if other[1:3] == key[1:3]]:
            del _open[old]
        _open[key] = handle
        while len(_open) > _LIMIT:
            _open.popitem(last=False)
        return handle


def forget() -> None:
    """Let go of all handles of this process."""
    with _lock:
        _open.clear()
