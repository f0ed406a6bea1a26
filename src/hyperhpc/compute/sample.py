"""The sample pass: every stride-th pixel of the area, written to one file for the fits.

The file holds the good bands in pixel order, so neither the file nor a model fitted to it
depends on the tiles. A second file marks the valid pixels, of which only those count that
meet the conditions of ``--where``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.condition import NO_CONDITIONS, BoundConditions
from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.compute.grid_file import GridFile
from hyperhpc.errors import SceneError
from hyperhpc.rundir.plan import TARGET_TILES, Area, Plan, Tile
from hyperhpc.scene.cube import THINNED_STEP, Scene
from hyperhpc.scene.thinned import choose_thinned
from hyperhpc.schema import SAMPLE_MASK

#: Grid pixels of one block: the fixed unit of every sum over the sample.
SAMPLE_BLOCK = 16384


@dataclass(frozen=True)
class Sample:
    """The sample on disk: DN (y, x, good band), and uint8 (y, x, 1), 1 where valid."""

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
    def is_integer(self) -> bool:
        """True if DN are integers, so that sums are exact."""
        return np.issubdtype(np.dtype(self.values.dtype), np.integer)

    @property
    def n_pixels(self) -> int:
        """Pixels of the grid, valid or not."""
        return self.mask.shape[0] * self.mask.shape[1]

    @property
    def n_blocks(self) -> int:
        """Number of blocks."""
        return -(-self.n_pixels // SAMPLE_BLOCK)

    def is_valid(self) -> np.ndarray:
        """Bool (pixel): the whole mask, one byte per pixel."""
        return self.mask.read_pixels(0, self.n_pixels)[:, 0].astype(bool)

    def counts(self, run_pixels: int) -> np.ndarray:
        """Valid pixels (int64) in each run of ``run_pixels`` grid pixels."""
        starts = np.arange(0, self.n_pixels, run_pixels)
        return np.add.reduceat(self.is_valid().astype(np.int64), starts)

    def read_valid(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        """DN (pixel, band) of the valid ones of the grid pixels [start, stop)."""
        stop = min(stop, self.n_pixels)
        mask = self.mask.read_pixels(start, stop)[:, 0].astype(bool)
        dn = self.values.read_pixels(start, stop, out)
        return dn if mask.all() else dn[mask]

    def blocks(self, numbers: Iterator[int] | range) -> Iterator[np.ndarray]:
        """DN (pixel, band) of the valid pixels, one block at a time.

        The buffer is reused: an array is valid until the next one is taken.
        """
        shape = (min(SAMPLE_BLOCK, self.n_pixels), self.values.shape[2])
        buffer = np.empty(shape, dtype=self.values.dtype)
        for number in numbers:
            start = number * SAMPLE_BLOCK
            yield self.read_valid(start, start + SAMPLE_BLOCK, buffer)


@dataclass(frozen=True)
class SampleJob:
    """What each tile of the sample pass needs; ``bands`` are positions of good bands."""

    scene: Scene
    area: Area
    stride: int
    bands: np.ndarray
    sample: Sample
    conditions: BoundConditions = NO_CONDITIONS


def sample_tile(job: SampleJob, tile: Tile) -> dict[str, Any]:
    """On a worker: write the sampled pixels of one tile to the sample files."""
    stride = job.stride
    row, col = -(-tile.y0 // stride), -(-tile.x0 // stride)
    rows = range(job.area.row0 + row * stride, job.area.row0 + tile.y1, stride)
    cols = range(job.area.col0 + col * stride, job.area.col0 + tile.x1, stride)
    if not (rows and cols):
        empty = {"sampled": 0, "valid": 0, "bytes_read": 0, "bytes_written": 0}
        return {**empty, "windows": {}}
    dn, meets, n_read = _read_sampled(job, rows, cols)
    mask = valid_pixels(dn.reshape(-1, dn.shape[2]), job.scene.nodata) & meets.ravel()
    values, is_valid = job.sample.values, job.sample.mask
    windows = {
        values.path.name: values.write(row, col, dn),
        is_valid.path.name: is_valid.write(row, col, mask.reshape(*dn.shape[:2], 1)),
    }
    pixel_bytes = job.scene.shape[2] * np.dtype(job.scene.stored_dtype).itemsize
    return {
        "sampled": int(mask.size),
        "valid": int(mask.sum()),
        "bytes_read": n_read * pixel_bytes,
        "bytes_written": dn.nbytes + mask.size,
        "windows": windows,
    }


def write_nodata_sample(job: SampleJob, tile: Tile) -> dict[str, Any]:
    """On a worker: mark the sampled pixels of a tile that cannot be read as not valid."""
    row, col = (-(-start // job.stride) for start in (tile.y0, tile.x0))
    row_end, col_end = (-(-stop // job.stride) for stop in (tile.y1, tile.x1))
    mask = np.zeros((row_end - row, col_end - col, 1), dtype=np.uint8)
    file, windows = job.sample.mask, {}
    if mask.size:
        windows[file.path.name] = file.write(row, col, mask)
    counts = {"sampled": 0, "valid": 0, "bytes_read": 0, "bytes_written": mask.size}
    return {**counts, "windows": windows}


def count_valid(job: SampleJob, tile: Tile) -> dict[str, Any]:
    """On a worker: count the valid pixels among all pixels of a tile; nothing is written.

    ``clustered`` of them meet all conditions, and ``holding`` each; ``lowest`` and ``highest``
    are the extremes of what conditions compare, None without any value.
    """
    conditions, n_valid, n_clustered = job.conditions, 0, 0
    n_holding = np.zeros(len(conditions), np.int64)
    lowest, highest = (np.full(len(conditions.operands), end) for end in (np.inf, -np.inf))
    for _, _, dn in job.scene.blocks(*job.area.window(tile)):
        flat = dn.reshape(-1, dn.shape[2])
        is_valid = valid_pixels(flat, job.scene.nodata, job.bands)
        n_valid += int(is_valid.sum())
        values = conditions.values(flat, is_valid)
        holds = conditions.hold(values)
        n_holding += holds.sum(axis=1)
        n_clustered += int((holds.all(axis=0) & is_valid).sum())
        np.minimum(lowest, np.fmin.reduce(values, axis=1, initial=np.inf), out=lowest)
        np.maximum(highest, np.fmax.reduce(values, axis=1, initial=-np.inf), out=highest)
    ends = {"lowest": lowest, "highest": highest}
    return {
        "valid": n_valid,
        "clustered": n_clustered,
        "holding": n_holding.tolist(),
        **{name: [v if np.isfinite(v) else None for v in e.tolist()] for name, e in ends.items()},
    }


def uses_thinned_copy(scene: Scene, area: Area, stride: int) -> bool:
    """True if the sample of an area is read from the scene's thinned copy."""
    rows, cols = range(area.row0, area.row1, stride), range(area.col0, area.col1, stride)
    return choose_thinned(scene, rows, cols)[0] is not scene


def tiles_per_side(scene: Scene, plan: Plan, stride: int, *, skips_bad_tiles: bool) -> int:
    """How many tiles, on a side, one task of the sample pass takes.

    Several where a thinned copy is read; one where bad tiles are skipped, by their names.
    """
    if skips_bad_tiles or not uses_thinned_copy(scene, plan.area, stride):
        return 1
    sides = (THINNED_STEP, THINNED_STEP // 2)
    return next((side for side in sides if plan.n_tiles(side) >= TARGET_TILES), 1)


def _read_sampled(job: SampleJob, rows: range, cols: range) -> tuple[np.ndarray, np.ndarray, int]:
    """DN (y, x, good band) of some rows and columns, and how many pixels were read.

    The second value is Bool (y, x): True where all conditions hold.
    """
    source, source_rows, source_cols = choose_thinned(job.scene, rows, cols)
    try:
        return _read_from(source, source_rows, source_cols, job)
    except SceneError:
        if source is job.scene:
            raise
        return _read_from(job.scene, rows, cols, job)  # the thinned copy is damaged


def _read_from(
    scene: Scene, rows: range, cols: range, job: SampleJob
) -> tuple[np.ndarray, np.ndarray, int]:
    meets = np.ones((len(rows), len(cols)), bool)
    dn = np.empty((len(rows), len(cols), len(job.bands)), dtype=job.scene.dtype)
    n_read = 0
    for row, col, block in scene.blocks(slice(rows.start, rows.stop), slice(cols.start, cols.stop)):
        y, to_y = _match_range(rows, row, block.shape[0])
        x, to_x = _match_range(cols, col, block.shape[1])
        part = block[y, x]
        dn[to_y, to_x] = part[..., job.bands]
        if len(job.conditions):
            flat = part.reshape(-1, part.shape[2])
            holds = job.conditions.test(flat, np.ones(len(flat), bool))
            meets[to_y, to_x] = holds.all(axis=0).reshape(part.shape[:2])
        n_read += block.shape[0] * block.shape[1]
    return dn, meets, n_read


def _match_range(wanted: range, start: int, length: int) -> tuple[slice, slice]:
    """Which rows (or columns) of a block are wanted, and where they are in ``wanted``."""
    step = wanted.step
    offset = (wanted.start - start) % step
    first = (start + offset - wanted.start) // step
    return slice(offset, length, step), slice(first, first + len(range(offset, length, step)))
