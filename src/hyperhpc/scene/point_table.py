"""Tables of points: CSV files as people have them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError

#: Stands for the CRS of the scene.
SCENE_CRS = "of the scene"
#: Longitude and latitude, in degrees.
LON_LAT = "OGC:CRS84"
#: Names of the columns of coordinates, in any case, in the order of preference, and their CRS.
_COLUMNS = (
    ("x", "y", SCENE_CRS),
    ("easting", "northing", SCENE_CRS),
    ("adjeasting", "adjnorthing", SCENE_CRS),  # of the R package geoNEON
    ("utm_x", "utm_y", SCENE_CRS),
    ("lon", "lat", LON_LAT),
    ("lng", "lat", LON_LAT),
    ("long", "lat", LON_LAT),
    ("longitude", "latitude", LON_LAT),
    ("decimallongitude", "decimallatitude", LON_LAT),  # Darwin Core, and NEON
)
#: What stands for a missing number in R, pandas, Excel and databases.
_MISSING = {"", "na", "nan", "n/a", "#n/a", "null", "none", "-"}


def is_point_table(path: Path) -> bool:
    """True for a name that ends in .csv, .tsv or .txt."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt")


def read_point_table(
    path: Path, what: str
) -> tuple[list[Any], list[dict[str, Any]], str, list[str]]:
    """Points, attributes, CRS and notes of a table.

    Columns are divided by commas, semicolons or tabs. A row without coordinates gets None.

    ``what``: The option and the file, for messages.
    Raises ConfigError: no columns of coordinates, or a coordinate that is not a number.
    """
    import shapely

    data, notes = path.read_bytes(), []
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        notes.append(f"{path.name} is not in UTF-8 and is read as Latin-1.")
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    points, attributes = [], []
    try:
        names = {str(name).strip().lower(): name for name in reader.fieldnames or ()}
        x, y, crs = _choose_columns(names, what)
        for row in reader:
            place = [_read_number(row[name], reader.line_num, what) for name in (x, y)]
            points.append(shapely.Point(*place) if np.isfinite(place).all() else None)
            attributes.append({n: v for n, v in row.items() if n not in (x, y, None)})
    except csv.Error as error:
        raise ConfigError(f"{what} is not a readable CSV file: {error}") from None
    return points, attributes, crs, notes


def _choose_columns(names: dict[str, str], what: str) -> tuple[str, str, str]:
    for first, second, crs in _COLUMNS:
        if first in names and second in names:
            return names[first], names[second], crs
    raise ConfigError(
        f"{what} is not a readable CSV file of points: its columns are "
        f"{', '.join(names) or 'none'}; it needs x and y, easting and northing, or lon and lat",
        "Rename its columns of coordinates",
    )


def _read_number(text: str | None, line: int, what: str) -> float:
    """Parse a coordinate; NaN for a missing one."""
    clean = (text or "").strip()
    if clean.lower() in _MISSING:
        return np.nan
    try:
        return float(clean)
    except ValueError:
        hint = "Give numbers, or leave the field empty"
        if clean.count(",") == 1:
            hint = "Write the numbers with a decimal point: a comma may mean two things"
        raise ConfigError(f"Line {line} of {what} has no coordinates: {text!r}", hint) from None
