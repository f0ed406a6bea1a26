"""Areas of interest: polygons from GeoJSON or GeoPackage files, and the pixels inside them.

A GeoPackage is an SQLite database by its specification (OGC 12-128r19): geometries are
blobs of a short header and well-known binary. A second GDAL for that would be a heavy
dependency (docs/decisions/0012).
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.scene.masked import MaskedScene, mask_scene, n_pixels

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_SQLITE = b"SQLite format 3\x00"
#: GeoJSON's coordinates, unless an old file names others (RFC 7946, section 4).
_LON_LAT = "OGC:CRS84"
#: Bytes of the envelope in a geometry's header, by bits 1-3 of its flags.
_ENVELOPE = (0, 32, 48, 48, 64)
#: Edges are cut into this many parts across the area before they are reprojected.
_PARTS = 1000


@dataclass(frozen=True)
class AoiMask:
    """Hides pixels whose centre is outside polygons.

    Attributes
    ----------
    wkb
        The polygons in the scene's CRS, as well-known binary.
    grid
        Of the scene.
    digest
        SHA-256 of the file they come from.
    """

    wkb: bytes
    grid: Grid
    digest: str

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True outside."""
        import shapely

        shape = n_pixels(rows, cols)
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

    A pixel counts by its centre; one that lies on an edge is inside.

    Raises
    ------
    ConfigError
        The file is missing, is no GeoPackage or GeoJSON, holds no polygon, has no CRS, or
        its polygons miss the scene.
    """
    geometry, crs, digest = read_polygons(path)
    geometry = _to_scene(geometry, crs, scene, path)
    box = _box(scene)
    inside = geometry.intersection(box)
    if inside.is_empty or not inside.area:
        theirs, own = (",".join(f"{v:.10g}" for v in g.bounds) for g in (geometry, box))
        raise ConfigError(
            f"the polygons of {path} span {theirs} and miss the scene, which spans {own}",
            "see that the file and the scene are of the same place",
        )
    import shapely

    note = f"Pixels outside the polygons of {path.name} are left out."
    mask = AoiMask(shapely.to_wkb(geometry), scene.grid, digest)
    return mask_scene(scene, mask, note, interest=inside.bounds)


def read_polygons(path: Path) -> tuple[BaseGeometry, str | None, str]:
    """The polygons of a file as one geometry, their CRS, and the file's SHA-256.

    Raises
    ------
    ConfigError
        See :func:`mask_outside`.
    """
    import shapely

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"--aoi {path} cannot be read: {error.strerror or error}") from None
    is_database = data.startswith(_SQLITE)
    try:
        found, crs = _of_geopackage(path) if is_database else _of_geojson(data)
        parts = [part for one in found for part in _polygons(one)]
        area = shapely.union_all(shapely.make_valid(np.array(parts, dtype=object)))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError,
            sqlite3.Error, struct.error, shapely.errors.ShapelyError) as error:  # fmt: skip
        kind = "GeoPackage" if is_database else "GeoJSON"
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"--aoi {path} is no {kind} that can be read: {why}",
            "give a .gpkg or .geojson file of polygons",
        ) from None
    if area.is_empty or not area.area:
        raise ConfigError(
            f"--aoi {path} holds no polygon ({len(found)} features)",
            "points and lines have no inside: give polygons",
        )
    return area, crs, hashlib.sha256(data).hexdigest()


def _polygons(geometry: BaseGeometry | None) -> list[BaseGeometry]:
    if geometry is None or geometry.is_empty:
        return []
    if geometry.geom_type == "Polygon":
        return [geometry]
    return [one for part in getattr(geometry, "geoms", ()) for one in _polygons(part)]


def _of_geojson(data: bytes) -> tuple[list[Any], str | None]:
    """Geometries and CRS of a GeoJSON text."""
    import shapely

    document = json.loads(data)
    if not isinstance(document, dict) or "type" not in document:
        raise ValueError("it is no GeoJSON object")
    kind = document["type"]
    if kind == "FeatureCollection":
        geometries = [feature["geometry"] for feature in document["features"]]
    else:
        geometries = [document["geometry"] if kind == "Feature" else document]
    named = (document.get("crs") or {}).get("properties", {}).get("name", _LON_LAT)
    return [shapely.from_geojson(json.dumps(g)) for g in geometries if g], str(named)


def _of_geopackage(path: Path) -> tuple[list[Any], str | None]:
    """Geometries of all feature tables of a GeoPackage, and their CRS."""
    address = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(address, uri=True)) as database:
        tables = database.execute(
            "SELECT table_name, column_name, srs_id FROM gpkg_geometry_columns"
        ).fetchall()
        systems = {srs for _, _, srs in tables}
        if len(systems) > 1:
            raise ValueError(f"its layers are in {len(systems)} reference systems")
        found = []
        for table, column, _ in tables:
            names = (name.replace('"', '""') for name in (column, table))
            query = 'SELECT "{}" FROM "{}"'.format(*names)  # noqa: S608 - quoted
            found += [_of_blob(blob) for (blob,) in database.execute(query) if blob]
        crs = None
        if systems:
            crs = _crs_of(database, systems.pop())
    return found, crs


def _crs_of(database: sqlite3.Connection, srs: int) -> str | None:
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


def _of_blob(blob: bytes) -> Any:
    """Geometry of a GeoPackage: ``GP``, version, flags, CRS, envelope, well-known binary."""
    import shapely

    if blob[:2] != b"GP":
        raise ValueError("a geometry does not begin with GP")
    envelope = (blob[3] >> 1) & 7
    return shapely.from_wkb(blob[8 + _ENVELOPE[envelope] :])


def _to_scene(
    geometry: BaseGeometry, crs: str | None, scene: Scene, path: Path
) -> BaseGeometry:
    """Polygons in the CRS of a scene."""
    import pyproj
    import shapely

    own = scene.grid.epsg or scene.grid.wkt
    if crs is None or own is None:
        what = f"--aoi {path}" if crs is None else f"the scene {scene.path}"
        raise ConfigError(
            f"{what} has no coordinate reference system, so the polygons cannot be placed",
            "declare it in the file",
        )
    try:
        source, target = pyproj.CRS.from_user_input(crs), pyproj.CRS.from_user_input(own)
    except pyproj.exceptions.CRSError:
        raise ConfigError(
            f"--aoi {path} names a coordinate reference system that is not known: {crs:.80}",
            "give its EPSG code",
        ) from None
    if source.equals(target, ignore_axis_order=True):
        return geometry
    xmin, ymin, xmax, ymax = geometry.bounds
    geometry = shapely.segmentize(geometry, max(xmax - xmin, ymax - ymin) / _PARTS)
    transform = pyproj.Transformer.from_crs(source, target, always_xy=True).transform
    moved = shapely.transform(
        geometry, lambda points: np.column_stack(transform(points[:, 0], points[:, 1]))
    )
    if not np.isfinite(moved.bounds).all():
        raise ConfigError(
            f"--aoi {path} has coordinates that {source.name} does not allow",
            "GeoJSON takes longitude and latitude in degrees",
        )
    return moved


def _box(scene: Scene) -> BaseGeometry:
    import shapely

    return shapely.box(*scene.bounds)
