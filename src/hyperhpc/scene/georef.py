"""Where pixels are: from coordinates, Map_Info or a GeoTransform to a :class:`Grid`, and from
there to the CF georeference of stores, which only this module writes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.metadata import Attributes, plain

#: Coordinates may deviate from a regular grid by this part of a pixel.
TOLERANCE_PX = 0.01
#: Names under which a CRS is found in the attributes of a grid-mapping variable ...
_MAPPING_NAMES = ("crs_wkt", "spatial_ref", "epsg_code", "epsg", "proj:code")
#: ... and in those of a cube or a group.
_CUBE_NAMES = (
    "crs_wkt", "proj:wkt2", "proj:code", "proj:epsg", "proj:projjson", "epsg", "epsg_code", "_crs",
    "crs", "spatial_ref",
)  # fmt: skip
#: Names that CF (UDUNITS) gives to PROJ's units of length.
_UNITS = {"metre": "m", "foot": "foot", "US survey foot": "US_survey_foot"}
_EPSG = re.compile(r"^(?:\+?init=)?(?:epsg:+)?(\d{4,6})$", re.IGNORECASE)


def parse_crs(value: Any) -> tuple[str, int | None] | None:
    """Read a CRS given as EPSG number, "EPSG:n", WKT, PROJ text or PROJ JSON.

    Returns: (WKT, EPSG code or None), or None if it cannot be understood.
    """
    from pyproj import CRS
    from pyproj.exceptions import CRSError

    value = plain(value)
    if isinstance(value, Mapping):
        if "wkt" in value:  # GDAL's _CRS
            return parse_crs(value["wkt"])
        value = value.get("projjson", value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        value = value.strip()
        if match := _EPSG.match(value):
            value = int(match[1])
        elif "+proj" in value:  # NEON writes +proj=UTM, PROJ knows utm
            value = re.sub(r"\+proj=(\w+)", lambda m: m[0].lower(), value)
    if not value or not isinstance(value, int | str | Mapping):
        return None
    try:
        crs = CRS.from_user_input(value)
        return crs.to_wkt(), value if isinstance(value, int) else crs.to_epsg()
    except CRSError:
        return None


def is_same_crs(one: Grid, other: Grid) -> bool:
    """True if two grids are in one reference system, or both in none.

    Codes count before texts: the WKT of one system differs from program to program.
    """
    if one.epsg is not None and other.epsg is not None:
        return one.epsg == other.epsg
    if one.wkt is None or other.wkt is None or one.wkt == other.wkt:
        return one.wkt == other.wkt
    from pyproj import CRS

    return bool(CRS(one.wkt).equals(CRS(other.wkt), ignore_axis_order=True))


def find_first_crs(*values: Any) -> tuple[str, int | None] | None:
    """WKT and EPSG code of the first value that has a code, else of the first CRS at all."""
    without_code = None
    for value in values:
        crs = None if value is None else parse_crs(value)
        if crs is not None and crs[1] is not None:
            return crs
        without_code = without_code or crs
    return without_code


def find_crs(
    attributes: Attributes, grid_mapping: Mapping[str, Any] | None
) -> tuple[str | None, int | None]:
    """WKT and EPSG code from the grid mapping's attributes, else the cube's own."""
    mapping = Attributes(grid_mapping or {})
    found = find_first_crs(
        *(mapping.get(name) for name in _MAPPING_NAMES),
        *(attributes.get(name) for name in _CUBE_NAMES),
    )
    return found or (None, None)


def _axis_step(centres: np.ndarray, name: str, where: str) -> float | None:
    """Signed spacing of a coordinate; None if it has one value only.

    Raises SceneError: values not finite, or not regular within :data:`TOLERANCE_PX` of a pixel.
    """
    values = centres.astype(np.float64)
    if not np.isfinite(values).all():
        raise SceneError(f"{where}: coordinate {name} holds values that are not finite")
    if values.size < 2:
        return None
    step = float(f"{(values[-1] - values[0]) / (values.size - 1):.12g}")
    allowed = TOLERANCE_PX * abs(step)
    if centres.dtype.itemsize <= 4 and centres.dtype.kind == "f":
        # a float32 northing is only good to a quarter of a metre
        allowed += float(np.spacing(np.float32(np.abs(values).max())))
    off = np.abs(values - (values[0] + step * np.arange(values.size)))
    worst = int(off.argmax())
    if step == 0 or off[worst] > allowed:
        raise SceneError(
            f"{where}: coordinate {name} is not regular: value {values[worst]:.10g} at index "
            f"{worst} is {off[worst]:.4g} away from a regular spacing of {step:.10g}",
            "Pixels must form one regular grid",
        )
    return step


def grid_from_centres(x: np.ndarray, y: np.ndarray, where: str) -> tuple[Grid, bool]:
    """Grid from the coordinates of pixel centres (column,) and (row,).

    Returns: the grid, and True if y ascends (south up: rows must be flipped).
    Raises SceneError: a coordinate that is irregular, or x descending.
    """
    dx, dy = _axis_step(x, "x", where), _axis_step(y, "y", where)
    if dx is not None and dx < 0:
        raise SceneError(
            f"{where}: coordinate x descends from {float(x[0]):.10g} to {float(x[-1]):.10g}; "
            "columns must run from west to east",
            "Flip the cube along x",
        )
    # A single row or column has no spacing: pixels are taken as square.
    px = dx or abs(dy or 1.0)
    py = abs(dy or px)
    grid = Grid(xmin=float(x[0]) - px / 2, ymax=float(max(y[0], y[-1])) + py / 2, px=px, py=py)
    return grid, dy is not None and dy > 0


def grid_in_pixels(n_rows: int) -> Grid:
    """Grid of a cube without georeference: columns from 0, rows up to ``n_rows``."""
    return Grid(xmin=0.0, ymax=float(n_rows), px=1.0, py=1.0)


def read_geotransform(text: Any) -> tuple[float, ...] | None:
    """GDAL's six numbers, or None if they are not there, or give pixels no area."""
    text = plain(text)
    try:
        numbers = tuple(float(part) for part in (text.split() if isinstance(text, str) else text))
    except (TypeError, ValueError, OverflowError):
        return None
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        return None
    _, px, x_turn, _, y_turn, py = numbers
    return numbers if px * py != x_turn * y_turn else None


def grid_from_geotransform(six: tuple[float, ...], n_rows: int) -> tuple[Grid, bool] | None:
    """Grid from GDAL's six numbers, and True if rows run from south to north.

    Returns None for rows that run in another direction, or columns that run to the west.
    """
    xmin, px, x_turn, y, y_turn, py = six
    if x_turn or y_turn or px <= 0:
        return None
    return Grid(xmin, y + py * n_rows if py > 0 else y, px, abs(py)), py > 0


#: Metres in units of length, as CF and others name them.
_METRES = {
    "m": 1.0, "metre": 1.0, "meter": 1.0, "metres": 1.0, "meters": 1.0, "km": 1000.0,
    "kilometre": 1000.0, "kilometer": 1000.0, "kilometres": 1000.0, "kilometers": 1000.0,
    "ft": 0.3048, "foot": 0.3048, "feet": 0.3048, "us_survey_foot": 1200 / 3937,
}  # fmt: skip


def unit_factor(unit: Any, wkt: str | None, where: str) -> float:
    """What coordinates with this unit are multiplied by, to be in that of their CRS.

    Raises SceneError: degrees in a system of lengths, or lengths in one of degrees.
    """
    name = str(unit).strip().lower().replace(" ", "_")
    is_degree = name.startswith("degree")
    if wkt is None or not (is_degree or name in _METRES):
        return 1.0
    from pyproj import CRS

    crs = CRS.from_wkt(wkt)
    if not (crs.is_geographic or crs.is_projected) or (crs.is_geographic and is_degree):
        return 1.0
    if crs.is_geographic or is_degree:
        own = "degree" if crs.is_geographic else crs.axis_info[0].unit_name
        raise SceneError(
            f"{where} is in {unit}, but the unit of its reference system {crs.name} is {own}",
            "Correct its units or the reference system",
        )
    factor = _METRES[name] / crs.axis_info[0].unit_conversion_factor
    return 1.0 if math.isclose(factor, 1, rel_tol=1e-5) else factor


def grid_from_map_info(text: str, where: str) -> tuple[Grid, int | None]:
    """Grid from NEON's (ENVI's) Map_Info.

    The reference pixel counts from 1, and (1, 1) is the upper-left *corner* of the first
    pixel: its centre is half a pixel further.

    Returns: the grid without CRS, and the EPSG code of "UTM, WGS-84" fields, or None.
    Raises SceneError: fields missing or not numbers, a pixel size of 0, a rotation.
    """
    fields = [part.strip() for part in text.strip().strip("{}").split(",")]
    try:
        ref_x, ref_y, easting, northing, px, py = (float(part) for part in fields[1:7])
    except ValueError:
        raise SceneError(
            f"{where}: Map_Info {text!r:.200} does not give the reference pixel, the corner "
            "and the pixel size"
        ) from None
    rotation = 0.0
    for part in fields[10:]:
        key, _, value = part.rpartition("=")
        if key.strip().lower() in ("", "rotation"):
            try:
                rotation = float(value)
            except ValueError:
                continue
    is_finite = all(map(math.isfinite, (ref_x, ref_y, easting, northing, px, py)))
    if not is_finite or px <= 0 or py <= 0 or rotation != 0:
        raise SceneError(
            f"{where}: Map_Info {text!r:.200} is not a north-up grid (pixel {px:g} x {py:g}, "
            f"rotation {rotation:g})"
        )
    grid = Grid(xmin=easting - (ref_x - 1) * px, ymax=northing + (ref_y - 1) * py, px=px, py=py)
    if fields[0].upper() == "UTM" and len(fields) > 9 and "84" in fields[9]:
        zone = fields[7]
        if zone.isdigit() and 1 <= int(zone) <= 60:
            return grid, int(zone) + (32700 if fields[8].lower().startswith("s") else 32600)
    return grid, None


def grid_mapping_attributes(grid: Grid) -> dict[str, Any]:
    """CF grid-mapping attributes that rioxarray and GDAL read (``spatial_ref``)."""
    attributes: dict[str, Any] = {}
    if grid.wkt is not None:
        from pyproj import CRS

        attributes = dict(CRS.from_wkt(grid.wkt).to_cf())
        attributes["crs_wkt"] = grid.wkt
        attributes["spatial_ref"] = grid.wkt
    corner = (grid.xmin, grid.px, 0.0, grid.ymax, 0.0, -grid.py)
    attributes["GeoTransform"] = " ".join(repr(float(number)) for number in corner)
    return attributes


def axis_attributes(grid: Grid) -> dict[str, dict[str, str]]:
    """CF attributes of the coordinates ``y`` and ``x``; the unit is that of the CRS."""
    found = {name: {"axis": name.upper()} for name in ("y", "x")}
    if grid.wkt is None:
        return found
    from pyproj import CRS

    crs = CRS.from_wkt(grid.wkt)
    for about in crs.cs_to_cf():
        if (name := about.get("axis", "").lower()) in found:
            found[name] |= about
            unit = crs.axis_info[0].unit_name
            if not crs.is_geographic and unit in _UNITS:
                found[name]["units"] = _UNITS[unit]
    return found


def cf_georeference(
    grid: Grid, rows: int, cols: int
) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]:
    """The CF georeference of arrays (y, x), to be stored next to them.

    Returns: by name, ``y``, ``x`` and ``spatial_ref``: dimensions, values and attributes. y and
    x are pixel centres (float64, in the unit of the CRS), spatial_ref is 0 (int64).
    """
    about = axis_attributes(grid)
    return {
        "y": (("y",), grid.y_centres(0, rows), about["y"]),
        "x": (("x",), grid.x_centres(0, cols), about["x"]),
        "spatial_ref": ((), np.asarray(0, dtype=np.int64), grid_mapping_attributes(grid)),
    }


def pixel_area_m2(grid: Grid) -> float | None:
    """Area of a pixel in square metres; None where coordinates are no lengths, or unknown."""
    if grid.wkt is None:
        return None
    from pyproj import CRS

    crs = CRS.from_wkt(grid.wkt)
    if not crs.is_projected:
        return None
    unit = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return grid.px * grid.py * unit**2


@dataclass(frozen=True)
class MapCrs:
    """What a drawing needs of the coordinate reference system.

    ``kind``: ``projected``, ``geographic`` or ``unknown``.
    ``unit_m``: Metres per unit of a projected system; 1 otherwise.
    ``n_rows``: Rows of a scene whose positions are pixels, y counting from its last row
        (:func:`grid_in_pixels`); None if it has coordinates.
    """

    label: str
    kind: str
    unit_m: float = 1.0
    n_rows: int | None = None

    @property
    def axis_names(self) -> tuple[str, str]:
        """What x and y are, with their units as a drawing prints them."""
        if self.n_rows is not None:
            return "Column (pixels)", "Row (pixels)"
        return {
            "projected": ("Easting (km)", "Northing (km)"),
            "geographic": ("Longitude (°)", "Latitude (°)"),
        }.get(self.kind, ("x (unit unknown)", "y (unit unknown)"))

    @property
    def is_degrees(self) -> bool:
        """Whether coordinates are longitude and latitude."""
        return self.kind == "geographic"

    def metres_per_unit(self, y: float) -> float | None:
        """Metres along x per coordinate unit at the coordinate ``y``; None if unknown."""
        if self.kind == "unknown":
            return None
        if self.kind == "geographic":
            return 111_320.0 * max(math.cos(math.radians(y)), 1e-6)
        return self.unit_m


NO_CRS = MapCrs("no coordinate reference system stored", "unknown")


def describe_crs(epsg: int | None, wkt: str | None = None) -> MapCrs:
    """Look up an EPSG code, or read the WKT stored with the results where there is no code."""
    if epsg is None and not wkt:
        return NO_CRS
    from pyproj import CRS  # late: it opens a database
    from pyproj.exceptions import CRSError

    source: Any = int(epsg) if epsg is not None else wkt
    try:
        crs = CRS.from_user_input(source)
    except CRSError:
        # A code that this PROJ does not know is still named; imagery is usually metric.
        return MapCrs(f"EPSG:{epsg}", "projected") if epsg is not None else NO_CRS
    label = crs.name if epsg is None else f"{crs.name} (EPSG:{epsg})"
    if crs.is_geographic:
        return MapCrs(label, "geographic")
    factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return MapCrs(label, "projected", factor or 1.0)
