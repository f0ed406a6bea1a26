"""Points and polygons with their attributes, from any vector file that GDAL reads, or a CSV.

pyogrio's wheel has a GDAL of its own, newer than rasterio's; both work in one process
(docs/decisions/0029).
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hyperhpc.errors import ConfigError, unreadable
from hyperhpc.reading import check_siblings, open_regular, read_file
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.point_table import SCENE_CRS, is_point_table, read_point_table
from hyperhpc.scene.vectors.geopackage import MAX_FEATURES, check_views

#: Edges are cut into this many parts along their geometry before they are reprojected.
_PARTS = 1000
#: Exceptions that reading a damaged file may raise; pyogrio's own are RuntimeErrors.
#: What the files in a .zip may hold: all features are read at once.
_MAX_UNPACKED_BYTES = 2**31
_UNREADABLE = (RuntimeError, UnicodeError, zipfile.BadZipFile)
#: Warnings of GDAL that mean a geometry was lost or guessed; all others are passed on as notes.
_DAMAGE = re.compile("(?i)invalid|non closed|not closed|corrupt|malformed|truncated|cannot|failed")
#: Warnings of GDAL about the version of a GeoPackage, which say nothing about its content.
_VERSION = re.compile("user_version|application_id")
#: Reference systems that GeoPackage defines as unknown (OGC 12-128r19, 1.1.2).
_UNDEFINED = re.compile(r'^\w+\["Undefined')
_KINDS = {".geojson": "GeoJSON", ".json": "GeoJSON", ".gpkg": "GeoPackage", ".shp": "Shapefile",
          ".zip": "zipped Shapefile", ".fgb": "FlatGeobuf", ".kml": "KML"}  # fmt: skip
#: Bytes of the largest GeoJSON; it takes several times as much memory.
_MAX_GEOJSON_BYTES = 2**30
_READABLE = "GeoPackage, Shapefile (also in a .zip), GeoJSON, FlatGeobuf and KML"


class Placed(Protocol):
    """What has a place on the map: a scene, or the maps of a run.

    ``path``: For messages.
    ``grid``: Where its pixels are.
    ``bounds``: [xmin, ymin, xmax, ymax] of all pixels.
    """

    @property
    def path(self) -> Any: ...  # noqa: D102

    @property
    def grid(self) -> Grid: ...  # noqa: D102

    @property
    def bounds(self) -> Any: ...  # noqa: D102


@dataclass(frozen=True)
class Features:
    """The features of one layer of a file.

    ``geometries``: Object array of shapely's geometries; None for a feature without one. A
        collection of one part is that part.
    ``attributes``: Name to a number, text or None, for each feature.
    ``crs``: Code or WKT of their CRS, :data:`SCENE_CRS`, or None if the file declares none.
    ``digest``: SHA-256 of the geometries and the CRS.
    ``notes``: What was assumed.
    """

    geometries: np.ndarray
    attributes: list[dict[str, Any]]
    crs: str | None
    digest: str
    notes: tuple[str, ...]


def read_features(path: Path, option: str, layer: str | None = None) -> Features:
    """Read all features of a file.

    ``option``: The option that names the file, for messages: ``--aoi``.
    ``layer``: The layer to read; a file with several layers needs it.

    Raises ConfigError: the file is missing or damaged, its format is unknown, or the layer is
    not in it.
    """
    what = f"{option} {path}"
    try:
        with open_regular(path) as file:
            file.read(1)
        check_siblings(path)
        check_views(path, what, layer)
        read = read_point_table if is_point_table(path) else partial(_read_layer, layer=layer)
        found, attributes, crs, notes = read(path, what)
    except OSError as error:
        raise unreadable(what, error) from None
    geometries = _simplify(found)
    return Features(geometries, attributes, crs, _digest(geometries, crs), tuple(notes))


def _read_layer(
    path: Path, what: str, layer: str | None
) -> tuple[Sequence[Any], list[dict[str, Any]], str | None, list[str]]:
    """Geometries, attributes, CRS and notes of one layer, by GDAL.

    pyogrio has GDAL turn curves into lines, in steps of 4 degrees.
    """
    import pyogrio
    import shapely

    kind = _KINDS.get(path.suffix.lower(), "vector")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            source, name = _choose_layer(path, what, layer)
            meta, fids, wkb, columns = pyogrio.raw.read(
                source, layer=name, return_fids=True, datetime_as_string=True,
                max_features=MAX_FEATURES + 1,
            )  # fmt: skip
            found = [None] * len(fids) if wkb is None else shapely.from_wkb(wkb)
        except (*_UNREADABLE, shapely.errors.ShapelyError) as error:
            raise _unreadable(what, kind, _first_line(error)) from None
    said = [_first_line(w.message) for w in caught if not _VERSION.search(str(w.message))]
    for text in said:
        if _DAMAGE.search(text):
            raise _unreadable(what, kind, text)
    if len(fids) > MAX_FEATURES:
        raise ConfigError(
            f"{what} has more than {MAX_FEATURES} features", "Give only those that are needed"
        )
    has_ids, crs = kind == "GeoPackage", meta["crs"]
    if kind == "GeoJSON":
        data = read_file(path, _MAX_GEOJSON_BYTES)
        has_ids = re.search(rb'"id"\s*:', data) is not None
        crs = _find_named_crs(data) or crs
    names = [str(name) for name in meta["fields"]]
    values = [
        _plain_column(column, ogr_type)
        for column, ogr_type in zip(columns, meta["ogr_types"], strict=True)
    ]
    if has_ids and not {"fid", "id"} & set(names):
        names.insert(0, "fid" if kind == "GeoPackage" else "id")
        values.insert(0, fids.tolist())
    attributes = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    attributes = attributes or [{} for _ in fids]
    if crs is not None and _UNDEFINED.match(crs):
        crs = None
    return found, attributes, crs, [f"GDAL says of {path.name}: {text}" for text in said]


def _choose_layer(path: Path, what: str, layer: str | None) -> tuple[str | Path, str]:
    """What GDAL opens, and the only layer with geometries in it or the one that is named."""
    import pyogrio

    sources: dict[str, str | Path] = {}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            inside = [Path(name) for name in archive.namelist()]
            n_bytes = sum(entry.file_size for entry in archive.infolist())
        if n_bytes > _MAX_UNPACKED_BYTES:
            raise ConfigError(
                f"{what} holds {n_bytes / 2**30:.3g} GiB when it is unpacked; at most "
                f"{_MAX_UNPACKED_BYTES / 2**30:g} GiB are read",
                "Unpack it, and give the .shp",
            )
        sources = {
            member.stem: f"/vsizip/{path.resolve()}/{member}"
            for member in inside
            if member.suffix.lower() == ".shp" and member.parts[0] != "__MACOSX"
        }
        names = list(sources)
    else:
        names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if layer is None and len(names) == 1:
        layer = names[0]
    if layer not in names:
        here = f"its layers are {', '.join(names)}" if names else "it holds no layer"
        lacks = (
            f"{what} has no layer {layer}" if layer else f"{what} does not say which layer to read"
        )
        hint = f"Give --layer {names[0]}" if names else "Export it again"
        raise ConfigError(f"{lacks}: {here}", hint)
    return (sources[layer], Path(sources[layer]).stem) if sources else (path, layer)


def _plain_column(column: np.ndarray, ogr_type: str) -> list[Any]:
    """Values as Python's own; whole numbers with gaps, which numpy makes floats, are whole."""
    if column.dtype.kind == "f" and ogr_type in ("OFTInteger", "OFTInteger64"):
        return [None if np.isnan(value) else int(value) for value in column]
    values = column.tolist()
    return [None if isinstance(v, bytes) or v != v else v for v in values]


def _simplify(found: Sequence[Any]) -> np.ndarray:
    """Geometries without empty ones; a collection of one part is that part."""
    geometries = np.empty(len(found), dtype=object)
    for number, geometry in enumerate(found):
        if geometry is not None and not geometry.is_empty:
            parts = list(getattr(geometry, "geoms", []))
            geometries[number] = parts[0] if len(parts) == 1 else geometry
    return geometries


def _digest(geometries: np.ndarray, crs: str | None) -> str:
    import shapely

    parts = [repr(crs).encode(), *(blob or b"" for blob in shapely.to_wkb(geometries))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def _find_named_crs(data: bytes) -> str | None:
    """The name in an old ``crs`` member; GDAL takes degrees for one that it does not know."""
    member = rb'"crs"\s*:\s*\{[^{}]*"properties"\s*:\s*\{\s*"name"\s*:\s*"([^"]+)"'
    found = re.search(member, data)
    return found[1].decode("utf-8", "replace") if found else None


def _first_line(error: object) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _unreadable(what: str, kind: str, why: str) -> ConfigError:
    hint = f"These can be read: {_READABLE}"
    if what.startswith("--points"):
        hint += ", and a CSV of points"
    if ".shx" in why or ".dbf" in why:
        hint = "Copy all files of the Shapefile: .shp, .shx, .dbf and .prj"
    why = why.split(";")[0].rstrip(".")
    return ConfigError(f"{what} is not a readable {kind} file: {why}", hint)


def reproject_to_scene(
    geometries: np.ndarray, crs: str | None, scene: Placed, what: str
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
        of, hint = f"The scene {scene.path}", "Declare it in the file"
        if crs is None:
            of, hint = what, hint + ", or give --point-crs" * what.startswith("--point")
        raise ConfigError(
            f"{of} has no coordinate reference system, so {what} cannot be placed", hint
        )
    try:
        source, target = pyproj.CRS.from_user_input(crs), pyproj.CRS.from_user_input(own)
    except pyproj.exceptions.CRSError:
        raise ConfigError(
            f"{what} names an unknown coordinate reference system: {crs:.80}", "Give its EPSG code"
        ) from None
    if source.equals(target, ignore_axis_order=True):
        return _turn_to_scene(geometries, target, scene)
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
            "GeoJSON, and the columns lon and lat of a CSV file, take degrees, longitude first",
        )
    return _turn_to_scene(moved, target, scene)


def _turn_to_scene(geometries: np.ndarray, target: Any, scene: Placed) -> np.ndarray:
    """Geometries moved by 360 degrees where that is nearer: 255 degrees are 105 degrees west."""
    import shapely

    if not target.is_geographic:
        return geometries
    bounds = shapely.bounds(geometries)
    away = (scene.bounds[0] + scene.bounds[2] - bounds[:, 0] - bounds[:, 2]) / 2
    turns = np.nan_to_num(np.rint(away / 360), posinf=0, neginf=0)
    geometries = geometries.copy()
    for turn in np.unique(turns[turns != 0]):
        shift = np.array([360 * turn, 0])
        moved = shapely.transform(geometries[turns == turn], lambda points, by=shift: points + by)
        geometries[turns == turn] = moved
    return geometries


def merge_polygons(*geometries: Any) -> Any:
    """The area of all polygons in geometries, also in collections; parts may overlap.

    Raises shapely.errors.ShapelyError: polygons that have no area.
    """
    import shapely

    parts = [part for one in geometries for part in _polygons(one)]
    return shapely.union_all(shapely.make_valid(np.array(parts, dtype=object)))


def _polygons(geometry: Any) -> list[Any]:
    if geometry is None or geometry.is_empty:
        return []
    if geometry.geom_type == "Polygon":
        return [geometry]
    return [one for part in getattr(geometry, "geoms", ()) for one in _polygons(part)]
