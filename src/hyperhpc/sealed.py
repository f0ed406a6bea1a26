"""Checksums of files, and JSON files that hold their own: what lay on a disk is not trusted.

A sealed file is JSON whose first key is the CRC-32C of all bytes after its line::

    {
     "crc32c": "1a2b3c4d",
     "complete": true,

So a file that is replaced whole (run.json, plan.json, checksums.json, the records of tiles) needs
no second file that could be older. Files whose bytes are a promise (model.json and other results)
have their checksums in checksums.json instead. Files of version 0.1 have no seal, and are read as
they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import google_crc32c

from hyperhpc.errors import ConfigError, IncompleteRunError, unreadable
from hyperhpc.files import atomic_write
from hyperhpc.forms import find_misfit
from hyperhpc.reading import open_regular, read_file

#: [bytes, CRC-32C in hexadecimal]; None for a chunk of missing values only: it has no file.
Sums = Mapping[str, list[Any] | None]

#: Key of the checksum in a sealed file.
SEAL = "crc32c"
_HEAD, _TAIL, _DIGITS = f'{{\n "{SEAL}": "'.encode(), b'",\n', 8
#: One that differs from a seal in so many bytes, or fewer, is a damaged one.
_MOST_DAMAGED = 3
_PIECE = 4 * 2**20
#: Files looked at together: a shared file system has long delays, but needs no processor.
_AT_ONCE = 8
_RESTART = "Give --restart to start from the beginning"


class DamagedJsonError(ConfigError):
    """A JSON file is not as it was written."""


class BrokenSealError(DamagedJsonError):
    """A JSON file does not hold what its own checksum says."""


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all, flushed to disk."""
    _write(path, _to_text(value))


def write_sealed(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with its own checksum, whole or not at all, flushed to disk.

    ``value``: At least one key.
    """
    rest = _to_text(value).removeprefix(b"{\n")
    _write(path, _HEAD + crc32c(rest).encode() + _TAIL + rest)


def _to_text(value: Any) -> bytes:
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    # Bytes of a path that are not UTF-8 are half of a pair in Python, which JSON writes as \\udcff
    return text.encode("utf-8", "backslashreplace")


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as part:
        part.write_bytes(data)


def read_json(path: Path) -> Any:
    """Read JSON, without its seal if it has one.

    Raises ConfigError: the file cannot be read; DamagedJsonError: it is damaged.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise unreadable(path, error) from None
    return parse_json(path, data)


def parse_json(path: Path, data: bytes) -> Any:
    """The content of a file that was read; see :func:`read_json`."""
    if _is_seal_broken(data):
        raise BrokenSealError(f"{path} is damaged: its checksum is that of other bytes", _RESTART)
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise DamagedJsonError(f"{path} is damaged", _RESTART) from None
    if isinstance(value, dict):
        value.pop(SEAL, None)
    if what := find_misfit(path.name, value):
        raise DamagedJsonError(f"{path} is damaged: {what}", _RESTART)
    return value


def _is_seal_broken(data: bytes) -> bool:
    """True if there is a seal, perhaps a damaged one, and it is not that of what follows."""
    end = len(_HEAD) + _DIGITS
    own, rest = data[: end + len(_TAIL)], data[end + len(_TAIL) :]
    found = own[: len(_HEAD)] + own[end:]
    n_other = sum(a != b for a, b in zip(found, _HEAD + _TAIL, strict=False))
    if len(found) < len(_HEAD + _TAIL) or n_other > _MOST_DAMAGED:
        return False
    return bool(n_other) or own[len(_HEAD) : end] != crc32c(rest).encode()


def crc32c(data: bytes) -> str:
    """CRC-32C in hexadecimal."""
    return f"{google_crc32c.value(data):08x}"


def measure_bytes(data: bytes) -> list[Any]:
    """Length and checksum of what a file holds."""
    return [len(data), crc32c(data)]


def measure_file(path: Path) -> list[Any] | None:
    """Length and checksum of a file; None if there is none."""
    try:
        with open_regular(path) as file:
            size, crc = 0, 0
            while piece := file.read(_PIECE):
                size, crc = size + len(piece), google_crc32c.extend(crc, piece)
    except FileNotFoundError:
        return None
    return [size, f"{crc:08x}"]


def find_damage(root: Path, sums: Sums) -> Iterator[tuple[str, str]]:
    """Names of the files that are not as they were written, and what is wrong."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda name: _compare(root / name, sums[name]), sums)
        yield from ((name, what) for name, what in zip(sums, found, strict=True) if what)


def _compare(path: Path, wanted: list[Any] | None) -> str | None:
    try:
        size = path.stat().st_size
        # A file of another length need not be read
        found = [size] if wanted and size != wanted[0] else measure_file(path)
    except FileNotFoundError:
        found = None
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return describe_change(found, wanted)


def describe_change(found: list[Any] | None, wanted: list[Any] | None) -> str | None:
    """What is wrong with a file, from its length and checksum; None if nothing is."""
    if found == wanted:
        return None
    if not found:
        return "is missing"
    if not wanted:
        return "was not written by this run"
    if found[0] != wanted[0]:
        return f"has {found[0]} bytes instead of {wanted[0]}"
    return "holds other bytes than were written"


def write_sums(path: Path, sums: Sums) -> None:
    """Write a file of checksums, sealed."""
    write_sealed(path, {"algorithm": "crc32c", "files": dict(sorted(sums.items()))})


def read_sums(path: Path) -> Sums:
    """The checksums in a file: by name, relative to its folder.

    Raises FileNotFoundError: there is no such file; IncompleteRunError: it is damaged.
    """
    status = path.stat()
    try:
        return _read_sums(path, status.st_mtime_ns, status.st_size, status.st_ino)
    except (ConfigError, AttributeError, KeyError, TypeError):
        raise IncompleteRunError(
            f"{path} is damaged",
            "Copy its folder again, or make it again from the beginning (--restart)",
        ) from None


@lru_cache(maxsize=8)
def _read_sums(path: Path, *unchanged: int) -> Sums:
    sums: dict[str, list[Any] | None] = read_json(path)["files"]
    if not all(value is None or len(value) == 2 for value in sums.values()):
        raise TypeError
    return sums
