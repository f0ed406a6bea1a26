"""Pass 2: each tile is read once and gives indices, labels, counts and overview pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import BitRound

from hyperhpc.analysis.agreement import confusion_table
from hyperhpc.analysis.indices import BoundIndex, compute_indices, gather_bands
from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.compute.models import Labeller, label_all
from hyperhpc.compute.sample import GridFile
from hyperhpc.config import INDEX_BITS
from hyperhpc.rundir.folder import disk_error
from hyperhpc.rundir.integrity import Sums, measure_tile
from hyperhpc.rundir.plan import Area, Tile
from hyperhpc.scene.cube import Scene
from hyperhpc.schema import CLUSTER, COLORS, INDICES, NO_CLUSTER, QUICKLOOK

#: Pixels whose indices are computed at a time: bounds the float64 values of their bands.
STRIP = 65536


@dataclass(frozen=True)
class OverviewFiles:
    """The finest overview level, as grid files: every ``step``-th pixel of the area."""

    step: int
    quicklook: GridFile
    indices: GridFile
    cluster: GridFile

    @classmethod
    def at(
        cls, work: Path, area: Area, step: int, n_indices: int, n_models: int
    ) -> OverviewFiles:
        """The files of an area, in the folder ``work``."""
        height, width = (-(-side // step) for side in area.shape)
        return cls(
            step,
            GridFile(
                work / "overview-quicklook.dat", (height, width, len(COLORS)), QUICKLOOK.dtype
            ),
            GridFile(work / "overview-indices.dat", (height, width, n_indices), INDICES.dtype),
            GridFile(work / "overview-cluster.dat", (height, width, n_models), CLUSTER.dtype),
        )

    def files(self) -> tuple[GridFile, ...]:
        """All of them."""
        return self.quicklook, self.indices, self.cluster


@dataclass(frozen=True)
class ClassifyJob:
    """What each tile of pass 2 needs.

    Attributes
    ----------
    bands
        Positions of the good bands.
    is_window_band
        Bool (band): inside the water windows.
    colors
        Positions of the red, green, blue and near-infrared bands of the quicklook.
    index_bits
        Of the 23 of the fraction of an index, how many are kept.
    """

    scene: Scene
    area: Area
    bands: np.ndarray
    is_window_band: np.ndarray
    indices: Sequence[BoundIndex]
    labellers: Sequence[Labeller]
    colors: Sequence[int]
    results: Path
    overview: OverviewFiles = field(repr=False)
    index_bits: int = INDEX_BITS


def classify_tile(job: ClassifyJob, tile: Tile) -> dict[str, Any]:
    """On a worker: one tile from the scene to all its outputs."""
    height, width = tile.shape
    bands, indices = gather_bands(job.indices)
    kept = np.empty((height, width, len(bands)), dtype=job.scene.dtype)
    colors = np.empty((height, width, len(job.colors)), dtype=job.scene.dtype)
    is_valid = np.empty((height, width), dtype=bool)
    labels = np.empty((len(job.labellers), height, width), dtype=np.uint8)
    first = job.area.row0 + tile.y0, job.area.col0 + tile.x0
    pieces = job.scene.blocks(
        slice(first[0], first[0] + height), slice(first[1], first[1] + width)
    )
    for row, col, dn in pieces:
        y = slice(row - first[0], row - first[0] + dn.shape[0])
        x = slice(col - first[1], col - first[1] + dn.shape[1])
        flat = dn.reshape(-1, dn.shape[2])
        valid = valid_pixels(flat, job.scene.nodata, job.bands)
        is_valid[y, x] = valid.reshape(dn.shape[:2])
        found = label_all(job.labellers, flat, job.bands, valid)
        labels[:, y, x] = found.reshape(-1, *dn.shape[:2])
        for i, band in enumerate(bands):
            kept[y, x, i] = dn[..., band]
        for i, band in enumerate(job.colors):
            colors[y, x, i] = dn[..., band]
    maps = _index_maps(job, kept, indices, job.is_window_band[bands], is_valid)
    files = _write_results(job, tile, maps, labels)
    _write_overview(job, tile, colors, is_valid, maps, labels)
    pixel = job.scene.shape[2] * np.dtype(job.scene.stored_dtype).itemsize
    record = _record(job, height * width * pixel, is_valid, maps, labels)
    return record | {"files": files}


def blank_tile(job: ClassifyJob, tile: Tile) -> dict[str, Any]:
    """On a worker: a tile that cannot be read, as no-data."""
    maps = np.full((len(job.indices), *tile.shape), np.nan, dtype=np.float32)
    labels = np.full((len(job.labellers), *tile.shape), NO_CLUSTER, dtype=np.uint8)
    is_valid = np.zeros(tile.shape, dtype=bool)
    colors = np.zeros((*tile.shape, len(job.colors)), dtype=np.float32)
    files = _write_results(job, tile, maps, labels)
    _write_overview(job, tile, colors, is_valid, maps, labels)
    return _record(job, 0, is_valid, maps, labels) | {"files": files}


def _index_maps(
    job: ClassifyJob,
    dn: np.ndarray,
    indices: Sequence[BoundIndex],
    is_window_band: np.ndarray,
    is_valid: np.ndarray,
) -> np.ndarray:
    """float32 (index, y, x), NaN where missing, from the bands that indices read."""
    flat, valid = dn.reshape(is_valid.size, dn.shape[2]), is_valid.reshape(-1)
    maps = np.empty((len(indices), len(flat)), dtype=np.float32)
    for start in range(0, len(flat), STRIP):
        rows = slice(start, start + STRIP)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, hence missing
            maps[:, rows] = compute_indices(
                flat[rows],
                indices,
                scale_factor=job.scene.scale_factor,
                is_missing=~valid[rows],
                nodata=job.scene.nodata,
                window_nodata=job.scene.window_nodata,
                is_window_band=is_window_band,
            )
    if job.index_bits < INDEX_BITS:
        maps = BitRound(job.index_bits).encode(maps).view(maps.dtype)
    maps[~np.isfinite(maps)] = np.nan
    return maps.reshape(-1, *is_valid.shape)


def _write_results(
    job: ClassifyJob, tile: Tile, indices: np.ndarray, labels: np.ndarray
) -> Sums:
    try:
        group = zarr.open_group(str(job.results), mode="r+", use_consolidated=False)
        window = (slice(None), slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        if len(indices):
            group["indices"][window] = indices  # type: ignore[index]
        if len(labels):
            clusters: zarr.Array = group["cluster"]  # type: ignore[assignment]
            clusters.with_config({"write_empty_chunks": True})[window] = labels
        return measure_tile(group, (INDICES.name, CLUSTER.name), job.results, tile)
    except OSError as error:
        raise disk_error(error, job.results) from None


def _write_overview(
    job: ClassifyJob,
    tile: Tile,
    colors: np.ndarray,
    is_valid: np.ndarray,
    indices: np.ndarray,
    labels: np.ndarray,
) -> None:
    step = job.overview.step
    first = [-(-start // step) * step for start in (tile.y0, tile.x0)]
    if first[0] >= tile.y1 or first[1] >= tile.x1:
        return
    y, x = (
        slice(f - start, None, step) for f, start in zip(first, (tile.y0, tile.x0), strict=True)
    )
    quicklook = colors[y, x].astype(np.float32) / np.float32(job.scene.scale_factor)
    quicklook[~is_valid[y, x]] = np.nan
    row, col = first[0] // step, first[1] // step
    job.overview.quicklook.write(row, col, quicklook)
    if len(indices):
        job.overview.indices.write(row, col, np.moveaxis(indices[:, y, x], 0, -1))
    if len(labels):
        job.overview.cluster.write(row, col, np.moveaxis(labels[:, y, x], 0, -1))


def _record(
    job: ClassifyJob,
    bytes_read: int,
    is_valid: np.ndarray,
    indices: np.ndarray,
    labels: np.ndarray,
) -> dict[str, Any]:
    sizes = [labeller.n_clusters for labeller in job.labellers]
    flat = labels[:, is_valid]
    confusion = {
        f"{a}-{b}": confusion_table(flat[a], flat[b], sizes[a], sizes[b]).tolist()
        for a, b in combinations(range(len(sizes)), 2)
    }
    return {
        "valid": int(is_valid.sum()),
        "nodata": int((~is_valid).sum()),
        "pixels": [
            np.bincount(row, minlength=size).tolist()
            for row, size in zip(flat, sizes, strict=True)
        ],
        "confusion": confusion,
        "missing": np.isnan(indices).sum(axis=(1, 2)).tolist(),
        "bytes_read": bytes_read,
        "bytes_written": indices.nbytes + labels.nbytes,
    }
