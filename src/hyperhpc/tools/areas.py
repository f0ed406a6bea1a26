"""Features of a file on a grid of pixels: what of them can be measured, and the pixels inside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.reading import open_regular
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.georef import describe_crs
from hyperhpc.scene.vectors import merge_polygons

#: States of a feature.
OK, PARTLY, OUTSIDE, NO_DATA, NO_PIXEL = (
    "ok", "partly outside", "outside", "no-data", "no pixel centre"
)  # fmt: skip
#: The line of names in a table of ours.
_OUR_HEAD = re.compile(
    rb"feature,(.*,)?x,y,state,(row,col,nm_|pixels,valid,(mean_|clustered,class_))"
)
_MAX_HEAD_BYTES = 2**20
#: Geometry types of shapely: several points, and those without an inside.
_MULTIPOINT, _LINES, _AREAS, _COLLECTION = 4, {1, 2, 5, 7}, (3, 6), 7


@dataclass(frozen=True)
class Extracted:
    """A table that was written.

    ``path``: The table.
    ``rows``: Number of rows, one per feature.
    ``states``: Number of features by state.
    ``notes``: What was assumed about the file.
    """

    path: Path
    rows: int
    states: Counter[str]
    notes: tuple[str, ...]

    @property
    def without(self) -> str:
        """Number of features without values by reason; empty if all have some."""
        empty = [(n, what) for what, n in self.states.items() if what not in (OK, PARTLY)]
        return ", ".join(f"{n} {what}" for n, what in empty)


def check_buffer(buffer: float | None) -> None:
    """Raise ConfigError for a distance that is not positive."""
    if buffer is not None and not 0 < buffer < np.inf:
        raise ConfigError(f"--buffer {buffer:g} is not a distance", "Give more than 0")


def buffer_in_units(buffer_m: float | None, grid: Grid) -> float | None:
    """A distance in metres in units of the CRS; without a CRS, these are taken for metres.

    Raises ConfigError: coordinates are degrees.
    """
    if buffer_m is None:
        return None
    crs = describe_crs(grid.epsg, grid.wkt)
    if crs.is_degrees:
        raise ConfigError(
            f"--buffer {buffer_m:g} is in metres, and the coordinates are degrees ({crs.label})",
            "Give polygons instead, or a scene in a projected reference system",
        )
    return buffer_m / crs.unit_m


def as_areas(geometries: np.ndarray, buffer: float | None, what: str) -> np.ndarray:
    """Geometries that have an inside, or are points; all others with a buffer.

    ``geometries``: Object array of shapely's.
    ``what``: The option and the file, for messages.

    Raises ConfigError: there are lines, or features of several points, and no buffer.
    """
    import shapely

    if buffer:
        return geometries
    areas = geometries.copy()
    areas[:] = [_as_area(one) for one in geometries]
    kinds = set(shapely.get_type_id(areas).tolist())
    if kinds & _LINES:
        raise ConfigError(f"{what} holds lines, which have no inside", "Give --buffer M")
    if _MULTIPOINT in kinds:
        raise ConfigError(
            f"{what} holds features of several points each",
            "Give --buffer M, or split them in QGIS: Multipart to singleparts",
        )
    return areas


def _as_area(geometry: Any) -> Any:
    """One area of a collection with polygons, or of parts that overlap; else as it is."""
    import shapely

    kind = shapely.get_type_id(geometry)
    if kind == _COLLECTION or (kind in _AREAS and not geometry.is_valid):
        area = merge_polygons(geometry)
        return geometry if area.is_empty else area
    return geometry


def windows_inside(
    grid: Grid, shape: tuple[int, int], geometry: Any, buffer: float, side: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Rows and columns of windows, and bool (y, x): True for pixels whose centre is inside.

    A centre on the edge of an area, or at the distance of the buffer, is inside. Windows without
    such a pixel are left out.

    ``shape``: Rows and columns of the grid.
    ``buffer``: Distance in units of the CRS.
    ``side``: Most rows and columns of a window.
    """
    import shapely

    height, width = shape
    xmin, ymin, xmax, ymax = geometry.bounds
    row0, col0 = grid.pixel_of(xmin - buffer, ymax + buffer)
    row1, col1 = grid.pixel_of(xmax + buffer, ymin - buffer)
    row0, row1 = max(row0, 0), min(row1 + 1, height)
    col0, col1 = max(col0, 0), min(col1 + 1, width)
    shapely.prepare(geometry)
    for top in range(row0 // side * side, row1, side):
        for left in range(col0 // side * side, col1, side):
            rows = slice(max(top, row0), min(top + side, row1))
            cols = slice(max(left, col0), min(left + side, col1))
            xs, ys = np.meshgrid(
                grid.x_centres(cols.start, cols.stop), grid.y_centres(rows.start, rows.stop)
            )
            is_in = (
                shapely.dwithin(geometry, shapely.points(xs, ys), buffer)
                if buffer
                else shapely.intersects_xy(geometry, xs, ys)
            )
            if is_in.any():
                yield rows, cols, is_in


def state_of(scene_box: Any, area: Any, pixels: int, valid: int) -> str:
    """State of an area with so many pixels inside, and so many of them with data.

    ``scene_box``: Outer edges of all pixels.
    ``area``: With its buffer.
    """
    if not pixels:
        return NO_PIXEL if scene_box.intersects(area) else OUTSIDE
    if not valid:
        return NO_DATA
    return OK if scene_box.contains(area) else PARTLY


def name_for_earlier(dest: Path, source: Path | None) -> Path | None:
    """A free name for the table of an earlier call; None if ``dest`` is none, or is the source."""
    if not dest.is_file() or (source and source.exists() and source.samefile(dest)):
        return None
    with open_regular(dest) as file:
        head = file.read(_MAX_HEAD_BYTES)
    if not _OUR_HEAD.match(head):
        return None
    number = 1
    while (name := dest.with_name(f"{dest.stem}.old-{number}{dest.suffix}")).exists():
        number += 1
    return name
