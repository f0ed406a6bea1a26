"""Pass 1: every stride-th pixel of the area, into one grid file the fits read.

The file holds the good bands in pixel order, so neither it nor what is fitted to it
depends on the tiles. A second file marks the valid pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.pipeline.gridfile import GridFile
from hyperhpc.pipeline.plan import Area, Tile
from hyperhpc.scene.cube import Scene
from hyperhpc.schema import SAMPLE_MASK

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
    step = job.stride
    first = [-(-start // step) * step for start in (tile.y0, tile.x0)]
    record = {"sampled": 0, "valid": 0, "bytes_read": 0, "bytes_written": 0}
    if first[0] >= tile.y1 or first[1] >= tile.x1:
        return record
    dn = job.scene.read(
        slice(job.area.row0 + first[0], job.area.row0 + tile.y1, step),
        slice(job.area.col0 + first[1], job.area.col0 + tile.x1, step),
        job.bands,
    )
    flat = dn.reshape(-1, dn.shape[2])
    mask = valid_pixels(flat, job.scene.nodata).reshape(*dn.shape[:2], 1)
    row, col = first[0] // step, first[1] // step
    job.sample.values.write(row, col, dn)
    job.sample.mask.write(row, col, mask.astype(np.uint8))
    pixel = job.scene.shape[2] * np.dtype(job.scene.stored_dtype).itemsize
    return {
        "sampled": int(mask.size),
        "valid": int(mask.sum()),
        "bytes_read": tile.shape[0] * tile.shape[1] * pixel,
        "bytes_written": dn.nbytes + mask.size,
    }


def count_valid(job: SampleJob, tile: Tile) -> dict[str, Any]:
    """On a worker: how many of all pixels of one tile are valid; nothing is written."""
    dn = job.scene.read(
        slice(job.area.row0 + tile.y0, job.area.row0 + tile.y1),
        slice(job.area.col0 + tile.x0, job.area.col0 + tile.x1),
        job.bands,
    )
    return {"valid": int(valid_pixels(dn.reshape(-1, dn.shape[2]), job.scene.nodata).sum())}
