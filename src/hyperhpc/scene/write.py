"""Write a cube as Zarr in the tutorial's layout, and the map of true classes.

Both are filled in whole shards (or chunks), since a shard written in parts loses data.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import pyproj
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from hyperhpc.scene import materials
from hyperhpc.scene.absent import mark_empty
from hyperhpc.scene.cube import THINNED_STEP, Grid
from hyperhpc.scene.thinned import GROUP, MARK, thinned_grid, thinned_shape

_INNER = 64  # side of a chunk within a shard
_SHARD = 512
_CHUNK_V2 = 128
_TRUTH_CHUNK = 512


class Sink(Protocol):
    """Takes the blocks of a cube in any order.

    Attributes
    ----------
    block
        Rows and columns of the blocks it wants; those at the far edges may be smaller.
    """

    block: tuple[int, int]

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object, *error: object) -> None: ...
    def put(self, row: int, col: int, dn: np.ndarray) -> None:
        """Store DN int16 (y, x, band) whose first pixel is (row, col)."""


def simulated_grid(rows: int, cols: int) -> Grid:
    """Return the place on Earth of simulated scenes: NEON's CPER site, UTM 13N, 1 m."""
    crs = pyproj.CRS.from_epsg(32613)
    return Grid(xmin=517000.0, ymax=4526000.0, px=1.0, py=1.0, wkt=crs.to_wkt(), epsg=32613)


class ZarrScene:
    """Zarr store: group ``reflectance`` with ``reflectance`` (y, x, wl) and coordinates.

    Parameters
    ----------
    path
        Store to create.
    shape
        (rows, columns, bands).
    zarr_format
        3: chunks of 64 x 64 pixels in shards of 512 x 512, Blosc (LZ4, bitshuffle) and
        crc32c. 2: chunks of 128 x 128 pixels, Blosc.

    Every 4th row and column is stored once more, in the group ``reflectance/every4th``.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int, int], zarr_format: Literal[2, 3]
    ) -> None:
        rows, cols, bands = shape
        root = zarr.create_group(path, zarr_format=zarr_format)
        group = root.create_group("reflectance", attributes=_GROUP_ATTRS)
        chunk = _CHUNK_V2 if zarr_format == 2 else _INNER
        side = _SHARD if bands <= 512 else _SHARD // 2  # a shard is held in memory thrice
        shard = (min(side, _round_up(rows)), min(side, _round_up(cols)))
        self.block = shard if zarr_format == 3 else (2 * chunk, 2 * chunk)
        grid = simulated_grid(rows, cols)
        self._cube = _create_cube(group, shape, grid, chunk, shard)
        self._thinned = _create_cube(
            group.create_group(GROUP, attributes=_GROUP_ATTRS),
            thinned_shape(shape),
            thinned_grid(grid),
            chunk // THINNED_STEP,
            (shard[0] // THINNED_STEP, shard[1] // THINNED_STEP),
            {MARK: THINNED_STEP},
        )
        self._path = path
        self._gather()

    def _gather(self) -> None:
        for place in (f"reflectance/{GROUP}", "reflectance", None):
            _consolidate(self._path, place)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Nothing is held open; of a whole store the empty files are listed."""
        if kind is None:
            for array in (self._cube, self._thinned):
                mark_empty(array, str(self._path / array.path))
            self._gather()

    def put(self, row: int, col: int, dn: np.ndarray) -> None:
        """Store one block; it must cover whole shards or reach the edge of the scene."""
        self._cube[row : row + dn.shape[0], col : col + dn.shape[1], :] = dn
        few = dn[::THINNED_STEP, ::THINNED_STEP]
        y, x = row // THINNED_STEP, col // THINNED_STEP
        self._thinned[y : y + few.shape[0], x : x + few.shape[1], :] = few


def _create_cube(
    group: zarr.Group,
    shape: tuple[int, int, int],
    grid: Grid,
    chunk: int,
    shard: tuple[int, int],
    attributes: Mapping[str, Any] | None = None,
) -> zarr.Array[Any]:
    """The array ``reflectance`` and its coordinates; shards are for Zarr v3 only."""
    cube = _create(
        group,
        "reflectance",
        ("y", "x", "wl"),
        shape=shape,
        dtype="int16",
        chunks=(chunk, chunk, shape[2]),
        shards=(*shard, shape[2]),
        fill_value=materials.NODATA,
        attributes={
            "long_name": "surface reflectance (simulated)",
            "units": "1",
            "Scale_Factor": materials.SCALE_FACTOR,
            "Data_Ignore_Value": materials.NODATA,
            "bad_band_windows_nm": [list(w) for w in materials.WATER_WINDOWS_NM],
            "grid_mapping": "spatial_ref",
        }
        | dict(attributes or {}),
    )
    _write_axes(group, grid, shape[0], shape[1])
    wavelength_nm, nm = materials.band_centres(shape[2]), {"units": "nm"}
    _write(group, "wl", ("wl",), wavelength_nm, {**nm, "long_name": "band centre"})
    fwhm = {**nm, "long_name": "full width at half maximum"}
    _write(group, "fwhm", ("wl",), materials.band_widths(wavelength_nm), fwhm)
    return cube


class TruthMap:
    """Map of true classes: Zarr v2, ``true_class`` uint8 (y, x), 255 = no-data.

    Blocks of any place and size are taken; chunks are written by one thread.
    """

    def __init__(self, path: Path, rows: int, cols: int) -> None:
        self._path = path
        root = zarr.create_group(path, zarr_format=2, attributes=_GROUP_ATTRS)
        self._map = _create(
            root,
            "true_class",
            ("y", "x"),
            shape=(rows, cols),
            dtype="uint8",
            chunks=(min(rows, _TRUTH_CHUNK), min(cols, _TRUTH_CHUNK)),
            fill_value=None,  # xarray would take it for a mask and give floats
            attributes={
                "long_name": "class with the largest share of the pixel",
                "flag_values": list(range(len(materials.CLASS_NAMES))),
                "flag_meanings": " ".join(materials.CLASS_NAMES),
                "missing_class": 255,
                "grid_mapping": "spatial_ref",
            },
        )
        _write_axes(root, simulated_grid(rows, cols), rows, cols)
        _consolidate(path)

    def put(self, row: int, col: int, classes: np.ndarray) -> None:
        """Store the classes of one block."""
        self._map[row : row + classes.shape[0], col : col + classes.shape[1]] = classes

    def valid_fraction(self) -> float:
        """Share of pixels that hold data, once all are stored."""
        rows, cols = self._map.shape
        strips = (self._map[row : row + _TRUTH_CHUNK] for row in range(0, rows, _TRUTH_CHUNK))
        return sum(int(np.count_nonzero(np.asarray(s) < 255)) for s in strips) / (rows * cols)


_GROUP_ATTRS = {"Conventions": "CF-1.11", "title": "Scene simulated by hyperhpc"}


def _consolidate(path: Path, place: str | None = None) -> None:
    """Gather the metadata, so that plain ``xarray.open_zarr`` is content."""
    with warnings.catch_warnings():
        # Not yet in the specification of v3; readers that do not know it must ignore it.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(path), path=place)


def _round_up(size: int) -> int:
    return -(-size // _INNER) * _INNER


def _write_axes(group: zarr.Group, grid: Grid, rows: int, cols: int) -> None:
    """Pixel centres and the CF grid mapping."""
    for name, values, word in (
        ("y", grid.y_centres(0, rows), "northing"),
        ("x", grid.x_centres(0, cols), "easting"),
    ):
        about = {"units": "m", "standard_name": f"projection_{name}_coordinate"}
        _write(group, name, (name,), values, {**about, "long_name": f"{word} of pixel centre"})
    mapping = pyproj.CRS.from_wkt(grid.wkt or "").to_cf()
    mapping["spatial_ref"] = mapping["crs_wkt"]
    mapping["GeoTransform"] = f"{grid.xmin} {grid.px} 0.0 {grid.ymax} 0.0 {-grid.py}"
    _write(group, "spatial_ref", (), np.asarray(0, dtype=np.int64), mapping)


def _write(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    values: np.ndarray,
    about: dict[str, Any],
) -> None:
    array = _create(
        group,
        name,
        dims,
        shape=values.shape,
        dtype=values.dtype.name,
        chunks=tuple(max(1, n) for n in values.shape),
        fill_value=None if group.metadata.zarr_format == 2 else 0,
        attributes=about,
    )
    array[...] = values


def _create(
    group: zarr.Group, name: str, dims: tuple[str, ...], attributes: dict[str, Any], **spec: Any
) -> zarr.Array[Any]:
    """Create an array with named dimensions, in either format of Zarr."""
    if group.metadata.zarr_format == 2:
        from numcodecs import Blosc

        spec.pop("shards", None)
        spec["compressors"] = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)
        attributes = {**attributes, "_ARRAY_DIMENSIONS": list(dims)}
    else:
        spec["compressors"] = [
            BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle"),
            Crc32cCodec(),
        ]
        spec["dimension_names"] = dims
    return group.create_array(name, attributes=attributes, **spec)
