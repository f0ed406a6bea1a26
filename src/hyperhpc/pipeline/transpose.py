"""Turn a scene stored band by band into one that can be read tile by tile.

NEON files since 2022 hold one whole band per chunk: a window of all bands then costs
decoding the whole cube. Read once band by band, written to OUT/work in chunks of few
pixels and many bands, each tile becomes cheap.

A mosaic of such files is turned block by block, a block being what one chunk covers, so
that no chunk is decoded twice and no more than a few bands of one block are in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec

from hyperhpc.config import RunConfig
from hyperhpc.pipeline.lock import Claim
from hyperhpc.pipeline.manifest import read_json, write_json
from hyperhpc.pipeline.plan import SMALL_TILE, Area, Slab, Tile, tile_promise
from hyperhpc.pipeline.progress import Progress
from hyperhpc.pipeline.tiles import run_tiles
from hyperhpc.scene.cube import Scene, fields_of
from hyperhpc.scene.mosaic import MosaicScene
from hyperhpc.scene.window import normalise
from hyperhpc.workers import Workers

_MOST_BANDS = 32


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockScene(Scene):
    """A part of another scene, in an array of OUT/work."""

    def read(
        self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None
    ) -> np.ndarray:
        """Read one window, in rows and columns of the part."""
        array = zarr.open_array(self.path, mode="r")
        y, x = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        if isinstance(bands, np.ndarray):
            return np.ascontiguousarray(np.asarray(array[y, x, :])[:, :, bands])
        return np.ascontiguousarray(array[y, x, slice(None) if bands is None else bands])


@dataclass(frozen=True)
class TransposeJob:
    """What each slab needs."""

    scene: Scene
    area: Area
    path: Path


def transpose_scene(
    scene: Scene,
    area: Area,
    work: Path,
    config: RunConfig,
    workers: Workers,
    progress: Progress,
    claim: Claim,
) -> tuple[Scene, dict[str, dict[str, Any]], int]:
    """Turn the area of a scene, or go on with it.

    Parameters
    ----------
    work
        Folder for ``transposed.zarr`` and the records of its slabs.

    Returns
    -------
    The scene that reads what was turned, and what :func:`run_tiles` returns.
    """
    path, records = work / "transposed.zarr", work / "transpose"
    # The depth of the chunks is fixed by the first run, like the tiles
    depth_file = work / "band-groups.json"
    if path.exists() and depth_file.exists():
        depth = read_json(depth_file)["bands"]
    else:
        shutil.rmtree(records, ignore_errors=True)
        depth = bands_at_once(scene, area, config.memory_bytes, config.threads_per_worker)
        write_json(depth_file, {"bands": depth})
    turned = create_transposed(scene, area, depth, path)
    job = TransposeJob(scene, area, path)
    slabs = cut_slabs(scene, area, depth)
    results, resumed = run_tiles(workers, transpose_bands, job, slabs, records, progress, claim)
    return turned, results, resumed


def explain_transposing(scene: Scene, area: Area, work: Path) -> str:
    """Why, and what it takes."""
    volume = area.shape[0] * area.shape[1] * scene.shape[2] * np.dtype(scene.dtype).itemsize
    return (
        f"the scene is stored in chunks of {scene.chunks} (rows, columns, bands): it is "
        f"transposed first, {volume / 2**30:.2f} GiB (before compression) to {work}"
    )


def cut_blocks(scene: Scene, area: Area) -> list[Area]:
    """The area, cut at the edges of the stored chunks."""
    rows, cols = (
        list(_cut(*span, chunk))
        for span, chunk in zip(
            ((area.row0, area.row1), (area.col0, area.col1)), scene.chunks[:2], strict=True
        )
    )
    return [Area(*down, *across) for down in rows for across in cols]


def _cut(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min((start // step + 1) * step, stop)
        yield start, end
        start = end


def bands_at_once(scene: Scene, area: Area, memory_bytes: int, threads: int) -> int:
    """How many bands of a block fit a worker's memory, in whole stored chunks."""
    pixels = max(block.shape[0] * block.shape[1] for block in cut_blocks(scene, area))
    plane = pixels * max(
        np.dtype(dtype).itemsize for dtype in (scene.stored_dtype, scene.dtype)
    )
    stored = min(scene.chunks[2], scene.shape[2])
    fitting = min(int(tile_promise(memory_bytes, threads) // plane), _MOST_BANDS)
    return max(stored, fitting // stored * stored)


def cut_slabs(scene: Scene, area: Area, depth: int) -> list[Slab]:
    """So many bands of a block each, the unit of work."""
    n_bands = scene.shape[2]
    return [
        Slab(
            f"bands-{b:04d}-of-{number:04d}",
            block.row0 - area.row0,
            block.row1 - area.row0,
            block.col0 - area.col0,
            block.col1 - area.col0,
            b,
            min(b + depth, n_bands),
        )
        for number, block in enumerate(cut_blocks(scene, area))
        for b in range(0, n_bands, depth)
    ]


def create_transposed(scene: Scene, area: Area, depth: int, path: Path) -> Scene:
    """The empty arrays, and the scene that reads them.

    It has the rows and columns of the original one; outside the area there is nothing.
    """
    blocks = cut_blocks(scene, area)
    members = []
    for block in blocks:
        height, width = block.shape
        chunks = (min(SMALL_TILE, height), min(SMALL_TILE, width), depth)
        place = path / _name(block)
        if not (place / "zarr.json").exists():
            zarr.create_array(
                str(place),
                shape=(height, width, scene.shape[2]),
                chunks=chunks,
                dtype=scene.dtype,
                compressors=BloscCodec(cname="lz4", clevel=1, shuffle="bitshuffle"),
                config={"write_empty_chunks": True},
            )
        fields = _plain(scene) | {"path": str(place), "chunks": chunks}
        members.append(BlockScene(**fields | {"shape": (height, width, scene.shape[2])}))
    return MosaicScene(
        **_plain(scene) | {"path": str(path), "chunks": members[0].chunks},
        members=tuple(members),
        places=tuple((block.row0, block.col0) for block in blocks),
        overlap="first",
        is_plain=True,
        mark=0.0,
        probes=(),
        numbers=((),) * len(members),
    )


def _plain(scene: Scene) -> dict[str, Any]:
    """What the scene says of itself, but for how it is stored."""
    other = {"shards": None, "stored_dtype": scene.dtype, "thinned": None}
    return fields_of(scene) | other


def _name(block: Area) -> str:
    return f"{block.row0:06d}-{block.col0:06d}"


def transpose_bands(job: TransposeJob, slab: Tile) -> dict[str, Any]:
    """On a worker: some bands of a block, from the scene into its array."""
    assert isinstance(slab, Slab)
    area = job.area
    block = Area(
        area.row0 + slab.y0, area.row0 + slab.y1, area.col0 + slab.x0, area.col0 + slab.x1
    )
    window = job.scene.read(
        slice(block.row0, block.row1), slice(block.col0, block.col1), slice(slab.b0, slab.b1)
    )
    array = zarr.open_array(str(job.path / _name(block)), mode="r+")
    array[:, :, slab.b0 : slab.b1] = window
    return {"bytes_read": window.nbytes, "bytes_written": window.nbytes}
