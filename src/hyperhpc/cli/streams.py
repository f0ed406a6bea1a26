"""Standard output and error that may be lost: a full disk, a closed terminal, a reader that ended.

Progress and messages are never a reason to end a run. Results on standard output are: a command
whose result was not written whole does not end with 0, but for a reader that wants no more.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _LossyFile(io.FileIO):
    """A descriptor whose errors are kept, not raised. Nothing is written after the first."""

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or drop what cannot be written."""
        if self.lost is None:
            try:
                return super().write(data) or 0
            except OSError as error:
                self.lost = error
        return len(memoryview(data).cast("B"))


@contextmanager
def lossy_streams() -> Iterator[list[_LossyFile]]:
    """Replace both streams within the block; those that a test has replaced stay as they are.

    Gives the file of standard output, if it was replaced.
    """
    _open_standard_files()
    before = sys.stdout, sys.stderr
    files = []
    if sys.stdout is sys.__stdout__:
        sys.stdout, file = _wrap(sys.stdout, 1, "surrogateescape")
        files.append(file)
    if sys.stderr is sys.__stderr__:
        sys.stderr, _ = _wrap(sys.stderr, 2, "backslashreplace")
    try:
        yield files
    finally:
        for stream in {sys.stdout, sys.stderr} - set(before):
            stream.flush()
        sys.stdout, sys.stderr = before


def is_lost(files: list[_LossyFile]) -> OSError | None:
    """Why what was written to standard output is not there; None for a reader that has ended."""
    sys.stdout.flush()
    found = [file.lost for file in files if file.lost and file.lost.errno != errno.EPIPE]
    return found[0] if found else None


def _open_standard_files() -> None:
    """Open the null device in place of closed ones: a file of ours would become one of them."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)
            if found != number:
                os.dup2(found, number)
                os.close(found)
            os.set_inheritable(number, True)


def _wrap(stream: Any, number: int, errors: str) -> tuple[io.TextIOWrapper, _LossyFile]:
    if stream is not None:
        stream.flush()
    encoding = getattr(stream, "encoding", None) or "utf-8"
    file = _LossyFile(number, "w", closefd=False)
    buffer = io.BufferedWriter(file)
    is_prompt = number == 2 or file.isatty()
    return io.TextIOWrapper(buffer, encoding, errors, line_buffering=is_prompt), file
