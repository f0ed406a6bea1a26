"""Points and polygons with their attributes, from GeoJSON, GeoPackage and CSV files.

A GeoPackage is an SQLite database by its specification (OGC 12-128r19): geometries are
blobs of a short header and well-known binary. A second GDAL for that would be a heavy
dependency (docs/decisions/0012).
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.scene.views import MaskedScene, mask_scene, window_shape

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_SQLITE = b"SQLite format 3\x00"
#: GeoJSON's coordinates, unless an old file names others (RFC 7946, section 4).
_LON_LAT = "OGC:CRS84"
#: Stands for the CRS of the scene.
SCENE_CRS = "of the scene"
#: Exceptions that reading a damaged file may raise.
_DAMAGE = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError,
    sqlite3.Error, struct.error, csv.Error,
)  # fmt: skip
#: Names of the columns of coordinates in a CSV, and what they are in.
_COLUMNS = ((("x", "y"), SCENE_CRS), (("lon", "lat"), _LON_LAT),
            (("longitude", "latitude"), _LON_LAT))  # fmt: skip
#: Bytes of the envelope in a geometry's header, by bits 1-3 of its flags.
_ENVELOPE = (0, 32, 48, 48, 64)
#: Edges are cut into this many parts along their geometry before they are reprojected.
_PARTS = 1000


@dataclass(frozen=True)
class Features:
    """The features of a file.

    ``geometries``: Object array of shapely's geometries; None for a feature without one.
    ``attributes``: Of each feature, name to a number, text or None.
    ``crs``: Code or WKT of their CRS, :data:`SCENE_CRS`, or None if the file declares none.
    ``digest``: SHA-256 of the file.
    ``kind``: What the file is.
    """

    geometries: np.ndarray
    attributes: list[dict[str, Any]]
    crs: str | None
    digest: str
    kind: str


def read_features(path: Path, option: str) -> Features:
    """Read all features of a file.

    ``option``: The option that names the file, for messages: ``--aoi``.

    Raises ConfigError: the file is missing or damaged, or none of these.
    """
    import shapely

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{option} {path} cannot be read: {error.strerror or error}") from None
    kind = "GeoJSON"
    try:
        if data.startswith(_SQLITE):
            kind = "GeoPackage"
            found, crs = _read_geopackage(path)
        elif path.suffix.lower() == ".csv":
            kind = "CSV"
            found, crs = _read_csv(data)
        else:
            found, crs = _read_geojson(data)
    except (*_DAMAGE, shapely.errors.ShapelyError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{option} {path} is not a readable {kind} file: {why}",
            "Give a .gpkg or .geojson file" + (", or a .csv" if option != "--aoi" else ""),
        ) from None
    geometries = np.empty(len(found), dtype=object)
    geometries[:] = [geometry for geometry, _ in found]
    attributes = [values for _, values in found]
    return Features(geometries, attributes, crs, hashlib.sha256(data).hexdigest(), kind)


#: A geometry, or None, and its attributes.
_Found = list[tuple[Any, dict[str, Any]]]


def _read_geojson(data: bytes) -> tuple[_Found, str | None]:
    """Features and CRS of a GeoJSON text."""
    import shapely

    document = json.loads(data)
    if not isinstance(document, dict) or "type" not in document:
        raise ValueError("it is no GeoJSON object")
    kind = document["type"]
    if kind == "FeatureCollection":
        features = document["features"]
    else:
        features = [document if kind == "Feature" else {"geometry": document}]
    named = (document.get("crs") or {}).get("properties", {}).get("name", _LON_LAT)
    found = []
    for feature in features:
        geometry = feature["geometry"]
        values = {"id": feature["id"]} if "id" in feature else {}
        values |= feature.get("properties") or {}
        plain = {
            name: json.dumps(value) if isinstance(value, dict | list) else value
            for name, value in values.items()
        }
        found.append((shapely.from_geojson(json.dumps(geometry)) if geometry else None, plain))
    return found, str(named)


def _read_geopackage(path: Path) -> tuple[_Found, str | None]:
    """Features of all tables of a GeoPackage, and their CRS."""
    address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as database:
        tables = database.execute(
            "SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns"
        ).fetchall()
        systems = {srs for _, _, srs in tables}
        if len(systems) > 1:
            raise ValueError(f"its layers are in {len(systems)} reference systems")
        found = [row for table, column, _ in tables for row in _read_table(database, table, column)]
        crs = _read_crs(database, systems.pop()) if systems else None
    return found, crs


def _read_table(database: sqlite3.Connection, table: str, column: str) -> Iterator[Any]:
    """Rows of one table."""
    name = table.replace('"', '""')
    rows = database.execute(f'SELECT * FROM "{name}"')  # noqa: S608 - quoted
    names = [entry[0] for entry in rows.description]
    if column not in names:
        raise ValueError(f"its table {table} has no column {column}")
    for row in rows:
        values = dict(zip(names, row, strict=True))
        blob = values.pop(column)
        plain = {n: v for n, v in values.items() if not isinstance(v, bytes)}
        yield (_read_blob(blob) if blob else None), plain


def _read_crs(database: sqlite3.Connection, srs: int) -> str | None:
    """Code or WKT of a reference system of a GeoPackage; None for its two undefined ones."""
    row = database.execute(
        "SELECT organization, organization_coordsys_id, definition FROM gpkg_spatial_ref_sys "
        "WHERE srs_id = ?",
        (srs,),
    ).fetchone()
    if row is None or srs in (0, -1):
        return None
    organization, code, definition = row
    if str(organization).upper() in ("EPSG", "ESRI", "OGC"):
        return f"{organization}:{code}"
    return str(definition)


def _read_blob(blob: bytes) -> Any:
    """Geometry of a GeoPackage: ``GP``, version, flags, CRS, envelope, well-known binary."""
    import shapely

    if blob[:2] != b"GP":
        raise ValueError("a geometry does not begin with GP")
    envelope = (blob[3] >> 1) & 7
    return shapely.from_wkb(blob[8 + _ENVELOPE[envelope] :])


def _read_csv(data: bytes) -> tuple[_Found, str | None]:
    """Points of a CSV with columns x and y, or lon and lat; the others are attributes."""
    import shapely

    reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""))
    names = {str(name).strip().lower(): name for name in reader.fieldnames or ()}
    for (first, second), system in _COLUMNS:
        if first in names and second in names:
            crs, x, y = system, names[first], names[second]
            break
    else:
        raise ValueError(
            f"its columns are {', '.join(names) or 'none'}; it needs x and y, or lon and lat"
        )
    found = []
    for row in reader:
        try:
            place = float(row[x]), float(row[y])
        except (TypeError, ValueError):
            raise ValueError(
                f"line {reader.line_num} has no coordinates: {row[x]!r}, {row[y]!r}"
            ) from None
        values = {n: v for n, v in row.items() if n not in (x, y, None)}
        found.append((shapely.Point(*place) if np.isfinite(place).all() else None, values))
    return found, crs


def reproject_to_scene(
    geometries: np.ndarray, crs: str | None, scene: Scene, what: str
) -> np.ndarray:
    """Geometries in the CRS of a scene.

    ``geometries``: Object array; None stays None.
    ``what``: The option and the file, for messages.

    Raises ConfigError: one of the two has no CRS, or coordinates that it does not allow.
    """
    import pyproj
    import shapely

    if crs == SCENE_CRS:
        return geometries
    own = scene.grid.epsg or scene.grid.wkt
    if crs is None or own is None:
        of = what if crs is None else f"The scene {scene.path}"
        raise ConfigError(
            f"{of} has no coordinate reference system, so the file cannot be placed",
            "Declare it in the file",
        )
    try:
        source, target = pyproj.CRS.from_user_input(crs), pyproj.CRS.from_user_input(own)
    except pyproj.exceptions.CRSError:
        raise ConfigError(
            f"{what} names an unknown coordinate reference system: {crs:.80}", "Give its EPSG code"
        ) from None
    if source.equals(target, ignore_axis_order=True):
        return geometries
    bounds = shapely.bounds(geometries)
    length = np.maximum(bounds[:, 2] - bounds[:, 0], bounds[:, 3] - bounds[:, 1]) / _PARTS
    has_length = length > 0  # no point has, and what is missing
    geometries = geometries.copy()
    geometries[has_length] = shapely.segmentize(geometries[has_length], length[has_length])
    transform = pyproj.Transformer.from_crs(source, target, always_xy=True).transform
    moved = shapely.transform(
        geometries, lambda points: np.column_stack(transform(points[:, 0], points[:, 1]))
    )
    lost = ~shapely.is_missing(moved) & ~np.isfinite(shapely.bounds(moved)).all(axis=1)
    if lost.any():
        x, y = bounds[np.flatnonzero(lost)[0], :2]
        raise ConfigError(
            f"{what} has coordinates that are outside {source.name}: {x:.10g}, {y:.10g}",
            "GeoJSON, and the columns lon and lat of a CSV file, take degrees",
        )
    return moved


# Areas of interest (``--aoi``).


@dataclass(frozen=True)
class AoiMask:
    """Hides pixels whose centre is outside polygons.

    ``wkb``: The polygons in the scene's CRS, as well-known binary.
    ``grid``: Of the scene.
    ``digest``: SHA-256 of the file they come from.
    """

    wkb: bytes
    grid: Grid
    digest: str

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True outside."""
        import shapely

        shape = window_shape(rows, cols)
        if 0 in shape:
            return np.zeros(shape, dtype=bool)
        area = _prepared(self.wkb)
        x = self.grid.x_centres(cols.start, cols.stop)[:: cols.step or 1]
        y = self.grid.y_centres(rows.start, rows.stop)[:: rows.step or 1]
        box = shapely.box(x[0], y[-1], x[-1], y[0])
        if not area.intersects(box):
            return np.ones(shape, dtype=bool)
        if area.contains_properly(box):
            return np.zeros(shape, dtype=bool)
        # Pixel by pixel, exactly: what is inside does not depend on the window
        inside = shapely.intersects_xy(area, *np.meshgrid(x, y))
        return ~np.asarray(inside, dtype=bool).reshape(shape)

    def fingerprint(self) -> Any:
        """The file's content."""
        return {"aoi": self.digest}


@lru_cache(maxsize=4)
def _prepared(wkb: bytes) -> BaseGeometry:
    """Polygons, with an index of their edges; kept for the next window."""
    import shapely

    area = shapely.from_wkb(wkb)
    shapely.prepare(area)
    return area


def mask_outside(scene: Scene, path: Path) -> MaskedScene:
    """A scene without the pixels outside the polygons of a file.

    The centre of a pixel decides; one on an edge is inside.

    Raises ConfigError: the file is missing, is no GeoPackage or GeoJSON, holds no polygon, has
    no CRS, or its polygons miss the scene.
    """
    import shapely

    features = read_features(path, "--aoi")
    geometry = _union(features, path)
    geometry = reproject_to_scene(np.array([geometry]), features.crs, scene, f"--aoi {path}")[0]
    box = shapely.box(*scene.bounds)
    inside = geometry.intersection(box)
    if inside.is_empty or not inside.area:
        theirs, own = (",".join(f"{v:.10g}" for v in g.bounds) for g in (geometry, box))
        raise ConfigError(
            f"The polygons of {path} span {theirs}, which is outside the scene, {own}",
            "Check that the file and the scene show the same place",
        )
    note = f"Pixels outside the polygons of {path.name} are left out."
    mask = AoiMask(shapely.to_wkb(geometry), scene.grid, features.digest)
    return mask_scene(scene, mask, note, aoi_bounds=inside.bounds)


def _union(features: Features, path: Path) -> BaseGeometry:
    """All polygons as one geometry."""
    import shapely

    parts = [part for one in features.geometries for part in _polygons(one)]
    try:
        area = shapely.union_all(shapely.make_valid(np.array(parts, dtype=object)))
    except shapely.errors.ShapelyError as error:
        raise ConfigError(
            f"--aoi {path} holds polygons that have no area: {error}", "Repair them in QGIS"
        ) from None
    if area.is_empty or not area.area:
        raise ConfigError(
            f"--aoi {path} holds no polygon ({len(features.geometries)} features)",
            "Points and lines enclose no area: give polygons",
        )
    return area


def _polygons(geometry: BaseGeometry | None) -> list[BaseGeometry]:
    if geometry is None or geometry.is_empty:
        return []
    if geometry.geom_type == "Polygon":
        return [geometry]
    return [one for part in getattr(geometry, "geoms", ()) for one in _polygons(part)]
