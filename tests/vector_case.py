"""Files of points and polygons for the tests, written without our own code."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import shapely


def geojson(path: Path, *geometries: Any, **members: Any) -> Path:
    features = [
        {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(g))}
        for g in geometries
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | members))
    return path


def write_vectors(
    path: Path,
    geometries: list[Any],
    kind: str = "Point",
    crs: str | None = "EPSG:32613",
    **more: Any,
) -> Path:
    """Write a file as GDAL does, with a column ``plot`` of p1, p2, ...; None has no geometry."""
    wkb = np.array([None if g is None else shapely.to_wkb(g) for g in geometries], dtype=object)
    plots = np.array([f"p{n}" for n in range(1, len(wkb) + 1)], dtype=object)
    names = np.array(["plot"], dtype=object)
    pyogrio.raw.write(path, wkb, [plots], names, geometry_type=kind, crs=crs, **more)
    return path


def geopackage(path: Path, *geometries: Any, srs: int = 32613, envelope: int = 1) -> Path:
    """Write it as the specification says; ``envelope`` is the kind of the header."""
    with sqlite3.connect(path) as database:
        database.executescript(
            "PRAGMA application_id = 1196444487;"
            "CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT, srs_id INTEGER, organization "
            "TEXT, organization_coordsys_id INTEGER, definition TEXT);"
            "CREATE TABLE gpkg_contents (table_name TEXT, data_type TEXT, identifier TEXT, "
            "description TEXT, last_change TEXT, min_x REAL, min_y REAL, max_x REAL, max_y REAL, "
            "srs_id INTEGER);"
            "CREATE TABLE gpkg_geometry_columns (table_name TEXT, column_name TEXT, "
            "geometry_type_name TEXT, srs_id INTEGER, z INTEGER, m INTEGER);"
            'CREATE TABLE "my ""plots" (fid INTEGER PRIMARY KEY, name TEXT, geom BLOB);'
        )
        database.execute(
            "INSERT INTO gpkg_spatial_ref_sys VALUES ('x', ?, 'EPSG', ?, 'undefined')", (srs, srs)
        )
        database.execute(
            "INSERT INTO gpkg_contents VALUES (?, 'features', '', '', '', 0, 0, 1, 1, ?)",
            ('my "plots', srs),
        )
        database.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'POLYGON', ?, 0, 0)",
            ('my "plots', srs),
        )
        size = (0, 32, 48, 48, 64)[envelope]
        for number, geometry in enumerate(geometries):
            head = b"GP\x00" + bytes([1 | envelope << 1]) + srs.to_bytes(4, "little", signed=True)
            wkb = geometry if isinstance(geometry, bytes) else shapely.to_wkb(geometry)
            blob = head + bytes(size) + wkb
            database.execute('INSERT INTO "my ""plots" VALUES (?, ?, ?)', (number, "a", blob))
        database.execute('INSERT INTO "my ""plots" VALUES (99, "empty", NULL)')
    database.close()
    return path
