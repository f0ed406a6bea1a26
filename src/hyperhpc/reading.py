"""Read files that others made: only regular ones, and only so many bytes.

Reading a FIFO waits for a writer, a device may never end, and what is as large as memory ends
the process. All three are named in a message at once.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from typing import Any

#: Bytes of the largest text that is read at once.
MAX_TEXT_BYTES = 256 * 2**20
_SPECIAL = {
    stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise OSError if a path, links followed, is a FIFO, a socket or a device, or is not there."""
    _check_mode(os.stat(path).st_mode, path)


def _check_mode(mode: int, path: str | os.PathLike[str], name: str = "it") -> None:
    if kind := _SPECIAL.get(stat.S_IFMT(mode)):
        raise OSError(errno.EINVAL, f"{name} is {kind}, not a file", os.fspath(path))


def check_siblings(path: str | os.PathLike[str]) -> None:
    """:func:`check_regular` for the files that GDAL opens with a file, by its name.

    Raises OSError: one of them, or the name is not UTF-8.
    """
    check_name(path)
    folder, name = os.path.split(os.path.abspath(path))
    stem = os.path.splitext(name)[0]
    with os.scandir(folder) as entries:
        for entry in entries:
            is_sibling = entry.name == stem or entry.name.startswith((f"{stem}.", name))
            if is_sibling and os.path.exists(entry.path):
                _check_mode(os.stat(entry.path).st_mode, entry.path, entry.name)


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise OSError for a path that is not UTF-8, which GDAL cannot open."""
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        what = "its path holds bytes that are not UTF-8, which GDAL does not open: rename it"
        raise OSError(errno.EILSEQ, what, os.fspath(path)) from None


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a file to read it, without a buffer.

    Raises OSError: it cannot be opened, or is a folder, a FIFO, a socket or a device.
    """
    check_regular(path)
    file = io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    try:
        _check_mode(os.fstat(file.fileno()).st_mode, path)  # it may have been replaced
    except OSError:
        file.close()
        raise
    return file


def read_file(path: str | os.PathLike[str], most: int = MAX_TEXT_BYTES) -> bytes:
    """Read a whole file.

    Raises OSError: as :func:`open_regular`, or it has more than ``most`` bytes.
    """
    parts, size = [], 0
    with open_regular(path) as file:
        while size <= most and (part := file.read(min(most + 1 - size, 2**24))):
            parts.append(part)
            size += len(part)
    if size > most:
        what = f"it has more than {most / 2**20:g} MiB, the most that is read"
        raise OSError(errno.EOVERFLOW, what, os.fspath(path))
    return b"".join(parts)


def read_json_file(path: str | os.PathLike[str], most: int = MAX_TEXT_BYTES) -> Any:
    """Read JSON.

    Raises OSError: as :func:`read_file`; ValueError: it is not UTF-8, no JSON, or nested too deep.
    """
    try:
        return json.loads(read_file(path, most).decode("utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None
