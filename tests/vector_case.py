"""Files of points and polygons for the tests, written without our own code."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import shapely


def geojson(path: Path, *geometries: Any, **members: Any) -> Path:
    features = [
        {"type": "Feature", "properties": {}, "geometry": json.loads(shapely.to_geojson(g))}
        for g in geometries
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features} | members))
    return path


def geopackage(path: Path, *geometries: Any, srs: int = 32613, envelope: int = 1) -> Path:
    """Write it as the specification says; ``envelope`` is the kind of the header."""
    with sqlite3.connect(path) as database:
        database.executescript(
            "CREATE TABLE gpkg_spatial_ref_sys (srs_name TEXT, srs_id INTEGER, organization "
            "TEXT, organization_coordsys_id INTEGER, definition TEXT);"
            "CREATE TABLE gpkg_geometry_columns (table_name TEXT, column_name TEXT, "
            "geometry_type_name TEXT, srs_id INTEGER, z INTEGER, m INTEGER);"
            'CREATE TABLE "my ""plots" (fid INTEGER PRIMARY KEY, name TEXT, geom BLOB);'
        )
        database.execute(
            "INSERT INTO gpkg_spatial_ref_sys VALUES ('x', ?, 'EPSG', ?, 'undefined')", (srs, srs)
        )
        database.execute(
            "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'POLYGON', ?, 0, 0)",
            ('my "plots', srs),
        )
        size = (0, 32, 48, 48, 64)[envelope]
        for number, geometry in enumerate(geometries):
            head = b"GP\x00" + bytes([1 | envelope << 1]) + srs.to_bytes(4, "little", signed=True)
            blob = head + bytes(size) + shapely.to_wkb(geometry)
            database.execute('INSERT INTO "my ""plots" VALUES (?, ?, ?)', (number, "a", blob))
        database.execute('INSERT INTO "my ""plots" VALUES (99, "empty", NULL)')
    database.close()
    return path
