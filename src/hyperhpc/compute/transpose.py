"""Rewrite a scene stored band by band so that it can be read tile by tile.

NEON files since 2022 hold one whole band per chunk: to read a window of all bands, the whole
cube has to be decoded. Such a scene is read once and written to OUT/work in chunks of few pixels
and many bands: block by block, where a block is the part of the area that one stored chunk
covers, so no chunk is decoded twice and only a few bands of one block are in memory.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hyperhpc.compute.tiles import drop_damaged_records, run_tiles
from hyperhpc.config import RunConfig
from hyperhpc.errors import SceneError, cause
from hyperhpc.files import check_guard
from hyperhpc.rundir.lock import Claim
from hyperhpc.rundir.memory import max_tile_bytes
from hyperhpc.rundir.plan import Area, Slab, Tile
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene.cube import Scene, scene_fields
from hyperhpc.scene.formats import zarr_chunks
from hyperhpc.scene.formats.zarr import READ_ERRORS, open_array
from hyperhpc.scene.mosaic import MosaicScene
from hyperhpc.scene.window import intersect, length, normalise
from hyperhpc.sealed import DamagedJsonError, measure_file, read_json, write_sealed
from hyperhpc.workers import Workers

#: The copy of the scene, in OUT/work.
TRANSPOSED = "transposed.zarr"
_MAX_BANDS = 64
#: Rows and columns of the chunks written here: all bands of one fit the processor's cache.
_CHUNK_SIDE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockScene(Scene):
    """One block of another scene, in OUT/work: an array for every few bands."""

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window, in rows and columns of the block."""
        if isinstance(bands, np.ndarray):
            return np.ascontiguousarray(self.read(rows, cols)[:, :, bands])
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        bands = normalise(slice(None) if bands is None else bands, self.shape[2])
        out = np.empty((length(rows), length(cols), length(bands)), self.dtype)
        # All bands of few pixels before the next pixels: what is written stays in the cache
        for row0, row1 in _cut_at_chunks(rows.start, rows.stop, self.chunks[0]):
            for col0, col1 in _cut_at_chunks(cols.start, cols.stop, self.chunks[1]):
                down = intersect(rows, row0, row1 - row0)
                across = intersect(cols, col0, col1 - col0)
                if not (down and across):
                    continue
                for first in range(0, self.shape[2], self.chunks[2]):
                    deep = intersect(bands, first, min(self.chunks[2], self.shape[2] - first))
                    if not deep:
                        continue
                    for _, _, dn in self._pieces(first, range(row0, row1), range(col0, col1)):
                        out[down[1], across[1], deep[1]] = dn[down[0], across[0], deep[0]]
        return out

    def _pieces(
        self, first: int, rows: range, cols: range
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """What is stored of the bands from ``first`` on, chunk by chunk."""
        name = f"{first:04d}"
        reader = zarr_chunks.chunk_reader(
            open_array(self.path, name, 3), str(Path(self.path, name))
        )
        assert reader is not None
        try:
            yield from reader.blocks(rows, cols)
        except READ_ERRORS as error:
            raise SceneError(
                f"{self.path} cannot be read: {cause(error)}",
                "Give --restart to start from the beginning",
            ) from error


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
    """Transpose the area of a scene into the folder ``work``, or resume doing so.

    Returns: the scene that reads the transposed copy, and what :func:`run_tiles` returns.
    """
    path, records = work / TRANSPOSED, work / "transpose"
    # The first run decides the depth of the chunks, as it decides the tiles
    depth_file = work / "band-groups.json"
    depth = _read_depth(depth_file, progress) if path.exists() else None
    if depth is not None:
        drop_damaged_records(path, records, lambda text: progress.note(f"warning: {text}"))
    else:
        shutil.rmtree(records, ignore_errors=True)
        depth = bands_at_once(scene, area, config.memory_bytes, config.threads_per_worker)
        write_sealed(depth_file, {"bands": depth})
    transposed = create_transposed(scene, area, depth, path)
    job = TransposeJob(scene, area, path)
    slabs = cut_slabs(scene, area, depth)
    results, n_resumed = run_tiles(workers, transpose_bands, job, slabs, records, progress, claim)
    return transposed, results, n_resumed


def _read_depth(path: Path, progress: Progress) -> int | None:
    """Bands of a chunk, as the first run has chosen; None if it has not, or the file is damaged."""
    try:
        return int(read_json(path)["bands"]) if path.exists() else None
    except DamagedJsonError:
        progress.note(f"warning: {path} is damaged, so that the scene is transposed again")
        return None


def explain_transposing(scene: Scene, area: Area, work: Path) -> str:
    """Why the scene is transposed, and how large the copy is."""
    volume = area.shape[0] * area.shape[1] * scene.shape[2] * np.dtype(scene.dtype).itemsize
    return (
        f"the scene is stored in chunks of {scene.chunks} (rows, columns, bands): it is "
        f"transposed first, {volume / 2**30:.2f} GiB (before compression) to {work}"
    )


def cut_blocks(scene: Scene, area: Area) -> list[Area]:
    """The area, cut at the edges of the stored chunks."""
    rows = _cut_at_chunks(area.row0, area.row1, scene.chunks[0])
    cols = list(_cut_at_chunks(area.col0, area.col1, scene.chunks[1]))
    return [Area(*down, *across) for down in rows for across in cols]


def _cut_at_chunks(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        end = min((start // step + 1) * step, stop)
        yield start, end
        start = end


def bands_at_once(scene: Scene, area: Area, memory_bytes: int, threads: int) -> int:
    """How many bands of a block fit a worker's memory, in whole stored chunks."""
    pixels = max(block.shape[0] * block.shape[1] for block in cut_blocks(scene, area))
    plane = pixels * max(np.dtype(dtype).itemsize for dtype in (scene.stored_dtype, scene.dtype))
    stored = min(scene.chunks[2], scene.shape[2])
    n_fitting = min(int(max_tile_bytes(memory_bytes, threads) // plane), _MAX_BANDS)
    return max(stored, n_fitting // stored * stored)


def cut_slabs(scene: Scene, area: Area, depth: int) -> list[Slab]:
    """The units of work: ``depth`` bands of one block each."""
    slabs, n_bands = [], scene.shape[2]
    for number, block in enumerate(cut_blocks(scene, area)):
        rows = block.row0 - area.row0, block.row1 - area.row0
        cols = block.col0 - area.col0, block.col1 - area.col0
        for b in range(0, n_bands, depth):
            name = f"bands-{b:04d}-of-{number:04d}"
            slabs.append(Slab(name, *rows, *cols, b, min(b + depth, n_bands)))
    return slabs


def create_transposed(scene: Scene, area: Area, depth: int, path: Path) -> Scene:
    """Create the folders of the blocks; return the scene that reads the area from them."""
    fields = scene_fields(scene) | {"shards": None, "stored_dtype": scene.dtype, "thinned": None}
    blocks = cut_blocks(scene, area)
    members = []
    for block in blocks:
        height, width = block.shape
        folder = path / _block_name(block.row0, block.col0)
        folder.mkdir(parents=True, exist_ok=True)
        chunks = min(_CHUNK_SIDE, height), min(_CHUNK_SIDE, width), depth
        shape = height, width, scene.shape[2]
        member = {"path": str(folder), "chunks": chunks, "shape": shape}
        members.append(BlockScene(**fields | member))
    return MosaicScene(
        **fields | {"path": str(path), "chunks": members[0].chunks},
        members=tuple(members),
        corners=tuple((block.row0, block.col0) for block in blocks),
        overlap="first",
        has_no_overlap=True,
        gap_value=0.0,
        probe_bands=(),
        source_numbers=((),) * len(members),
        line_numbers=((),) * len(members),
    )


def _block_name(row0: int, col0: int) -> str:
    return f"{row0:06d}-{col0:06d}"


def transpose_bands(job: TransposeJob, slab: Tile) -> dict[str, Any]:
    """On a worker: copy some bands of a block from the scene to an array."""
    assert isinstance(slab, Slab)
    rows, cols = job.area.window(slab)
    window = job.scene.read(rows, cols, slice(slab.b0, slab.b1))
    name = f"{_block_name(rows.start, cols.start)}/{slab.b0:04d}"
    path = job.path / name
    check_guard(path)
    chunk = (*(min(_CHUNK_SIDE, n) for n in window.shape[:2]), window.shape[2])
    array = zarr.create_array(
        str(path),
        shape=window.shape,
        chunks=chunk,
        shards=tuple(-(-n // c) * c for n, c in zip(window.shape, chunk, strict=True)),
        dtype=window.dtype,
        compressors=zarr_chunks.chunk_codecs(),
        attributes={zarr_chunks.EMPTY_CHUNKS: []},  # no file may be absent
        overwrite=True,
    )
    shards = zarr_chunks.write_shards(array, path, 0, 0, window, keep_empty=True)
    names = (f"{name}/{file}" for file in ("zarr.json", *shards))
    files = {file: measure_file(job.path / file) for file in names}
    return {"bytes_read": window.nbytes, "bytes_written": window.nbytes, "files": files}
