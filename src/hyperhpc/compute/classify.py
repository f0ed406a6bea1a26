"""The classify pass: each tile is read once and gives indices, labels and overview pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import zarr
from numcodecs import BitRound

from hyperhpc.analysis.agreement import confusion_table
from hyperhpc.analysis.condition import NO_CONDITIONS, BoundConditions
from hyperhpc.analysis.evaluation import CAUSES
from hyperhpc.analysis.indices import BoundIndex, compute_indices, gather_bands
from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.analysis.unmixing.fractions import Unmixer
from hyperhpc.compute.endmembers import Endmembers, measure_fractions
from hyperhpc.compute.fit.models import Labeller, label_all
from hyperhpc.compute.grid_file import GridFile
from hyperhpc.config import INDEX_BITS
from hyperhpc.files import check_guard
from hyperhpc.rundir.folder import disk_error
from hyperhpc.rundir.integrity import measure_tile
from hyperhpc.rundir.plan import Area, Tile
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.formats.zarr_guard import GuardedStore
from hyperhpc.schema import (
    CLUSTER,
    COLORS,
    HAS_DATA,
    INDICES,
    NO_CLUSTER,
    NOT_CLUSTERED,
    OVERVIEW,
    UNMIXING,
    has_cluster,
)
from hyperhpc.sealed import Sums

#: Pixels whose indices are computed at a time: limits the float64 values of their bands.
INDEX_PIXELS = 65536
#: Pixels that are gathered at a time to be unmixed.
UNMIXED_PIXELS = 16384
_UNREADABLE = "in a tile that cannot be read"


@dataclass(frozen=True)
class OverviewFiles:
    """The finest overview level, as grid files: every ``step``-th pixel of the area."""

    step: int
    quicklook: GridFile
    indices: GridFile
    cluster: GridFile
    nodata_cause: GridFile
    #: Fractions and their residual; none without ``--unmix``.
    unmixing: tuple[GridFile, ...] = ()

    @classmethod
    def at(
        cls, work: Path, area: Area, step: int, n_indices: int, n_models: int, n_endmembers: int = 0
    ) -> OverviewFiles:
        """The files of an area, in the folder ``work``."""
        height, width = (-(-side // step) for side in area.shape)
        n_layers = len(COLORS), n_indices, n_models, 1
        layers = dict(zip(OVERVIEW, n_layers, strict=True))
        if n_endmembers:
            layers |= dict(zip(UNMIXING, (n_endmembers, 1), strict=True))
        files = [
            GridFile(work / f"overview-{variable.name}.dat", (height, width, n), variable.dtype)
            for variable, n in layers.items()
        ]
        return cls.of(step, files)

    @classmethod
    def of(cls, step: int, files: Sequence[GridFile]) -> OverviewFiles:
        """What gives these :meth:`files`."""
        quicklook, indices, cluster, nodata_cause, *unmixing = files
        return cls(step, quicklook, indices, cluster, nodata_cause, tuple(unmixing))

    def files(self) -> tuple[GridFile, ...]:
        """All of them, in the order of ``schema.OVERVIEW``, then of ``schema.UNMIXING``."""
        return self.quicklook, self.indices, self.cluster, self.nodata_cause, *self.unmixing


@dataclass(frozen=True)
class ClassifyJob:
    """What each tile of the classify pass needs.

    ``source``: The scene that knows why pixels are missing; ``scene`` may be a copy of it.
    ``bands``: Positions of the good bands. ``colors``: Those of the quicklook's bands.
    ``is_window_band``: Bool (band): inside the water windows.
    ``index_bits``: How many of the 23 fraction bits of an index are kept.
    ``endmembers``: Those of ``--unmix``, if it is given.
    ``conditions``: Valid pixels that do not meet them get no cluster.
    """

    scene: Scene
    source: Scene
    area: Area
    bands: np.ndarray
    is_window_band: np.ndarray
    indices: Sequence[BoundIndex]
    labellers: Sequence[Labeller]
    colors: Sequence[int]
    results: Path
    overview: OverviewFiles = field(repr=False)
    index_bits: int = INDEX_BITS
    endmembers: Endmembers | None = None
    conditions: BoundConditions = NO_CONDITIONS

    @property
    def causes(self) -> tuple[str, ...]:
        """The meanings of the codes of ``NODATA_CAUSE``."""
        return (HAS_DATA, *self.source.causes(), _UNREADABLE)


class _Pixels(NamedTuple):
    """All pixels (y, x) of a tile."""

    is_valid: np.ndarray
    #: DN (y, x, color).
    colors: np.ndarray
    #: float32 (index, y, x), NaN where missing.
    maps: np.ndarray
    #: uint8 (model, y, x), 255 where missing, 254 where a condition does not hold.
    labels: np.ndarray
    #: uint8 (y, x), positions in :attr:`ClassifyJob.causes`.
    causes: np.ndarray
    #: For each cause the pixels (index) that are missing for it, int64.
    undefined: dict[str, np.ndarray]
    #: float32 (endmember + 1, y, x), NaN where missing: fractions, then their residual.
    mixtures: np.ndarray
    #: Pixels (condition) where each of them holds, int64.
    holding: np.ndarray


def classify_tile(job: ClassifyJob, tile: Tile) -> dict[str, Any]:
    """On a worker: read one tile of the scene and write all its outputs."""
    height, width = tile.shape
    bands, _ = gather_bands(job.indices)
    index_dn = np.empty((height, width, len(bands)), dtype=job.scene.dtype)
    colors = np.empty((height, width, len(job.colors)), dtype=job.scene.dtype)
    is_valid = np.empty((height, width), dtype=bool)
    labels = np.empty((len(job.labellers), height, width), dtype=np.uint8)
    mixtures, unmixer = _no_mixtures(job, tile), _make_unmixer(job)
    holding = np.zeros(len(job.conditions), np.int64)
    rows, cols = job.area.window(tile)
    for row, col, dn in job.scene.blocks(rows, cols):
        y = slice(row - rows.start, row - rows.start + dn.shape[0])
        x = slice(col - cols.start, col - cols.start + dn.shape[1])
        flat = dn.reshape(-1, dn.shape[2])
        valid = valid_pixels(flat, job.scene.nodata, job.bands)
        is_valid[y, x] = valid.reshape(dn.shape[:2])
        holds = job.conditions.test(flat, valid)
        holding += holds.sum(axis=1)
        meets = valid & holds.all(axis=0)
        found = label_all(job.labellers, flat, job.bands, meets)
        found[:, valid & ~meets] = NOT_CLUSTERED
        labels[:, y, x] = found.reshape(-1, *dn.shape[:2])
        if unmixer:
            mixtures[:, y, x] = _unmix(unmixer, flat, job.bands, valid).reshape(-1, *dn.shape[:2])
        for i, band in enumerate(bands):
            index_dn[y, x, i] = dn[..., band]
        for i, band in enumerate(job.colors):
            colors[y, x, i] = dn[..., band]
    maps, undefined = _compute_maps(job, index_dn, is_valid)
    pixel_bytes = job.scene.shape[2] * np.dtype(job.scene.stored_dtype).itemsize
    causes = np.zeros(is_valid.shape, np.uint8)
    if not is_valid.all():
        np.copyto(causes, 1 + job.source.read_causes(rows, cols), where=~is_valid)
    pixels = _Pixels(is_valid, colors, maps, labels, causes, undefined, mixtures, holding)
    return _write_tile(job, tile, pixels, height * width * pixel_bytes)


def write_nodata_tile(job: ClassifyJob, tile: Tile) -> dict[str, Any]:
    """On a worker: write a tile that cannot be read as no-data."""
    maps = np.full((len(job.indices), *tile.shape), np.nan, dtype=np.float32)
    labels = np.full((len(job.labellers), *tile.shape), NO_CLUSTER, dtype=np.uint8)
    colors = np.zeros((*tile.shape, len(job.colors)), dtype=np.float32)
    undefined = {name: np.zeros(len(maps), np.int64) for name in CAUSES}
    causes = np.full(tile.shape, job.causes.index(_UNREADABLE), np.uint8)
    is_valid, mixtures = np.zeros(tile.shape, bool), _no_mixtures(job, tile)
    holding = np.zeros(len(job.conditions), np.int64)
    pixels = _Pixels(is_valid, colors, maps, labels, causes, undefined, mixtures, holding)
    return _write_tile(job, tile, pixels, 0)


def _no_mixtures(job: ClassifyJob, tile: Tile) -> np.ndarray:
    """``_Pixels.mixtures`` of a tile without data; no layers without ``--unmix``."""
    n_layers = len(job.endmembers.names) + 1 if job.endmembers else 0
    return np.full((n_layers, *tile.shape), np.nan, dtype=np.float32)


def _make_unmixer(job: ClassifyJob) -> Unmixer | None:
    return job.endmembers.unmixer(job.scene) if job.endmembers else None


def _unmix(unmixer: Unmixer, dn: np.ndarray, bands: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
    """Fractions and residual, float32 (endmember + 1, pixel), of DN (pixel, band)."""
    found = np.full((unmixer.n_endmembers + 1, len(dn)), np.nan, dtype=np.float32)
    places = np.flatnonzero(is_valid)
    for start in range(0, places.size, UNMIXED_PIXELS):
        some = places[start : start + UNMIXED_PIXELS]
        fractions, rmse = unmixer.unmix(dn[some[:, None], bands])
        found[:-1, some], found[-1, some] = fractions, rmse
    return found


def _compute_maps(
    job: ClassifyJob, dn: np.ndarray, is_valid: np.ndarray
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """float32 (index, y, x), NaN where missing, from the bands that the indices read.

    The second value counts the pixels that are missing for each of ``CAUSES``.
    """
    bands, indices = gather_bands(job.indices)
    flat, valid = dn.reshape(is_valid.size, dn.shape[2]), is_valid.reshape(-1)
    maps = np.empty((len(indices), len(flat)), dtype=np.float32)
    undefined = {name: np.zeros(len(indices), np.int64) for name in CAUSES}
    for start in range(0, len(flat), INDEX_PIXELS):
        rows = slice(start, start + INDEX_PIXELS)
        values, causes = compute_indices(
            flat[rows],
            indices,
            scale_factor=job.scene.scale_factor,
            is_missing=~valid[rows],
            nodata=job.scene.nodata,
            window_nodata=job.scene.window_nodata,
            is_window_band=job.is_window_band[bands],
        )
        with np.errstate(over="ignore"):  # too large for float32 is infinite, hence missing
            maps[:, rows] = values
        if causes.any():
            for name, cause in CAUSES.items():
                undefined[name] += (causes == cause).sum(axis=1)
    if job.index_bits < INDEX_BITS:
        maps = BitRound(job.index_bits).encode(maps).view(maps.dtype)
    maps[~np.isfinite(maps)] = np.nan
    return maps.reshape(-1, *is_valid.shape), undefined


def _write_tile(job: ClassifyJob, tile: Tile, pixels: _Pixels, bytes_read: int) -> dict[str, Any]:
    """Write results and overview pixels of a tile; return its record."""
    is_valid, _, maps, labels, causes, undefined, mixtures, holding = pixels
    files = _write_results(job, tile, pixels)
    windows = _write_overview(job, tile, pixels)
    sizes = [labeller.n_clusters for labeller in job.labellers]
    flat = labels[:, has_cluster(labels).all(axis=0)]  # the same pixels of all models
    mixed = {}
    if job.endmembers:
        mixed["unmixing"] = measure_fractions(mixtures[:-1], mixtures[-1], job.endmembers.groups)
    return mixed | {
        "valid": int(is_valid.sum()),
        "nodata": int((~is_valid).sum()),
        "causes": _count_causes(job, causes),
        "clustered": flat.shape[1],
        "holding": holding.tolist(),
        "pixels": [
            np.bincount(row, minlength=size).tolist() for row, size in zip(flat, sizes, strict=True)
        ],
        "confusion": {
            f"{a}-{b}": confusion_table(flat[a], flat[b], sizes[a], sizes[b]).tolist()
            for a, b in combinations(range(len(sizes)), 2)
        },
        "missing": np.isnan(maps).sum(axis=(1, 2)).tolist(),
        "undefined": {name: counts.tolist() for name, counts in undefined.items()},
        "bytes_read": bytes_read,
        "bytes_written": maps.nbytes + labels.nbytes + mixtures.nbytes,
        "files": files,
        "windows": windows,
    }


def _count_causes(job: ClassifyJob, causes: np.ndarray) -> dict[str, int]:
    """Pixels that are not valid, by cause."""
    counts: dict[str, int] = {}
    times = np.bincount(causes.ravel(), minlength=len(job.causes)).tolist()
    for name, n in zip(job.causes[1:], times[1:], strict=True):
        counts[name] = counts.get(name, 0) + n  # a mask may be given twice
    return counts


def _write_results(job: ClassifyJob, tile: Tile, pixels: _Pixels) -> Sums:
    maps, labels, mixtures = pixels.maps, pixels.labels, pixels.mixtures
    names = [INDICES.name, CLUSTER.name]
    check_guard(job.results)
    try:
        group = zarr.open_group(GuardedStore(job.results), mode="r+", use_consolidated=False)
        window = (slice(None), slice(tile.y0, tile.y1), slice(tile.x0, tile.x1))
        if len(maps):
            indices: zarr.Array = group["indices"]  # type: ignore[assignment]
            indices.with_config({"write_empty_chunks": False})[window] = maps
        if len(labels):
            clusters: zarr.Array = group["cluster"]  # type: ignore[assignment]
            clusters.with_config({"write_empty_chunks": True})[window] = labels
        if len(mixtures):
            for variable, values in zip(UNMIXING, (mixtures[:-1], mixtures[-1]), strict=True):
                array: zarr.Array = group[variable.name]  # type: ignore[assignment]
                array.with_config({"write_empty_chunks": False})[..., *window[1:]] = values
                names.append(variable.name)
        return measure_tile(group, names, job.results, tile)
    except OSError as error:
        raise disk_error(error, job.results) from None


def _write_overview(job: ClassifyJob, tile: Tile, pixels: _Pixels) -> dict[str, list[Any]]:
    """Write every ``step``-th pixel of the area that lies in this tile.

    Returns: by the name of a grid file what :meth:`GridFile.write` returns.
    """
    step = job.overview.step
    row, col = -(-tile.y0 // step), -(-tile.x0 // step)
    if row * step >= tile.y1 or col * step >= tile.x1:
        return {}
    y, x = slice(row * step - tile.y0, None, step), slice(col * step - tile.x0, None, step)
    quicklook = pixels.colors[y, x].astype(np.float32) / np.float32(job.scene.scale_factor)
    quicklook[~pixels.is_valid[y, x]] = np.nan
    causes = pixels.causes[y, x, np.newaxis]
    overview, windows = job.overview, {}
    for file, values in ((overview.quicklook, quicklook), (overview.nodata_cause, causes)):
        windows[file.path.name] = file.write(row, col, values)
    files = overview.indices, overview.cluster, *overview.unmixing
    layered = [pixels.maps, pixels.labels]
    if overview.unmixing:
        layered += [pixels.mixtures[:-1], pixels.mixtures[-1:]]
    for file, layers in zip(files, layered, strict=True):
        if len(layers):
            values = np.moveaxis(layers[:, y, x], 0, -1)
            windows[file.path.name] = file.write(row, col, values)
    return windows
