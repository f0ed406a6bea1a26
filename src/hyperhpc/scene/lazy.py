"""A scene as an xarray object, and as the dictionary ``hyperhpc info`` prints.

The attributes of the object, and of a cube in a store, are those of CF, which xarray, rioxarray
and GDAL read alike: reflectance is the stored number times ``scale_factor``, and ``_FillValue``
is no-data. All are text, numbers or flat lists of numbers, since netCDF, to which xarray
converts a scene, has no others.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.analysis.bands import in_windows
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.georef import cf_georeference

if TYPE_CHECKING:
    import xarray as xr

#: Dask chunks are at most this big, unless one stored chunk of all bands is bigger.
DASK_CHUNK_BYTES = 128 << 20
#: The coordinate that tells good bands from bad ones.
GOOD_BAND_ABOUT = {"long_name": "band that the file declares usable"}
FWHM_ABOUT = {"units": "nm", "long_name": "full width at half maximum"}


@dataclass(frozen=True, eq=False)
class _Pixels:
    """What dask slices: reads windows of a scene. Small and picklable."""

    scene: Scene

    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.scene.shape

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.scene.dtype)

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        return self.scene.read(*key)


def dask_chunks(scene: Scene) -> tuple[int, int, int]:
    """Dask chunk (y, x, band): whole stored chunks (or shards), all bands, up to 128 MiB.

    Where one stored chunk is so wide that all its bands would be several times that
    (files with one whole band per chunk), the bands are split instead.
    """
    item = np.dtype(scene.dtype).itemsize
    ny, nx, nb = scene.shape
    unit = scene.shards or scene.chunks
    if math.prod(unit[:2]) * nb * item > DASK_CHUNK_BYTES:
        unit = scene.chunks
    cy, cx, cb = unit
    if cy * cx * nb * item > 2 * DASK_CHUNK_BYTES:
        return cy, cx, min(nb, cb * max(1, DASK_CHUNK_BYTES // (cy * cx * cb * item)))
    rows, cols = cy, cx
    while True:
        # Wider first: a row of chunks is what a file keeps together.
        wider, taller = (rows, min(cols * 2, nx)), (min(rows * 2, ny), cols)
        for size in (taller, wider) if cols > rows else (wider, taller):
            if size != (rows, cols) and math.prod(size) * nb * item <= DASK_CHUNK_BYTES:
                rows, cols = size
                break
        else:
            return rows, cols, nb


def to_xarray(scene: Scene) -> xr.DataArray:
    """Give a scene as a lazy DataArray.

    Returns: ``dn`` (y, x, wavelength): digital numbers of ``scene.dtype``, *not* reflectance
    and not masked; the attributes say how to convert them, as
    :func:`packing_attributes` does. Coordinates: y and x (pixel centres,
    units of the CRS), wavelength (nm, in stored order), fwhm (nm, if known), is_good_band (bool),
    spatial_ref (CF grid mapping, read by rioxarray).

    Dask: lazy; a chunk holds whole stored chunks and all bands, at most 128 MiB.
    """
    import dask.array as da
    import xarray as xr

    state = [scene.path, scene.group, scene.fingerprint()]
    token = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()[:16]
    data = da.from_array(
        _Pixels(scene),
        chunks=dask_chunks(scene),
        name=f"dn-{token}",
        asarray=False,
        fancy=False,
        meta=np.empty((0, 0, 0), dtype=scene.dtype),
    )
    array = xr.DataArray(
        data,
        dims=("y", "x", "wavelength"),
        name="dn",
        coords={**_band_coordinates(scene), **cf_georeference(scene.grid, *scene.shape[:2])},
        attrs=_attributes(scene),
    )
    array.encoding["grid_mapping"] = "spatial_ref"
    return array


def _band_coordinates(scene: Scene) -> dict[str, tuple[str, np.ndarray, dict[str, str]]]:
    """Coordinates along the bands: dimension, values and attributes by name."""
    is_good = flag_good_bands(scene.wavelength_nm, scene.bad_bands, scene.bad_band_windows_nm)
    found = {
        "wavelength": ("wavelength", scene.wavelength_nm, {"units": "nm"}),
        "is_good_band": ("wavelength", is_good, GOOD_BAND_ABOUT),
    }
    if scene.fwhm_nm is not None:
        found["fwhm"] = ("wavelength", scene.fwhm_nm, FWHM_ABOUT)
    return found


def _attributes(scene: Scene) -> dict[str, Any]:
    """Attributes of a cube, all of which netCDF can hold."""
    found = packing_attributes(
        scene.dtype,
        scene.scale_factor,
        scene.nodata,
        scene.window_nodata,
        scene.bad_band_windows_nm,
    )
    if scene.grid.epsg is not None:
        found["epsg"] = scene.grid.epsg
    return found | {"format": scene.format, "path": scene.path}


def packing_attributes(
    dtype: str,
    scale_factor: float,
    nodata: Sequence[float],
    window_nodata: Sequence[float] = (),
    bad_band_windows_nm: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """Attributes of a cube of digital numbers.

    The arguments are as in :class:`hyperhpc.scene.cube.Scene`; there ``scale_factor`` divides.

    Returns: as far as they apply: ``scale_factor`` (float, multiplies; absent if it is 1),
    ``_FillValue`` (scalar of ``dtype``: the first no-data value; NaN for floats that have none),
    ``missing_value`` (all of them, if there are several), ``window_nodata`` and
    ``bad_band_windows_nm`` (first, last, first, last ...).
    """
    kind = np.dtype(dtype).type
    found: dict[str, Any] = {"long_name": "surface reflectance", "units": "1"}
    if scale_factor != 1:
        found["scale_factor"] = 1 / scale_factor
    marks = nodata or ([math.nan] if np.issubdtype(kind, np.floating) else [])
    if marks:
        found["_FillValue"] = kind(marks[0])
    if len(marks) > 1:
        found["missing_value"] = np.array(marks, kind)
    if window_nodata:
        found["window_nodata"] = [float(value) for value in window_nodata]
    if bad_band_windows_nm:
        found["bad_band_windows_nm"] = np.ravel(bad_band_windows_nm).astype(float).tolist()
    return found


def flag_good_bands(
    wavelength_nm: np.ndarray,
    bad_bands: Sequence[int],
    bad_band_windows_nm: Sequence[tuple[float, float]],
) -> np.ndarray:
    """Bool (band): False where the file flags a band, or declares its wavelength unusable."""
    is_good = ~in_windows(wavelength_nm, bad_band_windows_nm)
    is_good[list(bad_bands)] = False
    return is_good


def _tidy(number: float) -> float | int:
    """Whole numbers as int, so that -9999 is not printed as -9999.0."""
    return int(number) if float(number).is_integer() and abs(number) < 2**53 else float(number)


def describe(scene: Scene) -> dict[str, Any]:
    """What ``hyperhpc info --json`` prints, except ``n_good_bands`` (the analysis' choice).

    Returns: JSON-ready: format, shape [y, x, band], dtype, wavelength_nm [smallest, largest],
    scale_factor (divisor), nodata, epsg or None, bounds [xmin, ymin, xmax, ymax] of outer pixel
    edges, bad_band_windows_nm, n_bands; and chunks, shards, group, notes.
    """
    return {
        "format": scene.format,
        "shape": list(scene.shape),
        "dtype": scene.dtype,
        "wavelength_nm": [float(scene.wavelength_nm.min()), float(scene.wavelength_nm.max())],
        "scale_factor": _tidy(scene.scale_factor),
        "nodata": [_tidy(value) for value in (*scene.nodata, *scene.window_nodata)],
        "epsg": scene.grid.epsg,
        "bounds": [float(edge) for edge in scene.bounds],
        "bad_band_windows_nm": [
            [_tidy(edge) for edge in window] for window in scene.bad_band_windows_nm
        ],
        "n_bands": scene.shape[2],
        "chunks": list(scene.chunks),
        "shards": None if scene.shards is None else list(scene.shards),
        "group": scene.group,
        "notes": [*scene.notes, *scene.warnings, *scene.check_files()],
    }
