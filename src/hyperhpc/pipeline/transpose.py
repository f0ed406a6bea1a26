"""Turn a scene stored band by band into one that can be read tile by tile.

NEON files since 2022 hold one whole band per chunk: a window of all bands then costs
decoding the whole cube. Read once band by band, written to OUT/work in chunks of few
pixels and many bands, each tile becomes cheap.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from hyperhpc.pipeline.plan import SMALL_TILE, Area, Tile, tile_promise
from hyperhpc.scene.cube import Scene


@dataclass(frozen=True, kw_only=True)
class TransposedScene(Scene):
    """The area of another scene, in OUT/work; all it says of itself is that scene's."""

    area: Area

    def read(
        self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None
    ) -> np.ndarray:
        """Read one window, in rows and columns of the original scene."""
        array = zarr.open_array(self.path, mode="r")
        y = slice(rows.start - self.area.row0, rows.stop - self.area.row0, rows.step)
        x = slice(cols.start - self.area.col0, cols.stop - self.area.col0, cols.step)
        if isinstance(bands, np.ndarray):
            return np.ascontiguousarray(np.asarray(array[y, x, :])[:, :, bands])
        return np.ascontiguousarray(array[y, x, slice(None) if bands is None else bands])


@dataclass(frozen=True)
class TransposeJob:
    """What each group of bands needs."""

    scene: Scene
    area: Area
    path: Path


def bands_at_once(scene: Scene, area: Area, memory_bytes: int, threads: int) -> int:
    """How many whole bands fit a worker's memory, in whole stored chunks."""
    height, width = area.shape
    dtypes = (scene.stored_dtype, scene.dtype)
    plane = height * width * max(np.dtype(dtype).itemsize for dtype in dtypes)
    stored = min(scene.chunks[2], scene.shape[2])
    fitting = min(int(tile_promise(memory_bytes, threads) // plane), 32)
    return max(stored, fitting // stored * stored)


def band_groups(scene: Scene, area: Area, depth: int) -> list[Tile]:
    """Groups of so many bands, as tiles whose columns are bands."""
    n_bands = scene.shape[2]
    return [
        Tile(f"bands-{b:04d}", 0, area.shape[0], b, min(b + depth, n_bands))
        for b in range(0, n_bands, depth)
    ]


def create_transposed(scene: Scene, area: Area, groups: list[Tile], path: Path) -> Scene:
    """The empty store, and the scene that reads it."""
    height, width = area.shape
    depth = groups[0].x1 - groups[0].x0
    chunks = (min(SMALL_TILE, height), min(SMALL_TILE, width), depth)
    if not (path / "zarr.json").exists():
        zarr.create_array(
            str(path),
            shape=(height, width, scene.shape[2]),
            chunks=chunks,
            dtype=scene.dtype,
            compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
            config={"write_empty_chunks": True},
        )
    fields = {f.name: getattr(scene, f.name) for f in dataclasses.fields(Scene)}
    fields |= {"path": str(path), "chunks": chunks, "shards": None, "stored_dtype": scene.dtype}
    return TransposedScene(**fields, area=area)


def transpose_bands(job: TransposeJob, group: Tile) -> dict[str, Any]:
    """On a worker: one group of bands, whole, from the scene into the store."""
    area = job.area
    window = job.scene.read(
        slice(area.row0, area.row1), slice(area.col0, area.col1), slice(group.x0, group.x1)
    )
    array = zarr.open_array(str(job.path), mode="r+")
    array[:, :, group.x0 : group.x1] = window
    return {"bytes_read": window.nbytes, "bytes_written": window.nbytes}
