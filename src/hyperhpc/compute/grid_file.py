"""A raw array (y, x, layer) on disk, written in windows and read in runs of pixels.

It uses plain ``pwrite`` and ``pread``: any number of processes write their own windows at
the same time, whatever the tiles, and no mapped pages count as memory of a reader. Each window has
a checksum, which the record of its tile keeps: a resumed run compares it before it uses the file.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from hyperhpc.errors import ResourceError
from hyperhpc.files import check_guard
from hyperhpc.rundir.folder import disk_error


@dataclass(frozen=True)
class GridFile:
    """A raw array (rows, columns, layers) on disk: C order, native byte order, no header."""

    path: Path
    shape: tuple[int, int, int]
    dtype: str

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel."""
        return self.shape[2] * np.dtype(self.dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return self.shape[0] * self.shape[1] * self.pixel_bytes

    def is_complete(self) -> bool:
        """True if the file exists and has its full length."""
        return self.path.is_file() and self.path.stat().st_size == self.nbytes

    def create(self) -> None:
        """Create the file, all zero (sparse where the file system supports it)."""
        with self.path.open("wb") as file:
            file.truncate(self.nbytes)

    def write(self, row: int, col: int, window: np.ndarray) -> list[Any]:
        """Write a window (y, x, layer) with its upper-left pixel at (row, col), and flush it.

        Returns: its place and its checksum, for the record of the tile.
        Raises ResourceError: if the disk is full or the file cannot be written;
        IncompleteRunError: OUT is another run's by now.
        """
        check_guard(self.path)
        window = np.ascontiguousarray(window, dtype=self.dtype)
        written = [row, col, *window.shape[:2], _checksum(window)]
        if window.shape[1] == self.shape[1]:  # whole rows are contiguous in the file
            window = window.reshape(1, -1, self.shape[2])
        try:
            with self.path.open("r+b", buffering=0) as file:
                for i, line in enumerate(window):
                    offset = ((row + i) * self.shape[1] + col) * self.pixel_bytes
                    _write_all(file.fileno(), _bytes_view(line), offset)
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(error, self.path) from None
        return written

    def is_as_written(self, written: Sequence[Any]) -> bool:
        """True if a window has the checksum that :meth:`write` has returned with its place."""
        row, col, height, width, checksum = written
        window = self.read_window(slice(row, row + height), slice(col, col + width))
        return _checksum(window) == checksum

    def read_pixels(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read pixels [start, stop), counted along rows, as (pixel, layer).

        ``out``: Buffer for at least so many pixels; if given, the result is a view of it.
        """
        if out is None:
            out = np.empty((stop - start, self.shape[2]), dtype=self.dtype)
        pixels = out[: stop - start]
        with self.path.open("rb", buffering=0) as file:
            _read_all(file.fileno(), _bytes_view(pixels), start * self.pixel_bytes)
        return pixels

    def read_window(self, rows: slice, cols: slice) -> np.ndarray:
        """Read a window (y, x, layer)."""
        shape = (rows.stop - rows.start, cols.stop - cols.start, self.shape[2])
        window = np.empty(shape, dtype=self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for row, line in enumerate(window, rows.start):
                offset = (row * self.shape[1] + cols.start) * self.pixel_bytes
                _read_all(file.fileno(), _bytes_view(line), offset)
        return window


def _checksum(window: np.ndarray) -> str:
    """CRC-32C of a contiguous array, in hexadecimal."""
    return f"{google_crc32c.value(window.reshape(-1).view(np.uint8)):08x}"


def _bytes_view(array: np.ndarray) -> memoryview:
    """The bytes of a contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data.nbytes:
        done = os.pwrite(fd, data, offset)
        data, offset = data[done:], offset + done


def _read_all(fd: int, data: memoryview, offset: int) -> None:
    while data.nbytes:
        done = os.preadv(fd, [data], offset)
        if not done:
            raise ResourceError(
                f"A file of the run is shorter than when it was written (at byte {offset})",
                "Give --restart to start the run from the beginning",
            )
        data, offset = data[done:], offset + done
