"""Pass 2: each tile is read once and gives indices, labels, counts and overview pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hyperhpc.analysis.indices import BoundIndex, compute_indices
from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.errors import ResourceError
from hyperhpc.pipeline.gridfile import GridFile
from hyperhpc.pipeline.models import Labeller, label_all
from hyperhpc.pipeline.plan import Area, Tile
from hyperhpc.scene.cube import Scene
from hyperhpc.schema import CLUSTER, COLORS, INDICES, NO_CLUSTER, QUICKLOOK

#: Pixels handled at a time, which bounds the float64 values of the index bands.
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


def classify_tile(job: ClassifyJob, tile: Tile) -> dict[str, Any]:
    """On a worker: one tile from the scene to all its outputs."""
    dn = job.scene.read(
        slice(job.area.row0 + tile.y0, job.area.row0 + tile.y1),
        slice(job.area.col0 + tile.x0, job.area.col0 + tile.x1),
    )
    height, width, n_bands = dn.shape
    flat = dn.reshape(-1, n_bands)
    is_valid = np.empty(len(flat), dtype=bool)
    indices = np.empty((len(job.indices), len(flat)), dtype=np.float32)
    labels = np.full((len(job.labellers), len(flat)), NO_CLUSTER, dtype=np.uint8)
    for start in range(0, len(flat), STRIP):
        rows = slice(start, min(start + STRIP, len(flat)))
        strip = flat[rows]
        valid = is_valid[rows] = valid_pixels(strip, job.scene.nodata, job.bands)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, hence missing
            indices[:, rows] = compute_indices(
                strip,
                job.indices,
                scale_factor=job.scene.scale_factor,
                is_missing=~valid,
                nodata=job.scene.nodata,
                window_nodata=job.scene.window_nodata,
                is_window_band=job.is_window_band,
            )
        if valid.any():
            pixels = strip[valid][:, job.bands]
            labels[:, rows][:, valid] = label_all(job.labellers, pixels)
    indices[~np.isfinite(indices)] = np.nan
    index_maps = indices.reshape(-1, height, width)
    label_maps = labels.reshape(-1, height, width)
    _write_results(job, tile, index_maps, label_maps)
    is_valid_map = is_valid.reshape(height, width)
    _write_overview(job, tile, dn, is_valid_map, index_maps, label_maps)
    return _record(job, tile, dn.nbytes, is_valid, indices, labels)


def _write_results(
    job: ClassifyJob, tile: Tile, indices: np.ndarray, labels: np.ndarray
) -> None:
    try:
        group = zarr.open_group(str(job.results), mode="r+", use_consolidated=False)
        window = (slice(None), slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        if len(indices):
            group["indices"][window] = indices  # type: ignore[index]
        if len(labels):
            clusters: zarr.Array = group["cluster"]  # type: ignore[assignment]
            clusters.with_config({"write_empty_chunks": True})[window] = labels
    except OSError as error:
        raise ResourceError(
            f"{job.results} cannot be written: {error.strerror or error}",
            "make room on the disk, then give the same command again: it goes on",
        ) from None


def _write_overview(
    job: ClassifyJob,
    tile: Tile,
    dn: np.ndarray,
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
    colors = dn[y, x][:, :, list(job.colors)].astype(np.float32) / np.float32(
        job.scene.scale_factor
    )
    colors[~is_valid[y, x]] = np.nan
    row, col = first[0] // step, first[1] // step
    job.overview.quicklook.write(row, col, colors)
    if len(indices):
        job.overview.indices.write(row, col, np.moveaxis(indices[:, y, x], 0, -1))
    if len(labels):
        job.overview.cluster.write(row, col, np.moveaxis(labels[:, y, x], 0, -1))


def _record(
    job: ClassifyJob,
    tile: Tile,
    bytes_read: int,
    is_valid: np.ndarray,
    indices: np.ndarray,
    labels: np.ndarray,
) -> dict[str, Any]:
    sizes = [labeller.n_clusters for labeller in job.labellers]
    flat = labels[:, is_valid].astype(np.int64)
    confusion = {
        f"{a}-{b}": np.bincount(flat[a] * sizes[b] + flat[b], minlength=sizes[a] * sizes[b])
        .reshape(sizes[a], sizes[b])
        .tolist()
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
        "missing": np.isnan(indices).sum(axis=1).tolist(),
        "bytes_read": bytes_read,
        "bytes_written": indices.nbytes + labels.nbytes,
    }
