"""Open scenes in ENVI files and GeoTIFFs, as GDAL understands them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene import metadata
from hyperhpc.scene.cube import Grid, Source
from hyperhpc.scene.files import unreadable
from hyperhpc.scene.formats import raster_read
from hyperhpc.scene.formats.raster_read import Layout, RasterScene
from hyperhpc.scene.formats.zarr_layout import NAMES
from hyperhpc.scene.georef import grid_in_pixels, parse_crs
from hyperhpc.scene.metadata import HINT, Attributes

# Band centres, widths and bad-band flags: writers of rasters store them in many places.

_CENTRES = (*NAMES["band"], "central_wavelength")
_UNITS = ("wavelength_units", "wavelength_unit", "units_of_wavelength")
_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_UNIT = r"(nm|nanomet(?:er|re)s?|[uµμ]m|micro(?:n|met(?:er|re))s?)"
#: A number with its unit; else one in brackets at the end, or nothing but a number.
_IN_NAME = (
    re.compile(rf"(?<![\w.]){_NUMBER}\s*{_UNIT}\b", re.IGNORECASE),
    re.compile(rf"\(\s*{_NUMBER}\s*()\)\s*$"),
    re.compile(rf"^\s*{_NUMBER}\s*()$"),
)


@dataclass(frozen=True)
class Bands:
    """Centres and widths (band,) of a raster, float64, in stored order, and the bad bands."""

    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray | None
    bad: tuple[int, ...]
    notes: tuple[str, ...]


class BandTexts:
    """Metadata of a raster by name, lower case: of the file, and of each of ``count`` bands."""

    def __init__(self, dataset: Any, count: int, header: str | None) -> None:
        self.count = count
        numbers = range(1, count + 1)
        try:
            self.file = {**_lower(dataset.tags()), **_lower(dataset.tags(ns="ENVI"))}
            self.bands = [_lower(dataset.tags(i)) for i in numbers]
            self.imagery = [_lower(dataset.tags(i, ns="IMAGERY")) for i in numbers]
            self.names = [name or "" for name in dataset.descriptions[:count]]
        except UnicodeDecodeError:  # software on Windows writes the micro sign as Latin-1
            if header is None:
                raise
            self.file = _lower(raster_read.read_header(header))
            self.bands = self.imagery = [{} for _ in numbers]
            names = _split(self.file.get("band_names", ""))
            self.names = names if len(names) == count else [""] * count

    def find(self, names: tuple[str, ...]) -> list[str] | None:
        """One text per band under the first of these names: a list of the file, or tags."""
        for name in names:
            text = self.file.get(name, "")
            if "," in text or (text and self.count == 1):
                return _split(text)
            if any(name in tags for tags in self.bands):
                return [tags.get(name, "") for tags in self.bands]
        return None

    def units(self) -> str | None:
        """Unit of the centres, as written."""
        places = (self.file, *self.bands[:1])
        return next(
            (tags[name].strip() for tags in places for name in _UNITS if name in tags), None
        )


def _split(text: str) -> list[str]:
    """Parts of ``{a, b}``; the last is nothing where the text breaks off."""
    parts = [part.strip() for part in text.strip().lstrip("{").split(",")]
    is_whole = not text.strip().startswith("{") or parts[-1].endswith("}")
    return [*parts[:-1], parts[-1].rstrip("}").strip() if is_whole else ""]


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.lower().replace(" ", "_"): value for name, value in tags.items()}


def find_bands(path: str, texts: BandTexts, wavelength_nm: np.ndarray | None) -> Bands:
    """Centres and widths, unless centres are given, and flags.

    Centres are looked for in ENVI's header, the tags of the bands, GDAL's IMAGERY domain (rounded
    to 1 nm) and the names of the bands, in this order.

    Raises SceneError: no centres, some for a part of the bands only, or that are no wavelengths.
    """
    notes: list[str] = []
    fwhm = None
    if wavelength_nm is None:
        found = next(_sources(texts), None)
        if found is None:
            names = [name for name in texts.names if name]
            called = f"are called {', '.join(names[:3])}" if names else "have no names either"
            raise SceneError(f"{path} holds no band centres; its bands {called}", HINT)
        source, values, unit = found
        about = f"{source} of {path}"
        numbers = _all_numbers(values, texts, about)
        wavelength_nm, factor, more = metadata.resolve_wavelengths(numbers, unit, about)
        notes += more
        widths = _numbers_or_note(texts, "fwhm", "FWHM", notes)
        fwhm = None if widths is None else widths * factor
    good = _numbers_or_note(texts, "bbl", "bbl", notes)
    bad = () if good is None else tuple(np.flatnonzero(good == 0).tolist())
    return Bands(wavelength_nm, fwhm, bad, tuple(notes))


def _sources(texts: BandTexts) -> Iterator[tuple[str, list[str], str | None]]:
    """Name, texts and unit of the places where centres are found."""
    units = texts.units()
    is_length = units is None or units.lower() not in ("index", "unknown")
    if is_length and (centres := texts.find(_CENTRES)) is not None:
        yield "wavelength", centres, units
    rounded = [tags.get("central_wavelength_um", "") for tags in texts.imagery]
    if any(rounded):
        yield "CENTRAL_WAVELENGTH_UM", rounded, "um"
    for pattern in _IN_NAME:
        found = [pattern.search(name) for name in texts.names]
        matches = [match for match in found if match and (is_length or match[2])]
        # "1", "2" and "Band (3)" count bands
        if any(match[2] or "." in match[1] or float(match[1]) >= 300 for match in matches):
            words = [match[1] if match else "" for match in found]
            yield "band names", words, matches[0][2] or units


def _all_numbers(values: list[str], texts: BandTexts, about: str) -> np.ndarray:
    """One number per band, or an error."""
    if len(values) != texts.count:
        raise SceneError(
            f"{about}: {len(values)} band centres for {texts.count} bands",
            f"Correct the header. {HINT}",
        )
    numbers = list(map(_number, values))
    lacking = [band for band, value in enumerate(numbers, 1) if value is None]
    if lacking:
        raise SceneError(
            f"{about}: {len(lacking)} of {texts.count} bands have no centre (first: band "
            f"{lacking[0]}, {values[lacking[0] - 1] or texts.names[lacking[0] - 1]!r:.60})",
            HINT,
        )
    return np.array(numbers, dtype=np.float64)


def _numbers_or_note(
    texts: BandTexts, name: str, title: str, notes: list[str]
) -> np.ndarray | None:
    """One number per band; None if there are none, and with a note if there are not as many."""
    numbers = list(map(_number, texts.find((name,)) or ()))
    if len(numbers) == texts.count and None not in numbers:
        return np.array(numbers, dtype=np.float64)
    if numbers:
        known = len(numbers) - numbers.count(None)
        notes.append(f"{title} has {known} numbers for {texts.count} bands and is ignored.")
    return None


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # 1_000 is a number for Python alone
    except ValueError:
        return None


_DATE = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")
_DATE_NAMES = ("acquisition_time", "acquisition_date", "start_time", "acquisitiondatetime")
_BYTE_ORDERS = {"0": "<", "1": ">"}
#: Dimensions of ENVI's data on disk, as positions of (y, x, band).
_ORDERS = {"LINE": (0, 2, 1), "PIXEL": (0, 1, 2), "BAND": (2, 0, 1)}


def open_raster_scene(
    path: str, group: str | None = None, wavelength_nm: np.ndarray | None = None
) -> RasterScene:
    """Open an ENVI file (its data or its header) or a GeoTIFF (COG): its metadata, no pixel.

    ``group``: Ignored: these files have no groups.

    Raises SceneError: no such file, data shorter or longer than the header says, bands of
    several kinds, no band centres, or a rotated grid.
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
    texts = BandTexts(dataset, shape[2], header)
    if header is not None:  # where several could be its header, the one that GDAL reads
        header = next((f for f in dataset.files if f.lower().endswith(".hdr")), header)
    layout = None if header is None else _layout(path, header, dataset, texts, stored)
    values = metadata.resolve_values(stored, _attributes(path, dataset, texts), path)
    mask_value, mask_notes = None, []
    if has_alpha or any(flag.name == "per_dataset" for flag in dataset.mask_flag_enums[0]):
        values, mask_value = metadata.mark_hidden(values)
        mask_notes = ["Pixels that the file's mask hides are no-data."]
    notes = [*values.notes, *mask_notes]
    bands = find_bands(path, texts, wavelength_nm)
    notes += bands.notes
    if bands.bad:
        notes.append(f"{len(bands.bad)} bands are flagged as bad (bbl 0) and left out.")
    grid, is_south_up = _grid(path, dataset, texts, notes)
    dates = [match[0] for name in _DATE_NAMES if (match := _DATE.search(texts.file.get(name, "")))]
    return RasterScene(
        path=path,
        format="geotiff" if header is None else "envi",
        shape=shape,
        wavelength_nm=bands.wavelength_nm,
        grid=grid,
        chunks=chunks,
        fwhm_nm=bands.fwhm_nm,
        bad_bands=bands.bad,
        sources=(Source(os.path.basename(path), dates[0]),) if dates else (),
        has_dates=bool(dates),
        header=header,
        layout=layout,
        is_south_up=is_south_up,
        mask_value=mask_value,
        alpha_band=dataset.count if has_alpha else None,
        **vars(values) | {"notes": tuple(notes)},
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
        raise SceneError(
            f"{path} is compressed (file compression in {header})",
            "Unpack it with gunzip, and set file compression = 0",
        )
    if set(texts.file.get("major_frame_offsets", "0")) - set("{0, }"):
        raise SceneError(
            f"{path} has gaps between its frames (major frame offsets in {header})",
            "Rewrite it without gaps: gdal_translate -of ENVI IN OUT.img",
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
    order = texts.file.get("byte_order", "0").strip()
    if order not in _BYTE_ORDERS:
        raise SceneError(
            f"{path}: byte order {order!r:.20} in {header}; it is 0 or 1", "Correct the header"
        )
    dtype = _BYTE_ORDERS[order] + stored.str[1:]
    return Layout(_ORDERS[_interleave(dataset)], dtype, offset, found)


def _attributes(path: str, dataset: Any, texts: BandTexts) -> Attributes:
    """Scale and no-data: GDAL's of the bands, then the texts of the file."""
    declared: dict[str, Any] = {}
    for name, numbers, usual, field in (
        ("scale_factor", set(dataset.scales), 1.0, "data_reflectance_gain_values"),
        ("add_offset", set(dataset.offsets), 0.0, "data_reflectance_offset_values"),
    ):
        if numbers == {usual}:  # else one number per band in ENVI's header
            listed = map(_number, _split(texts.file.get(field, "")))
            numbers = {number for number in listed if number is not None} or numbers
        if len(numbers) > 1:
            raise SceneError(
                f"{path}: bands differ in {name}, {min(numbers):g} to {max(numbers):g}",
                "Store all bands with one scale",
            )
        if numbers != {usual}:
            declared[name] = numbers.pop()
    nodata = sorted({value for value in dataset.nodatavals if value is not None})
    if nodata:
        declared["Data_Ignore_Value"] = nodata
    return Attributes(declared, texts.file)


def _grid(path: str, dataset: Any, texts: BandTexts, notes: list[str]) -> tuple[Grid, bool]:
    """Grid with CRS, and True if rows run from south to north."""
    transform = dataset.transform
    if transform.is_identity:
        notes.append("No georeference: positions are pixels.")
        return grid_in_pixels(dataset.height), False
    if transform.b or transform.d or transform.a <= 0 or transform.e == 0:
        raise SceneError(
            f"{path} is rotated or mirrored (geotransform {transform.to_gdal()}); rows must "
            "run from north to south, columns from west to east",
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
    return replace(grid, wkt=crs[0], epsg=crs[1]), is_south_up
