"""Pass 1: every stride-th pixel of the area, into one grid file the fits read.

The file holds the good bands in pixel order, so neither it nor what is fitted to it
depends on the tiles. A second file marks the valid pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.errors import ResourceError, SceneError
from hyperhpc.rundir.folder import disk_error
from hyperhpc.rundir.plan import TARGET_TILES, Area, Plan, Tile
from hyperhpc.scene.cube import THINNED_STEP, Scene
from hyperhpc.scene.thinned import choose_thinned
from hyperhpc.schema import SAMPLE_MASK

# A raw array (y, x, layer) on disk, written by windows and read by runs of pixels.
#
# Plain ``pwrite`` and ``pread``: any number of processes write their own windows at the
# same time, whatever the tiles, and reading does not map pages that would count as memory.


@dataclass(frozen=True)
class GridFile:
    """One such array.

    Attributes
    ----------
    path
        The file: C order, native byte order, no header.
    shape
        (rows, columns, layers).
    dtype
        Name of the dtype.
    """

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

    def is_whole(self) -> bool:
        """True if the file is there and has its full length."""
        return self.path.is_file() and self.path.stat().st_size == self.nbytes

    def create(self) -> None:
        """Make the file, all zero (sparse where the file system can)."""
        with self.path.open("wb") as file:
            file.truncate(self.nbytes)

    def write(self, row: int, col: int, window: np.ndarray) -> None:
        """Write a window (y, x, layer) with its upper-left pixel at (row, col); flushed.

        Raises
        ------
        ResourceError
            If the disk is full or the file cannot be written.
        """
        window = np.ascontiguousarray(window, dtype=self.dtype)
        if window.shape[1] == self.shape[1]:  # whole rows lie together
            window = window.reshape(1, -1, self.shape[2])
        try:
            with self.path.open("r+b", buffering=0) as file:
                for i, line in enumerate(window):
                    offset = ((row + i) * self.shape[1] + col) * self.pixel_bytes
                    _write_all(file.fileno(), _raw(line), offset)
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_error(error, self.path) from None

    def read_pixels(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """Read pixels start..stop-1, counted along rows.

        Parameters
        ----------
        out
            Buffer (at least stop - start, layer) of the file's dtype, reused if given.

        Returns
        -------
        (stop - start, layer), a view of ``out`` if that was given.
        """
        if out is None:
            out = np.empty((stop - start, self.shape[2]), dtype=self.dtype)
        pixels = out[: stop - start]
        with self.path.open("rb", buffering=0) as file:
            _read_all(file.fileno(), _raw(pixels), start * self.pixel_bytes)
        return pixels

    def read_window(self, rows: slice, cols: slice) -> np.ndarray:
        """Read a window (y, x, layer)."""
        shape = (rows.stop - rows.start, cols.stop - cols.start, self.shape[2])
        window = np.empty(shape, dtype=self.dtype)
        with self.path.open("rb", buffering=0) as file:
            for row, line in enumerate(window, rows.start):
                offset = (row * self.shape[1] + cols.start) * self.pixel_bytes
                _read_all(file.fileno(), _raw(line), offset)
        return window


def _raw(array: np.ndarray) -> memoryview:
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
                f"a file of the run is shorter than it was written (at byte {offset})",
                "give --restart to start the run over",
            )
        data, offset = data[done:], offset + done


#: Grid pixels of one block: the fixed unit of every sum over the sample.
SAMPLE_BLOCK = 16384


@dataclass(frozen=True)
class Sample:
    """The sample on disk.

    Attributes
    ----------
    values
        DN (y, x, good band) of every stride-th pixel.
    mask
        uint8 (y, x, 1), 1 where valid.
    """

    values: GridFile
    mask: GridFile

    @classmethod
    def at(cls, work: Path, area: Area, stride: int, n_bands: int, dtype: str) -> Sample:
        """The sample of an area, in the folder ``work``."""
        height, width = (-(-side // stride) for side in area.shape)
        return cls(
            GridFile(work / "sample.dat", (height, width, n_bands), dtype),
            GridFile(work / "sample-mask.dat", (height, width, 1), SAMPLE_MASK.dtype),
        )

    @property
    def n_pixels(self) -> int:
        """Pixels of the grid, valid or not."""
        return self.mask.shape[0] * self.mask.shape[1]

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.n_pixels // SAMPLE_BLOCK)

    def is_valid(self) -> np.ndarray:
        """Bool (pixel): the whole mask, one byte a pixel."""
        return self.mask.read_pixels(0, self.n_pixels)[:, 0].astype(bool)

    def counts(self, run: int) -> np.ndarray:
        """Valid pixels (int64) in each run of so many grid pixels."""
        starts = np.arange(0, self.n_pixels, run)
        return np.add.reduceat(self.is_valid().astype(np.int64), starts)

    def blocks(self, numbers: Iterator[int] | range) -> Iterator[np.ndarray]:
        """Valid pixels (pixel, band) of the blocks asked for, one block at a time.

        The buffer is used again: what is yielded is valid until the next block.
        """
        shape = (min(SAMPLE_BLOCK, self.n_pixels), self.values.shape[2])
        buffer = np.empty(shape, dtype=self.values.dtype)
        for number in numbers:
            start = number * SAMPLE_BLOCK
            stop = min(start + SAMPLE_BLOCK, self.n_pixels)
            mask = self.mask.read_pixels(start, stop)[:, 0].astype(bool)
            dn = self.values.read_pixels(start, stop, buffer)
            yield dn if mask.all() else dn[mask]


@dataclass(frozen=True)
class SampleJob:
    """What each tile of pass 1 needs."""

    scene: Scene
    area: Area
    stride: int
    bands: np.ndarray
    sample: Sample


def sample_tile(job: SampleJob, tile: Tile) -> dict[str, Any]:
    """On a worker: the sampled pixels of one tile, into the grid files."""
    rows, cols = (
        range(origin + -(-start // job.stride) * job.stride, origin + stop, job.stride)
        for origin, start, stop in (
            (job.area.row0, tile.y0, tile.y1),
            (job.area.col0, tile.x0, tile.x1),
        )
    )
    if not (rows and cols):
        return {"sampled": 0, "valid": 0, "bytes_read": 0, "bytes_written": 0}
    dn, n_read = _pick(job, rows, cols)
    mask = valid_pixels(dn.reshape(-1, dn.shape[2]), job.scene.nodata)
    mask = mask.reshape(*dn.shape[:2], 1)
    row = (rows.start - job.area.row0) // job.stride
    col = (cols.start - job.area.col0) // job.stride
    job.sample.values.write(row, col, dn)
    job.sample.mask.write(row, col, mask.astype(np.uint8))
    pixel = job.scene.shape[2] * np.dtype(job.scene.stored_dtype).itemsize
    return {
        "sampled": int(mask.size),
        "valid": int(mask.sum()),
        "bytes_read": n_read * pixel,
        "bytes_written": dn.nbytes + mask.size,
    }


def is_from_copy(scene: Scene, area: Area, stride: int) -> bool:
    """True if the sample of an area is read from the scene's thinned copy."""
    rows, cols = (
        range(start, start + side, stride)
        for start, side in zip((area.row0, area.col0), area.shape, strict=True)
    )
    return choose_thinned(scene, rows, cols)[0] is not scene


def tiles_at_once(scene: Scene, plan: Plan, stride: int, *, is_skipping: bool) -> int:
    """Tiles on a side that one task of the sample takes: a thinned copy holds a 16th of each.

    One where tiles that cannot be read are left out by name.
    """
    if is_skipping or not is_from_copy(scene, plan.area, stride):
        return 1
    sides = (THINNED_STEP, THINNED_STEP // 2)
    return next((times for times in sides if plan.n_tiles(times) >= TARGET_TILES), 1)


def _pick(job: SampleJob, rows: range, cols: range) -> tuple[np.ndarray, int]:
    """DN (y, x, good band) of some rows and columns, and how many pixels were read."""
    place = choose_thinned(job.scene, rows, cols)
    try:
        return _pick_at(job, *place)
    except SceneError:
        if place[0] is job.scene:
            raise
        return _pick_at(job, job.scene, rows, cols)  # the copy is damaged: the same pixels


def _pick_at(job: SampleJob, scene: Scene, rows: range, cols: range) -> tuple[np.ndarray, int]:
    dn = np.empty((len(rows), len(cols), len(job.bands)), dtype=job.scene.dtype)
    n_read = 0
    for row, col, block in scene.blocks(
        slice(rows.start, rows.stop), slice(cols.start, cols.stop)
    ):
        y, into_y = _picked(rows, row, block.shape[0])
        x, into_x = _picked(cols, col, block.shape[1])
        dn[into_y, into_x] = block[y, x][..., job.bands]
        n_read += block.shape[0] * block.shape[1]
    return dn, n_read


def blank_sample(job: SampleJob, tile: Tile) -> dict[str, Any]:
    """On a worker: no pixel of a tile that cannot be read."""
    first = [-(-start // job.stride) for start in (tile.y0, tile.x0)]
    stop = [-(-end // job.stride) for end in (tile.y1, tile.x1)]
    mask = np.zeros((stop[0] - first[0], stop[1] - first[1], 1), dtype=np.uint8)
    if mask.size:
        job.sample.mask.write(first[0], first[1], mask)
    return {"sampled": 0, "valid": 0, "bytes_read": 0, "bytes_written": mask.size}


def _picked(wanted: range, start: int, length: int) -> tuple[slice, slice]:
    """Which of a piece's rows (or columns) are wanted, and where they go."""
    step = wanted.step
    offset = (wanted.start - start) % step
    into = (start + offset - wanted.start) // step
    return slice(offset, length, step), slice(into, into + len(range(offset, length, step)))


def count_valid(job: SampleJob, tile: Tile) -> dict[str, Any]:
    """On a worker: how many of all pixels of one tile are valid; nothing is written."""
    pieces = job.scene.blocks(
        slice(job.area.row0 + tile.y0, job.area.row0 + tile.y1),
        slice(job.area.col0 + tile.x0, job.area.col0 + tile.x1),
    )
    flat = (dn.reshape(-1, dn.shape[2]) for _, _, dn in pieces)
    return {"valid": sum(int(valid_pixels(p, job.scene.nodata, job.bands).sum()) for p in flat)}
