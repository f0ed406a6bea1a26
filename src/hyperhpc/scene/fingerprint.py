"""What tells that the files of a scene are not the same any more, in a bounded number of looks.

Of every file its size and time count, of at most :data:`MOST_READ` also some of the bytes, so that
a file that was replaced by another one of the same size and time is seen. Of more than
:data:`MOST_FILES` files those count that lie evenly spread among them, always the same. A copy of
a scene that keeps its times (``cp -a``, ``rsync -a``) has the same fingerprint, wherever it lies;
inodes are kept apart from it, since they change with a copy, and differ between hosts on some file
systems (docs/decisions/0039).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from hyperhpc.reading import open_regular
from hyperhpc.sealed import crc32c

#: Files of a scene that are looked at, one call of stat each; of a mosaic, of all its members.
MOST_FILES = 4096
#: Files of which bytes are read too: at most three pieces of this length each.
MOST_READ, PIECE_BYTES = 64, 4096
#: Files looked at together: a shared file system has long delays, but needs no processor.
_AT_ONCE = 8
#: Keys of a fingerprint: inodes, which may differ, and what versions before 0.2 have not recorded.
INODES, DESCRIBED = "inodes", "described"


def spread(n: int, most: int) -> list[int]:
    """At most ``most`` of the positions 0 to n - 1, evenly spread, always the same."""
    if n <= most:
        return list(range(n))
    return np.unique(np.linspace(0, n - 1, most).round().astype(np.int64)).tolist()


def stamp_files(paths: Mapping[str, str], most_read: int = MOST_READ) -> dict[str, Any]:
    """Stamps of files, and a checksum of all their inodes.

    ``paths``: Path by the name that stands for it; at most ``MOST_FILES`` of them.

    Returns: ``files``: by name ``SIZE MTIME_NS``, with a checksum of some bytes for some of them,
    or ``absent``; and ``inodes``.
    """
    names = list(paths)
    is_read = set(spread(len(names), most_read))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        read = (number in is_read for number in range(len(names)))
        found = list(pool.map(_stamp, paths.values(), read))
    inodes = crc32c(" ".join(str(inode) for _, inode in found).encode())
    stamps = {name: text for name, (text, _) in zip(names, found, strict=True)}
    return {"files": stamps, INODES: inodes}


def _stamp(path: str, is_read: bool) -> tuple[str, int]:
    try:
        status = os.stat(path)
    except OSError:
        return "absent", 0
    text = f"{status.st_size} {status.st_mtime_ns}"
    return (f"{text} {_read_pieces(path, status.st_size)}" if is_read else text), status.st_ino


def _read_pieces(path: str, size: int) -> str:
    """Checksum of the first, the middle and the last bytes of a file."""
    starts = {0, max(0, (size - PIECE_BYTES) // 2), max(0, size - PIECE_BYTES)}
    try:
        with open_regular(path) as file:
            return crc32c(b"".join(_read_at(file.fileno(), start) for start in sorted(starts)))
    except OSError:
        return "unreadable"


def _read_at(number: int, start: int) -> bytes:
    return os.pread(number, PIECE_BYTES, start)


# What differs between two of them.


def is_of_older_version(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """True if a version before 0.2, which looked at fewer files, has recorded the first one."""
    return DESCRIBED not in str(old) and DESCRIBED in str(new)


def list_changes(old: Any, new: Any, label: str = "") -> Iterator[str]:
    """Names of the files and keys in which two fingerprints differ; inodes do not count."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            if key != INODES:
                inner = label if key == "files" and isinstance(new.get(key), Mapping) else key
                inner = f"{label}/{key}" if label and inner == key else inner
                yield from list_changes(old.get(key), new.get(key), inner)
    elif _are_members(old) and _are_members(new) and len(old) == len(new):
        for (name, place, inner_old), (other, elsewhere, inner_new) in zip(old, new, strict=True):
            if (name, place) != (other, elsewhere):
                yield name
            else:
                yield from list_changes(inner_old, inner_new, name)
    elif old != new:
        yield label


def _are_members(value: Any) -> bool:
    """True for what a mosaic records of its scenes: name, place and fingerprint of each."""
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(isinstance(item, list) and len(item) == 3 for item in value)


def has_other_inodes(old: Any, new: Any) -> bool:
    """True if files with the same names, sizes and times are others: they were copied."""
    return sorted(_inodes(old)) != sorted(_inodes(new))


def _inodes(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == INODES:
                yield str(item)
            else:
                yield from _inodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from _inodes(item)
