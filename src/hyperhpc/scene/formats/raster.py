"""Open scenes in ENVI files and GeoTIFFs, as GDAL understands them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene.cube import Grid, Source
from hyperhpc.scene.formats.raster_read import (
    DAMAGED,
    Layout,
    RasterScene,
    open_dataset,
    read_errors,
)
from hyperhpc.scene.georef import grid_in_pixels, parse_crs, with_crs
from hyperhpc.scene.metadata import Attributes, check_cube, resolve_values
from hyperhpc.scene.raster_bands import Bands, BandTexts, find_bands
from hyperhpc.scene.raster_files import find_raster
from hyperhpc.scene.wavelengths import HINT, read_wavelengths

_DATE = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")
_DATE_NAMES = ("acquisition_time", "acquisition_date", "start_time", "acquisitiondatetime")
_BYTE_ORDERS = {"0": "<", "1": ">"}
#: Dimensions of ENVI's data on disk, as positions of (y, x, band).
_ORDERS = {"LINE": (0, 2, 1), "PIXEL": (0, 1, 2), "BAND": (2, 0, 1)}


def open_raster_scene(path: str, wavelengths: Path | None = None) -> RasterScene:
    """Open an ENVI file or a GeoTIFF (COG).

    Lazy: reads metadata only, no pixel.

    Parameters
    ----------
    path
        The file; for ENVI its data or its header.
    wavelengths
        File of band centres, see :func:`~hyperhpc.scene.wavelengths.read_wavelengths`;
        they count instead of the file's own.

    Raises
    ------
    SceneError
        No such file, data shorter or longer than the header says, bands of several kinds,
        no band centres, or a rotated grid.
    ConfigError
        From the file of band centres.
    """
    path, header = find_raster(os.path.abspath(path))
    try:
        with open_dataset(path, header) as dataset:
            return _open(path, header, dataset, wavelengths)
    except read_errors() as error:
        what = "GeoTIFF" if header is None else f"ENVI file (header {header})"
        raise SceneError(
            f"{path} cannot be opened as {what}: {cause(error)}.", DAMAGED
        ) from error


def _open(path: str, header: str | None, dataset: Any, wavelengths: Path | None) -> RasterScene:
    dtypes = set(dataset.dtypes)
    if len(dtypes) > 1:
        raise SceneError(f"{path} holds bands of several types: {', '.join(sorted(dtypes))}.")
    stored = np.dtype(dtypes.pop())
    shape = (dataset.height, dataset.width, dataset.count)
    chunks = _chunks(dataset, shape)
    check_cube(stored, shape, chunks, path)
    texts = BandTexts(dataset)
    if header is not None:  # where several could be its header, the one that GDAL reads
        header = next((f for f in dataset.files if f.lower().endswith(".hdr")), header)
    layout = None if header is None else _layout(path, header, dataset, texts, stored)
    values = resolve_values(stored, _attributes(path, dataset, texts), path)
    notes = list(values.notes)
    bands = _bands(path, texts, wavelengths)
    notes += bands.notes
    if bands.bad:
        notes.append(f"{len(bands.bad)} bands are flagged as bad (bbl 0) and left out.")
    grid, is_south_up = _grid(path, dataset, texts, notes)
    dates = [
        match[0] for name in _DATE_NAMES if (match := _DATE.search(texts.file.get(name, "")))
    ]
    assert bands.wavelength_nm is not None
    return RasterScene(
        path=path,
        format="geotiff" if header is None else "envi",
        shape=shape,
        dtype=values.dtype,
        stored_dtype=values.stored_dtype,
        wavelength_nm=bands.wavelength_nm,
        scale_factor=values.scale_factor,
        nodata=values.nodata,
        grid=grid,
        chunks=chunks,
        notes=tuple(notes),
        fwhm_nm=bands.fwhm_nm,
        bad_bands=bands.bad,
        sources=(Source(os.path.basename(path), dates[0]),) if dates else (),
        has_dates=bool(dates),
        header=header,
        layout=layout,
        is_south_up=is_south_up,
        wide_nodata=values.wide_nodata,
    )


def _chunks(dataset: Any, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """GDAL's blocks, of all bands where these lie together."""
    rows, cols = dataset.block_shapes[0]
    is_apart = _interleave(dataset) == "BAND"
    return min(rows, shape[0]), min(cols, shape[1]), 1 if is_apart else shape[2]


def _interleave(dataset: Any) -> str:
    """LINE, PIXEL or BAND."""
    return dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE", "BAND")


def _layout(path: str, header: str, dataset: Any, texts: BandTexts, stored: np.dtype) -> Layout:
    """Where ENVI's numbers lie; SceneError if the file is of another size."""
    if texts.file.get("file_compression", "0").strip() != "0":
        raise SceneError(
            f"{path} is compressed (file compression in {header}).",
            "Unpack it with gunzip, and set file compression = 0.",
        )
    if set(texts.file.get("major_frame_offsets", "0")) - set("{0, }"):
        raise SceneError(
            f"{path} has gaps between its frames (major frame offsets in {header}).",
            "Write it anew without: gdal_translate -of ENVI IN OUT.img",
        )
    offset = int(texts.file.get("header_offset", "0"))
    n_values = dataset.height * dataset.width * dataset.count
    wanted, found = offset + n_values * stored.itemsize, os.path.getsize(path)
    if wanted != found:
        raise SceneError(
            f"{path} has {found} bytes; its header asks for {wanted} ({dataset.height} lines x "
            f"{dataset.width} samples x {dataset.count} bands of {stored.name}, header offset "
            f"{offset}).",
            f"Copy the file again, or correct {header}",
        )
    order = texts.file.get("byte_order", "0").strip()
    if order not in _BYTE_ORDERS:
        raise SceneError(
            f"{path}: byte order {order!r:.20} in {header}; it is 0 or 1.",
            "Correct the header.",
        )
    return Layout(
        _ORDERS[_interleave(dataset)], _BYTE_ORDERS[order] + stored.str[1:], offset, found
    )


def _attributes(path: str, dataset: Any, texts: BandTexts) -> Attributes:
    """Scale and no-data: GDAL's of the bands, then the texts of the file."""
    declared: dict[str, Any] = {}
    for name, numbers, usual in (
        ("scale_factor", set(dataset.scales), 1.0),
        ("add_offset", set(dataset.offsets), 0.0),
    ):
        if len(numbers) > 1:
            raise SceneError(
                f"{path}: bands differ in {name}, {min(numbers):g} to {max(numbers):g}.",
                "Store all bands with one scale.",
            )
        if numbers != {usual}:
            declared[name] = numbers.pop()
    nodata = sorted({value for value in dataset.nodatavals if value is not None})
    if nodata:
        declared["Data_Ignore_Value"] = nodata
    return Attributes(declared, texts.file)


def _bands(path: str, texts: BandTexts, wavelengths: Path | None) -> Bands:
    """What is known of the bands; SceneError if they have no centres."""
    if wavelengths is not None:
        centres, notes = read_wavelengths(wavelengths, texts.count)
        flags = find_bands(texts, path, centres=False)
        return Bands(centres, None, flags.bad, (*notes, *flags.notes))
    bands = find_bands(texts, path)
    if bands.wavelength_nm is None:
        names = [name for name in texts.names if name]
        called = f"are called {', '.join(names[:3])}" if names else "have no names either"
        raise SceneError(f"{path} holds no band centres; its bands {called}.", HINT)
    return bands


def _grid(path: str, dataset: Any, texts: BandTexts, notes: list[str]) -> tuple[Grid, bool]:
    """Grid with CRS, and True if rows run from south to north."""
    transform = dataset.transform
    if transform.is_identity:
        notes.append("No georeference: positions are pixels.")
        return grid_in_pixels(dataset.height), False
    if transform.b or transform.d or transform.a <= 0 or transform.e == 0:
        raise SceneError(
            f"{path} is rotated or mirrored (geotransform {transform.to_gdal()}); rows must "
            "run from north to south, columns from west to east.",
            "Warp it first: gdalwarp IN OUT.tif",
        )
    is_south_up = transform.e > 0
    top = transform.f + (transform.e * dataset.height if is_south_up else 0.0)
    grid = Grid(xmin=transform.c, ymax=top, px=transform.a, py=abs(transform.e))
    text = texts.file.get("coordinate_system_string", "").strip().strip("{}")
    if text and parse_crs(text) is None:
        notes.append("The coordinate system string is no valid WKT; map info counts.")
    crs = parse_crs(dataset.crs.to_wkt()) if dataset.crs else None
    if crs is None or "LOCAL_CS" in crs[0] or "ENGCRS" in crs[0]:
        notes.append("No coordinate reference system is declared.")
        return grid, is_south_up
    return with_crs(grid, *crs), is_south_up
