"""Open scenes in ENVI files and GeoTIFFs, as GDAL understands them."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene import metadata
from hyperhpc.scene.cube import Grid, Source
from hyperhpc.scene.files import unreadable
from hyperhpc.scene.formats import raster_read
from hyperhpc.scene.formats.envi_header import check_numbers, read_header, split_list
from hyperhpc.scene.formats.raster_bands import BandTexts, find_bands, to_number
from hyperhpc.scene.formats.raster_read import Layout, RasterScene
from hyperhpc.scene.georef import grid_in_pixels, parse_crs
from hyperhpc.scene.metadata import Attributes

_DATE = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")
_DATE_NAMES = ("acquisition_time", "acquisition_date", "start_time", "acquisitiondatetime")
_INTERLEAVES = ("BIL", "BIP", "BSQ")
_BYTE_ORDERS = {"0": "<", "1": ">"}
#: Dimensions of ENVI's data on disk, as positions of (y, x, band).
_ORDERS = {"LINE": (0, 2, 1), "PIXEL": (0, 1, 2), "BAND": (2, 0, 1)}


def open_raster_scene(
    path: str, group: str | None = None, wavelength_nm: np.ndarray | None = None
) -> RasterScene:
    """Open an ENVI file (its data or its header) or a GeoTIFF (COG): its metadata, no pixel.

    ``group``: Ignored: these files have no groups.

    Raises SceneError: no such file, data shorter or longer than the header says, bands of
    several kinds, no band centres, or pixels without an area.
    """
    path, header = raster_read.find_raster(os.path.abspath(path))
    try:
        with raster_read.open_dataset(path, header) as dataset:
            return _open(path, header, dataset, wavelength_nm)
    except raster_read.read_errors() as error:
        what = "GeoTIFF" if header is None else f"ENVI file (header {header})"
        raise unreadable(f"{what} {path}", why=error) from error


def _open(
    path: str, header: str | None, dataset: Any, wavelength_nm: np.ndarray | None
) -> RasterScene:
    dtypes = set(dataset.dtypes)
    if len(dtypes) > 1:
        raise SceneError(f"{path} holds bands of several types: {', '.join(sorted(dtypes))}")
    stored = np.dtype(dtypes.pop())
    has_alpha = dataset.count > 1 and dataset.colorinterp[-1].name == "alpha"
    shape = (dataset.height, dataset.width, dataset.count - has_alpha)
    chunks = _chunks(dataset, shape)
    metadata.check_cube(stored, shape, chunks, path)
    if header is not None:
        # Where several could be its header, the one that GDAL reads
        seen = (f for f in dataset.files if os.path.dirname(f) == os.path.dirname(path))
        header = next((f for f in seen if f.lower().endswith(".hdr")), header)
        check_numbers(header, shape[2], needs_centres=wavelength_nm is None)
    texts = BandTexts(dataset, shape[2], header)
    layout = None if header is None else _layout(path, header, dataset, texts, stored)
    values = metadata.resolve_values(stored, _attributes(path, header, dataset, texts), path)
    mask_value, mask_notes = None, []
    if has_alpha or any(flag.name == "per_dataset" for flag in dataset.mask_flag_enums[0]):
        values, mask_value = metadata.mark_hidden(values)
        mask_notes = ["Pixels that the file's mask hides are no-data."]
    notes = [*values.notes, *mask_notes]
    bands = find_bands(path, texts, wavelength_nm)
    notes += bands.notes
    if bands.bad:
        notes.append(f"{len(bands.bad)} bands are flagged as bad (bbl 0) and left out.")
    place = _place(path, header, dataset, texts, notes)
    dates = [match[0] for name in _DATE_NAMES if (match := _DATE.search(texts.file.get(name, "")))]
    return RasterScene(
        path=path,
        format="geotiff" if header is None else "envi",
        shape=shape,
        wavelength_nm=bands.wavelength_nm,
        chunks=chunks,
        fwhm_nm=bands.fwhm_nm,
        bad_bands=bands.bad,
        sources=(Source(os.path.basename(path), dates[0]),) if dates else (),
        has_dates=bool(dates),
        header=header,
        layout=layout,
        mask_value=mask_value,
        alpha_band=dataset.count if has_alpha else None,
        **vars(values) | place._asdict() | {"notes": tuple(notes)},
    )


def _chunks(dataset: Any, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """GDAL's blocks; of all bands if these are interleaved."""
    rows, cols = dataset.block_shapes[0]
    is_apart = _interleave(dataset) == "BAND"
    return min(rows, shape[0]), min(cols, shape[1]), 1 if is_apart else shape[2]


def _interleave(dataset: Any) -> str:
    """LINE, PIXEL or BAND."""
    return dataset.tags(ns="IMAGE_STRUCTURE").get("INTERLEAVE", "BAND")


def _layout(path: str, header: str, dataset: Any, texts: BandTexts, stored: np.dtype) -> Layout:
    """Layout of ENVI's numbers; SceneError if the file has another size."""
    if texts.file.get("file_compression", "0").strip() != "0":
        data, new = shlex.quote(path), shlex.quote(os.path.splitext(path)[0] + "_unpacked")
        raise SceneError(
            f"{path} is compressed (file compression in {header})",
            f"Unpack it: gzip -dc < {data} > {new}.img && sed 's/^file compression.*/file "
            f"compression = 0/' {shlex.quote(header)} > {new}.hdr",
        )
    if set(texts.file.get("major_frame_offsets", "0")) - set("{0, }"):
        raise SceneError(
            f"{path} has gaps between its frames (major frame offsets in {header})",
            "Save it again without frame offsets, with the program that wrote it",
        )
    offset = int(texts.file.get("header_offset", "0"))
    n_values = dataset.height * dataset.width * dataset.count
    wanted, found = offset + n_values * stored.itemsize, os.path.getsize(path)
    if wanted != found:
        raise SceneError(
            f"{path} has {found} bytes; its header describes {wanted} ({dataset.height} lines "
            f"x {dataset.width} samples x {dataset.count} bands of {stored.name}, header "
            f"offset {offset})",
            f"Copy the file again, or correct {header}",
        )
    if texts.file.get("interleave", "").strip().upper() not in _INTERLEAVES:
        raise SceneError(
            f"{header} does not say how the bands are interleaved: its interleave is "
            f"{texts.file.get('interleave', 'missing')!r:.20}",
            "Add interleave = bsq, bil or bip to the header, as the data were written",
        )
    order = texts.file.get("byte_order", "0").strip()
    if order not in _BYTE_ORDERS:
        raise SceneError(
            f"{path}: byte order {order!r:.20} in {header}; it is 0 or 1", "Correct the header"
        )
    dtype = _BYTE_ORDERS[order] + stored.str[1:]
    return Layout(_ORDERS[_interleave(dataset)], dtype, offset, found)


def _attributes(path: str, header: str | None, dataset: Any, texts: BandTexts) -> Attributes:
    """Scale, no-data and unit: GDAL's of the bands, then the texts of the file and of the bands."""
    declared: dict[str, Any] = {}
    for name, numbers, usual, field in (
        ("scale_factor", set(dataset.scales), 1.0, "data_reflectance_gain_values"),
        ("add_offset", set(dataset.offsets), 0.0, "data_reflectance_offset_values"),
    ):
        if numbers == {usual}:  # else one number per band in ENVI's header
            listed = map(to_number, split_list(texts.file.get(field, "")))
            numbers = {number for number in listed if number is not None} or numbers
        if len(numbers) > 1:
            raise SceneError(
                f"{path}: bands differ in {name}, {min(numbers):g} to {max(numbers):g}",
                "Store all bands with one scale",
            )
        if numbers != {usual}:
            declared[name] = numbers.pop()
    if nodata := _nodata(header, dataset, texts):
        declared["Data_Ignore_Value"] = nodata
    units = {unit for unit in dataset.units[: texts.count] if unit}
    if len(units) == 1:
        declared["units"] = units.pop()
    # One list for each name: a scale that differs from band to band is refused
    names = set().union(*texts.bands) & metadata.NUMBER_NAMES
    of_bands = {name: [tags.get(name, "") for tags in texts.bands] for name in names}
    file = {name: text for name, text in texts.file.items() if name != "data_ignore_value"}
    return Attributes(declared, texts.file if header is None else file, of_bands)


def _nodata(header: str | None, dataset: Any, texts: BandTexts) -> list[float]:
    """No-data values of the bands; those of ENVI's header from its text.

    GDAL makes 0 of a text that begins with no number, such as ``{-9999}``, or of none.

    Raises SceneError: the header has a value that is no number.
    """
    found = sorted({value for value in dataset.nodatavals if value is not None})
    text = read_header(header).get("data ignore value") if header else None
    if text is None:
        return found
    listed = metadata.number_list(text)
    if listed is None and text.strip("{ }"):
        raise SceneError(
            f"{header}: data ignore value {text!r:.60} is not a number", "Correct the header"
        )
    return sorted({*(listed or ()), *(value for value in found if value)})


class _Place(NamedTuple):
    """Where pixels are: fields of :class:`RasterScene`."""

    grid: Grid
    is_south_up: bool = False
    geotransform: tuple[float, ...] | None = None


def _place(
    path: str, header: str | None, dataset: Any, texts: BandTexts, notes: list[str]
) -> _Place:
    """Grid with CRS; rows that run from south to north, or in another direction, are noted.

    Raises SceneError: pixels without an area.
    """
    transform = dataset.transform
    if transform.is_identity:
        has_points = bool(dataset.gcps[0])
        lacks = "No georeference but ground control points, which are not used"
        notes.append(f"{lacks if has_points else 'No georeference'}: positions are pixels.")
        return _Place(grid_in_pixels(dataset.height))
    if transform.is_degenerate:
        raise SceneError(
            f"{path} has pixels without an area: geotransform {transform.to_gdal()}",
            "Correct its georeference",
        )
    is_south_up, geotransform = transform.e > 0, None
    if transform.b or transform.d or transform.a <= 0:
        grid = grid_in_pixels(dataset.height)
        is_south_up, geotransform = False, _rotated(transform.to_gdal(), header, notes)
    else:
        top = transform.f + (transform.e * dataset.height if is_south_up else 0.0)
        grid = Grid(xmin=transform.c, ymax=top, px=transform.a, py=abs(transform.e))
    text = texts.file.get("coordinate_system_string", "").strip().strip("{}")
    if text and parse_crs(text) is None:
        notes.append("The coordinate system string is no valid WKT; map info counts.")
    crs = parse_crs(dataset.crs.to_wkt()) if dataset.crs else None
    if crs is None or "LOCAL_CS" in crs[0] or "ENGCRS" in crs[0]:
        notes.append("No coordinate reference system is declared.")
    else:
        grid = replace(grid, wkt=crs[0], epsg=crs[1])
    return _Place(grid, is_south_up, geotransform)


def _rotated(six: tuple[float, ...], header: str | None, notes: list[str]) -> tuple[float, ...]:
    """Geotransform of rotated pixels, with the reference pixel of ENVI's map info.

    GDAL places the corner as if there were no rotation, which is right for the pixel 1, 1 only.
    """
    text = read_header(header).get("map info", "") if header else ""
    parts = map(to_number, split_list(text)[1:5])
    tie = [number for number in parts if number is not None]
    if len(tie) < 4 or tie[:2] == [1, 1]:
        return six
    col, row, x, y = tie
    notes.append(f"The map info ties pixel {col:g}, {row:g}: the corner is computed from it.")
    across, down = col - 1, row - 1
    _, a, b, _, d, e = six
    return x - across * a - down * b, a, b, y - across * d - down * e, d, e
