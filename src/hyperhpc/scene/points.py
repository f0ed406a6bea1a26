"""Points given to a command, one by one or in a file, in the CRS of a scene.

Every command that takes points takes ``--point X,Y``, ``--points FILE`` and ``--point-crs CRS``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.georef import parse_crs
from hyperhpc.scene.point_table import LON_LAT, SCENE_CRS, is_point_table
from hyperhpc.scene.vectors import Features, Placed, read_features, reproject_to_scene

Pair = tuple[float, float]
#: Geometry types of shapely: missing, and point.
MISSING, POINT = -1, 0


@dataclass(frozen=True)
class GivenPoints:
    """What a command was given.

    ``pairs``: X and y of single points.
    ``file``: A vector file, or a table of points.
    ``crs``: CRS of the pairs and of the coordinates in a table; None for that of the scene, or
        for what the names of the table's columns say.
    ``layer``: Layer of the file.
    """

    pairs: Sequence[Pair] = ()
    file: Path | None = None
    crs: str | None = None
    layer: str | None = None


@dataclass(frozen=True)
class PlacedPoints:
    """Points in the CRS of a scene: the pairs, then those of the file.

    ``places``: X and y of each; None for a row of the file without coordinates.
    ``attributes``: Name to a number, text or None, for each; empty for a pair.
    ``digest``: SHA-256 of what the file holds; None without one.
    ``notes``: What was assumed.
    """

    places: list[Pair | None]
    attributes: list[dict[str, Any]]
    digest: str | None = None
    notes: tuple[str, ...] = ()


def split_layer(
    options: SceneOptions | None, given: GivenPoints
) -> tuple[SceneOptions, GivenPoints]:
    """Give ``--layer`` to the file of points if it can have layers, else to that of polygons."""
    options = options or SceneOptions()
    if given.file is None or is_point_table(given.file):
        return options, given
    return replace(options, layer=None), replace(given, layer=options.layer)


def place_points(scene: Scene, given: GivenPoints) -> PlacedPoints:
    """Points in the CRS of a scene.

    Raises ConfigError: as :func:`place_features`; or the file holds other things than points,
    or no coordinates at all.
    """
    import shapely

    crs = _check_crs(given)
    places = _pairs_of(_place_pairs(scene, given, crs))
    attributes: list[dict[str, Any]] = [{} for _ in places]
    if given.file is None:
        return PlacedPoints(places, attributes)
    what, features = _read_file(given, crs)
    kinds = set(shapely.get_type_id(features.geometries).tolist())
    if not kinds <= {MISSING, POINT}:
        raise ConfigError(
            f"{what} holds more than single points",
            "Give it to hyperhpc extract, which takes areas too",
        )
    if POINT not in kinds:
        raise ConfigError(f"{what} holds no point with coordinates", "Give another file")
    moved = reproject_to_scene(features.geometries, features.crs, scene, what)
    return PlacedPoints(
        places + _pairs_of(moved),
        attributes + features.attributes,
        _digest(features),
        features.notes,
    )


def place_features(scene: Placed, given: GivenPoints) -> Features:
    """Points, and the points or areas of the file, in the CRS of a scene.

    Raises ConfigError: nothing is given; a coordinate is not finite; the file cannot be read,
    holds nothing, or cannot be placed; or the CRS is unknown, or contradicts the file.
    """

    crs = _check_crs(given)
    if not given.pairs and given.file is None:
        raise ConfigError("No points are given", "Give --point X,Y or --points FILE")
    for x, y in given.pairs:
        if not (math.isfinite(x) and math.isfinite(y)):
            raise ConfigError(f"Point {x:g},{y:g} is not finite", "Give two numbers")
    own = _place_pairs(scene, given, crs)
    if given.file is None:
        return Features(own, [{} for _ in own], SCENE_CRS, "", ())
    what, features = _read_file(given, crs)
    moved = reproject_to_scene(features.geometries, features.crs, scene, what)
    return Features(
        np.concatenate([own, moved]),
        [*({} for _ in own), *features.attributes],
        SCENE_CRS,
        features.digest,
        features.notes,
    )


def is_inside_as_degrees(scene: Scene, x: float, y: float) -> bool:
    """True if a point lies in the scene when its numbers are longitude and latitude (WGS 84)."""
    if scene.grid.wkt is None or not (abs(x) <= 180 and abs(y) <= 90):
        return False
    import shapely

    point = np.array([shapely.Point(x, y)])
    try:
        (place,) = reproject_to_scene(point, LON_LAT, scene, "--point")
    except ConfigError:  # too far away for the projection of the scene
        return False
    xmin, ymin, xmax, ymax = scene.bounds
    return bool(xmin <= place.x <= xmax and ymin <= place.y <= ymax)


def _check_crs(given: GivenPoints) -> str | None:
    """The CRS that is given, as PROJ understands it."""
    if given.crs is None:
        return None
    if not given.pairs and given.file is None:
        raise ConfigError(
            f"--point-crs {given.crs} is given without points", "Give --point X,Y or --points FILE"
        )
    from pyproj import CRS

    known = parse_crs(given.crs)
    crs = known and CRS.from_wkt(known[0])
    if not crs or not (crs.is_geographic or crs.is_projected):
        raise ConfigError(
            f"--point-crs {given.crs:.80} is not a known reference system of maps",
            "Give an EPSG code, such as EPSG:4326",
        )
    return crs.to_wkt()


def _place_pairs(scene: Placed, given: GivenPoints, crs: str | None) -> np.ndarray:
    """The single points, of shapely, in the CRS of the scene."""
    import shapely

    points = shapely.points(np.array(given.pairs, dtype=np.float64).reshape(-1, 2))
    if crs is None or not len(points):
        return np.asarray(points)
    return reproject_to_scene(points, crs, scene, "--point")


def _read_file(given: GivenPoints, crs: str | None) -> tuple[str, Features]:
    """The option with the file, for messages, and what it holds, with the CRS that counts."""
    assert given.file is not None
    what = f"--points {given.file}"
    features = read_features(given.file, "--points", given.layer)
    if not len(features.geometries):
        raise ConfigError(f"{what} holds no feature", "Give a file with points or polygons")
    if crs is None:
        return what, features
    if not is_point_table(given.file):
        if features.crs is None:
            return what, replace(features, crs=crs)
        if not given.pairs:
            raise ConfigError(
                f"{given.file} declares its own reference system; --point-crs {given.crs} is for "
                "--point and for tables",
                "Leave out --point-crs",
            )
        return what, features
    if features.crs == LON_LAT and not _is_geographic(crs):
        raise ConfigError(
            f"--point-crs {given.crs} is not in degrees, but {given.file} has columns of longitude "
            "and latitude",
            "Leave out --point-crs, or name the columns x and y",
        )
    return what, replace(features, crs=crs)


def _is_geographic(crs: str) -> bool:
    from pyproj import CRS

    return bool(CRS.from_wkt(crs).is_geographic)


def _pairs_of(points: np.ndarray) -> list[Pair | None]:
    return [None if point is None else (point.x, point.y) for point in points]


def _digest(features: Features) -> str:
    """SHA-256 of geometries and attributes."""
    text = json.dumps([features.digest, features.attributes], default=str)
    return hashlib.sha256(text.encode()).hexdigest()
