"""What of a GeoPackage is checked before GDAL reads it: that all its tables have an end.

A layer may be a view, which computes its rows by any query, also by one without an end. GDAL
counts them first, and waits.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from hyperhpc.errors import ConfigError
from hyperhpc.reading import open_regular

_SIGNATURE = b"SQLite format 3\0"
#: Longest time to count the rows of all views; and after so many steps of SQLite it is looked at.
_LIMIT_S, _STEPS = 10.0, 10_000
#: Most features of a layer.
MAX_FEATURES = 5_000_000


def check_views(path: Path, what: str, layer: str | None) -> None:
    """Count the rows of the views of a GeoPackage that are read; any other file passes.

    ``what``: The option and the file, for messages.
    ``layer``: The layer to read; None for the only one.

    Raises ConfigError: a view has no end, or too many rows, or is not counted in time.
    """
    with open_regular(path) as file:
        if file.read(len(_SIGNATURE)) != _SIGNATURE:
            return
    # A damaged file is left to GDAL, whose messages are better
    with contextlib.suppress(sqlite3.DatabaseError), _connect(path) as database:
        stop = time.monotonic() + _LIMIT_S
        database.set_progress_handler(lambda: time.monotonic() > stop, _STEPS)
        views = "SELECT name FROM sqlite_master WHERE type = 'view' LIMIT 1000"
        for (name,) in database.execute(views).fetchall():
            is_list = str(name).lower().startswith("gpkg_")
            if layer is not None and str(name).lower() != layer.lower() and not is_list:
                continue
            quoted = '"' + str(name).replace('"', '""') + '"'
            query = f"SELECT count(*) FROM (SELECT 1 FROM {quoted} LIMIT {MAX_FEATURES + 1})"  # noqa: S608
            try:
                (count,) = database.execute(query).fetchone()
            except sqlite3.OperationalError:
                if time.monotonic() < stop:
                    continue  # a function of GDAL's, which SQLite alone does not know
                raise _refuse(what, name, f"was not counted within {_LIMIT_S:.0f} s") from None
            if count > MAX_FEATURES:
                raise _refuse(what, name, f"has more than {MAX_FEATURES} rows, or no end")


@contextlib.contextmanager
def _connect(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, also in a folder that cannot be written."""
    uri = path.absolute().as_uri() + "?mode=ro"
    database = sqlite3.connect(uri, uri=True)
    try:
        yield database
    finally:
        database.close()


def _refuse(what: str, name: str, why: str) -> ConfigError:
    return ConfigError(
        f"{what}: the view {name} {why}",
        "Save the features that are needed as a table in a new GeoPackage",
    )
