"""Write a cube as the Zarr store that is read fastest, with its metadata.

Zarr v3: chunks of 64 x 64 pixels of all bands in shards of 512 x 512, Blosc (LZ4, bitshuffle)
and crc32c (docs/decisions/0014 has the other codecs), and a copy of every 4th row and column,
see :mod:`hyperhpc.scene.thinned`. A shard is written whole or not at all, by one process.
"""

from __future__ import annotations

import base64
import json
import struct
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyproj
import zarr
from numcodecs import Blosc

from hyperhpc.scene.cube import (
    ANGLE_LAYERS,
    DATE_ARRAY,
    LAYERS,
    LINE_ARRAY,
    SOURCE_ARRAY,
    THINNED_STEP,
    Grid,
    Layer,
    Source,
)
from hyperhpc.scene.formats import zarr_chunks
from hyperhpc.scene.formats.zarr_guard import GuardedStore
from hyperhpc.scene.georef import cf_georeference
from hyperhpc.scene.lazy import FWHM_ABOUT, GOOD_BAND_ABOUT, flag_good_bands, packing_attributes
from hyperhpc.scene.origins import ORIGIN_KINDS
from hyperhpc.scene.thinned import THINNED_ATTRIBUTE, THINNED_GROUP, thinned_grid, thinned_shape

#: The group that holds the cube, which has the same name in it.
CUBE = "reflectance"

_INNER = 64  # side of a chunk within a shard
_SHARD = 512
_CHUNK_V2 = 128
#: GeoZarr's conventions; their schemas are named by version and never change.
_CONVENTIONS = {
    "proj": (
        "f17cb550-5864-4468-aeb7-f3180cfb622f",
        "Coordinate reference system information for geospatial data",
    ),
    "spatial": ("689b58e2-cf7b-45e0-9fff-9cfc0883d6b4", "Spatial coordinate information"),
}
_LONG_NAMES = {
    SOURCE_ARRAY: "number of the source of each pixel",
    LINE_ARRAY: "number of the flight line of each pixel",
    DATE_ARRAY: "day of acquisition of each pixel, as YYYYMMDD",
}
_SCHEMAS = "https://raw.githubusercontent.com/zarr-conventions"
_SPECIFICATIONS = "https://github.com/zarr-conventions"


@dataclass(frozen=True, kw_only=True)
class CubeDescription:
    """The metadata of a cube in a store.

    ``shape``: (rows, columns, bands).
    ``scale_factor`` to ``bad_bands``: As in :class:`hyperhpc.scene.cube.Scene`.
    ``attributes``: Further ones of the array: text, numbers or flat lists of them.
    ``title``: Of the store.
    ``origins``: Arrays that say where pixels come from, of
        :data:`hyperhpc.scene.origins.ORIGIN_KINDS`, and the sources that each numbers.
    ``layers``: Quality layers and angles, of :data:`hyperhpc.scene.cube.LAYERS`.
    """

    shape: tuple[int, int, int]
    dtype: str
    grid: Grid
    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray | None
    scale_factor: float
    nodata: tuple[float, ...]
    window_nodata: tuple[float, ...] = ()
    bad_band_windows_nm: tuple[tuple[float, float], ...] = ()
    bad_bands: tuple[int, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    origins: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    layers: Mapping[str, Layer] = field(default_factory=dict)


def default_side(n_bands: int) -> int:
    """Rows and columns of a shard, of which three copies are in memory while it is written."""
    return _SHARD if n_bands <= 512 else _SHARD // 2


class CubeStore:
    """A store made by :func:`create_cube_store` that is being written, by ``threads`` threads.

    ``block``: Rows and columns of the blocks to store; those at the far edges may be smaller.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self._path, self._threads = path, threads
        root: Any = zarr.open_group(GuardedStore(path), mode="r+", use_consolidated=False)
        self._cube, self._thinned = root[f"{CUBE}/{CUBE}"], root[f"{CUBE}/{THINNED_GROUP}/{CUBE}"]
        names = {name: f"{CUBE}/{name}" for name in (*ORIGIN_KINDS, *LAYERS)}
        self._images = {name: root[place] for name, place in names.items() if place in root}
        tall, wide, _ = self._cube.chunks
        self.block: tuple[int, int] = (self._cube.shards or (2 * tall, 2 * wide))[:2]

    def put(
        self, row: int, col: int, dn: np.ndarray, images: Mapping[str, np.ndarray] | None = None
    ) -> list[str]:
        """Store DN (y, x, band), and images: origins and layers of :class:`Scene`.

        ``row`` and ``col`` are of the first pixel. A block must cover whole shards or reach
        the edge of the scene.

        Returns: names of the files, relative to the store; files of empty chunks do not exist.
        """
        names = self._write(self._cube, row, col, dn)
        few = dn[::THINNED_STEP, ::THINNED_STEP]
        names += self._write(self._thinned, row // THINNED_STEP, col // THINNED_STEP, few)
        for name, array in self._images.items():
            if images and name in images:
                names += self._write(array, row, col, images[name])
        return names

    def _write(self, array: zarr.Array[Any], row: int, col: int, values: np.ndarray) -> list[str]:
        """Store values; return the names of the files they are in."""
        if array.shards:
            folder = self._path / array.path
            names = zarr_chunks.write_shards(array, folder, row, col, values, self._threads)
        else:
            names = _write_chunks(array, row, col, values)
        return [f"{array.path}/{name}" for name in names]

    def finish(self) -> None:
        """Complete the store: list the files that do not exist, consolidate the metadata."""
        for array in (self._cube, self._thinned):
            absent = zarr_chunks.absent_files(array, str(self._path / array.path))
            array.attrs[zarr_chunks.EMPTY_CHUNKS] = " ".join(absent)
        gather_metadata(self._path)


def create_cube_store(
    path: Path, about: CubeDescription, zarr_format: Literal[2, 3] = 3, side: int | None = None
) -> None:
    """Create the store without any pixel.

    ``zarr_format``: 3 (sharded), or 2: chunks of 128 x 128 pixels, no checksums.
    ``side``: Rows and columns of a shard, a multiple of 64.
    """
    attributes = {"Conventions": "CF-1.11", "title": about.title}
    # netCDF cannot hold GeoZarr's attributes, and xarray takes over those of the group it opens
    root = zarr.create_group(path, zarr_format=zarr_format, attributes=_geozarr(about))
    group = root.create_group(CUBE, attributes=attributes)
    side = side or default_side(about.shape[2])
    tall, wide = (min(side, -(-size // _INNER) * _INNER) for size in about.shape[:2])
    chunk = _CHUNK_V2 if zarr_format == 2 else _INNER
    _create_cube(group, about, chunk, (tall, wide))
    few = replace(
        about,
        shape=thinned_shape(about.shape),
        grid=thinned_grid(about.grid),
        attributes={**about.attributes, THINNED_ATTRIBUTE: THINNED_STEP},
        origins={},
        layers={},
    )
    thinned = group.create_group(THINNED_GROUP, attributes=attributes)
    thinned_shard = (tall // THINNED_STEP, wide // THINNED_STEP)
    _create_cube(thinned, few, chunk // THINNED_STEP, thinned_shard)
    gather_metadata(path)


def gather_metadata(path: Path) -> None:
    """Consolidate the metadata, which ``xarray.open_zarr`` expects by default."""
    for place in (f"{CUBE}/{THINNED_GROUP}", CUBE, None):
        consolidate(path, place)


def _write_chunks(array: zarr.Array[Any], row: int, col: int, values: np.ndarray) -> list[str]:
    array[row : row + values.shape[0], col : col + values.shape[1]] = values
    tall, wide = array.chunks[:2]
    rest = (0,) * (array.ndim - 2)
    return [
        array.metadata.encode_chunk_key((y, x, *rest))
        for y in range(row // tall, -(-(row + values.shape[0]) // tall))
        for x in range(col // wide, -(-(col + values.shape[1]) // wide))
    ]


def _create_cube(
    group: zarr.Group, about: CubeDescription, chunk: int, shard: tuple[int, int]
) -> None:
    """The cube and its coordinates; shards are for Zarr v3 only."""
    rows, cols, bands = about.shape
    packing = packing_attributes(
        about.dtype,
        about.scale_factor,
        about.nodata,
        about.window_nodata,
        about.bad_band_windows_nm,
    )
    fill = packing.get("_FillValue", np.dtype(about.dtype).type(0))
    names = ["spatial_ref", "is_good_band", *(["fwhm"] if about.fwhm_nm is not None else [])]
    create_array(
        group,
        CUBE,
        ("y", "x", "wl"),
        shape=about.shape,
        dtype=about.dtype,
        chunks=(chunk, chunk, bands),
        shards=(*shard, bands),
        fill_value=fill.item(),
        attributes={
            **{name: _to_json(value) for name, value in packing.items()},
            **about.attributes,
            "grid_mapping": "spatial_ref",
            "coordinates": " ".join(names),  # or xarray takes them for data
        },
    )
    write_georeference(group, about.grid, rows, cols)
    nm = {"units": "nm"}
    write_array(group, "wl", ("wl",), about.wavelength_nm, {**nm, "long_name": "band centre"})
    is_good = flag_good_bands(about.wavelength_nm, about.bad_bands, about.bad_band_windows_nm)
    write_array(group, "is_good_band", ("wl",), is_good, GOOD_BAND_ABOUT)
    if about.fwhm_nm is not None:
        write_array(group, "fwhm", ("wl",), about.fwhm_nm, FWHM_ABOUT)
    for name, counted in about.origins.items():
        dtype, missing = ORIGIN_KINDS[name]
        attributes: dict[str, Any] = {"long_name": _LONG_NAMES[name]}
        if counted:
            attributes["sources"] = json.dumps([vars(source) for source in counted])
        create_array(
            group,
            name,
            ("y", "x"),
            shape=(rows, cols),
            dtype=dtype,
            chunks=(chunk, chunk),
            shards=shard,
            fill_value=missing,
            attributes=attributes | {"missing": missing, "grid_mapping": "spatial_ref"},
        )
    for name, layer in about.layers.items():
        create_array(
            group,
            name,
            ("y", "x", "rgb")[: 2 + len(layer.depth)],
            shape=(rows, cols, *layer.depth),
            dtype=layer.dtype,
            chunks=(chunk, chunk, *layer.depth),
            shards=(*shard, *layer.depth),
            fill_value=np.dtype(layer.dtype).type(layer.missing).item(),
            attributes=_layer_attributes(name, layer),
        )


def _layer_attributes(name: str, layer: Layer) -> dict[str, Any]:
    """What the file says of a layer, as text, numbers or flat lists of numbers."""
    found: dict[str, Any] = {}
    for key, value in layer.attributes.items():
        is_text = isinstance(value, list) and any(isinstance(item, str) for item in value)
        found[key] = "\n".join(map(str, value)) if is_text else value
    if name in ANGLE_LAYERS:
        found["units"] = "degree"
    if np.dtype(layer.dtype).kind == "f":  # codes stay whole numbers in xarray
        found["_FillValue"] = _to_json(np.dtype(layer.dtype).type(layer.missing))
    return found | {"missing": layer.missing, "grid_mapping": "spatial_ref"}


def _to_json(value: Any) -> Any:
    """An attribute as JSON; floats that stand for no-data as xarray encodes them in Zarr v3."""
    if isinstance(value, np.floating):
        return base64.b64encode(struct.pack("<d", value)).decode("ascii")
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _geozarr(about: CubeDescription) -> dict[str, Any]:
    """Attributes of GeoZarr's conventions ``proj`` and ``spatial``, version 0.1."""
    grid = about.grid
    names = ["spatial"] if grid.wkt is None else ["proj", "spatial"]
    found: dict[str, Any] = {
        "zarr_conventions": [
            {
                "uuid": _CONVENTIONS[name][0],
                "name": name,
                "schema_url": f"{_SCHEMAS}/{name}/refs/tags/v0.1/schema.json",
                "spec_url": f"{_SPECIFICATIONS}/{name}/blob/v0.1/README.md",
                "description": _CONVENTIONS[name][1],
            }
            for name in names
        ],
        "spatial:dimensions": ["y", "x"],
        "spatial:transform": [grid.px, 0.0, grid.xmin, 0.0, -grid.py, grid.ymax],
        "spatial:shape": list(about.shape[:2]),
    }
    if grid.wkt is not None:
        found["proj:wkt2"] = pyproj.CRS.from_wkt(grid.wkt).to_wkt()
    if grid.epsg is not None:
        found["proj:code"] = f"EPSG:{grid.epsg}"
    return found


def consolidate(path: Path, place: str | None = None) -> None:
    """Gather the metadata of a store or a group."""
    with warnings.catch_warnings():
        # Not yet in the specification of v3; readers that do not know it must ignore it.
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        zarr.consolidate_metadata(str(path), path=place)


def write_georeference(group: zarr.Group, grid: Grid, rows: int, cols: int) -> None:
    """Store pixel centres and the CF grid mapping of arrays (y, x)."""
    for name, (dims, values, about) in cf_georeference(grid, rows, cols).items():
        write_array(group, name, dims, values, about)


def write_array(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    values: np.ndarray,
    about: Mapping[str, Any],
) -> None:
    """A small array in one chunk."""
    array = create_array(
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


def create_array(
    group: zarr.Group, name: str, dims: tuple[str, ...], attributes: Mapping[str, Any], **spec: Any
) -> zarr.Array[Any]:
    """Create an array with named dimensions, in either format of Zarr."""
    if group.metadata.zarr_format == 2:
        spec.pop("shards", None)
        level = zarr_chunks.LEVEL
        spec["compressors"] = Blosc(zarr_chunks.CODEC, level, Blosc.BITSHUFFLE)
        attributes = {**attributes, "_ARRAY_DIMENSIONS": list(dims)}
    else:
        spec["compressors"] = zarr_chunks.chunk_codecs()
        spec["dimension_names"] = dims
    return group.create_array(name, attributes=dict(attributes), **spec)
