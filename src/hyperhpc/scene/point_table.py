"""Tables of points: CSV files as people have them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.reading import read_file
from hyperhpc.scene.files import decode_text

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
#: A first line that names the delimiter, for Excel.
_NAMED_DELIMITER = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)


def is_point_table(path: Path) -> bool:
    """True for a name that ends in .csv, .tsv or .txt."""
    return path.suffix.lower() in (".csv", ".tsv", ".txt")


def read_point_table(
    path: Path, what: str
) -> tuple[list[Any], list[dict[str, Any]], str, list[str]]:
    """Points, attributes, CRS and notes of a table.

    Columns are divided by commas, semicolons or tabs, or by what a first line ``sep=`` names, as
    Excel writes it. Columns of coordinates that are all empty are passed over for others. A row
    without coordinates gets None.

    ``what``: The option and the file, for messages.
    Raises ConfigError: no columns of coordinates or two of one name, a coordinate that is not a
    number, or more fields than columns.
    """
    import shapely

    head, rows, notes = read_rows(path, what)
    points: list[Any] = []
    attributes = []
    same = [str(name).strip().lower() for name in head]
    x, y, crs = _choose_columns(dict(zip(same, head, strict=True)), [row for _, row in rows], what)
    if twice := [name for name in (x, y) if same.count(name.strip().lower()) > 1]:
        raise ConfigError(f"{what} has two columns called {twice[0]}", "Delete one of them")
    for line, row in rows:
        place = [_read_number(row[name], line, what) for name in (x, y)]
        points.append(shapely.Point(*place) if np.isfinite(place).all() else None)
        attributes.append({n: v for n, v in row.items() if n not in (x, y, None)})
    return points, attributes, crs, notes


def read_rows(
    path: Path, what: str
) -> tuple[list[str], list[tuple[int, dict[str, str]]], list[str]]:
    """Names of the columns of a table, its rows with their line numbers, and notes.

    ``what``: As in :func:`read_point_table`.
    Raises ConfigError: it is no table, or a line has more fields than columns; OSError.
    """
    text, notes = _decode(path, what)
    delimiter, n_skipped = max(",;\t", key=text.partition("\n")[0].count), 0
    if named := _NAMED_DELIMITER.match(text):
        delimiter, n_skipped, text = named[1], 1, text[named.end() :]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        head = list(reader.fieldnames or ())
        rows = [(reader.line_num + n_skipped, row) for row in reader]
    except csv.Error as error:
        raise ConfigError(f"{what} is not a readable CSV file: {error}") from None
    for line, row in rows:
        _check_fields(head, row, line, what)
    return head, rows, notes


def _decode(path: Path, what: str) -> tuple[str, list[str]]:
    """Text of a table, and what was assumed about its bytes."""
    try:
        text, encoding = decode_text(read_file(path))
    except UnicodeError:
        raise ConfigError(f"{what} is damaged: it begins as UTF-16", "Save it as UTF-8") from None
    if encoding == "latin-1":
        return text, [f"{path.name} is not in UTF-8 and is read as Latin-1."]
    return text, []


def _check_fields(names: list[str], row: dict[Any, Any], line: int, what: str) -> None:
    """Refuse more fields than columns: a decimal comma, or the names of rows of R."""
    extra = [field for field in row.get(None) or () if field.strip()]
    if extra:
        raise ConfigError(
            f"Line {line} of {what} has {len(names) + len(row[None])} fields, and the first line "
            f"names {len(names)} columns",
            "Write numbers with a decimal point, and tables from R with row.names = FALSE",
        )


def _choose_columns(
    names: dict[str, str], rows: list[dict[str, str]], what: str
) -> tuple[str, str, str]:
    """The first pair of columns that is there, and that holds coordinates in any row."""
    pairs = [
        (names[first], names[second], crs)
        for first, second, crs in _COLUMNS
        if first in names and second in names
    ]
    if not pairs:
        raise ConfigError(
            f"{what} is not a readable CSV file of points: its columns are "
            f"{', '.join(names) or 'none'}; it needs x and y, easting and northing, or lon and lat",
            "Rename its columns of coordinates",
        )
    for x, y, crs in pairs:
        if any(not (_is_missing(row[x]) or _is_missing(row[y])) for row in rows):
            return x, y, crs
    return pairs[0]


def _is_missing(text: str | None) -> bool:
    return (text or "").strip().lower() in _MISSING


def _read_number(text: str | None, line: int, what: str) -> float:
    """Parse a coordinate; NaN for a missing one."""
    if _is_missing(text):
        return np.nan
    clean = (text or "").strip()
    try:
        return float(clean.replace("_", "?"))  # 1_000 is a number for Python alone
    except ValueError:
        hint = "Give numbers, or leave the field empty"
        if clean.count(",") == 1:
            hint = "Write the numbers with a decimal point: a comma may mean two things"
        raise ConfigError(f"Line {line} of {what} has no coordinates: {text!r}", hint) from None
