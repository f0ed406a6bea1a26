"""Indices and classes of a run in the polygons, or at the points, of a file, one row each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.compute.selection import NO_GEOMETRY
from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs
from hyperhpc.results import RunResults, open_results
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.points import GivenPoints, place_features, split_layer
from hyperhpc.scene.vectors.write import write_layer
from hyperhpc.schema import NO_CLUSTER, UNMIXING_RMSE
from hyperhpc.tools.areas import (
    NO_DATA,
    OK,
    OUTSIDE,
    Extracted,
    as_areas,
    buffer_in_units,
    check_buffer,
    name_for_earlier,
    state_of,
    windows_inside,
)
from hyperhpc.tools.csv_table import PARQUET, attribute_columns, write_table

#: Statistics of an index in a plot, in the order of the columns.
STATISTICS = ("n", "mean", "sd", "min", "max", "median")
ENDINGS = (".csv", PARQUET, ".gpkg")
#: Rows and columns of a window that is looked at at once.
_SIDE = 512
#: Columns of a feature itself, before those of the maps.
_BEFORE_VALUES = ("x", "y", "state", "pixels", "valid", "clustered")
#: Names that GDAL gives to columns of its own.
_OF_GDAL = ("fid", "geom")

#: Rows and columns of a window, and bool (y, x) of the pixels that count.
Window = tuple[slice, slice, np.ndarray]


@dataclass(frozen=True)
class _Place:
    """What has a place on the map, as scenes have."""

    path: str
    grid: Grid
    shape: tuple[int, int]

    @property
    def bounds(self) -> list[float]:
        """[xmin, ymin, xmax, ymax] of all pixels."""
        return self.grid.bounds((0, self.shape[0]), (0, self.shape[1]))


def extract_from_run(
    out: Path, options: SceneOptions | None, given: GivenPoints, dest: Path, buffer: float | None
) -> Extracted:
    """Write statistics of the maps of a finished run at features, one row each, in their order.

    Columns: feature; the attributes of the file; x, y (of the centroid), state; pixels, those whose
    centre is inside; valid, those with data; clustered, those of them that have a cluster, which
    are fewer under ``--where``; for each model class_MODEL, the class of most of them, and
    share_MODEL_NAME, the share of each class among the clustered pixels; for each index n_NAME
    (pixels with a value), mean_, sd_ (divided by n), min_, max_ and median_; the same for
    fraction_GROUP of each group of endmembers, and for unmixing_rmse. A point without a buffer is
    the pixel that holds it. A feature without a valid pixel has empty values; its ``state`` says
    why.

    Memory: the values of one index in the largest feature, and a byte for each of its pixels.

    ``dest``: Its ending is one of :data:`ENDINGS`; a GeoPackage has the geometries too, in the CRS
        of the run. A CSV that an earlier call has written there gets another name
        (``NAME.old-1.csv``); any other file is refused.
    ``buffer``: Distance in metres.

    Raises ConfigError: the run or the file cannot be read, or the file cannot be placed, or holds
    no feature or only lines; options of scenes are given; IncompleteRunError: the run is not
    finished; ResourceError: the table cannot be written.
    """
    kind = dest.suffix.lower()
    if kind not in ENDINGS:
        raise ConfigError(
            f"{dest} does not end in {', '.join(ENDINGS)}", "Name a file that ends in .csv"
        )
    check_buffer(buffer)
    options, given = split_layer(options, given)
    if words := options.as_words():
        raise ConfigError(
            f"{out} is a run, which is not read with {' '.join(words)}",
            "Leave it out, or give the scene instead of the run",
        )
    results = open_results(out, complete=True)
    place = _Place(str(out), results.grid, results.shape)
    buffer = buffer_in_units(buffer, results.grid)
    features = place_features(place, given)
    what = f"--points {given.file}"
    geometries = as_areas(features.geometries, buffer, what)
    kept = name_for_earlier(dest, given.file) if kind == ".csv" else None
    with atomic_outputs(dest, keep_as=kept) as folder:
        head = _head(results)
        taken = ["feature", *head, *(_OF_GDAL if kind == ".gpkg" else ())]
        names, values = attribute_columns(features.attributes, taken)
        states: Counter[str] = Counter()

        def all_rows() -> Iterator[list[Any]]:
            for i, geometry in enumerate(geometries):
                row = _row(results, place, geometry, buffer or 0.0)
                states[row[2]] += 1
                yield [i + 1, *values[i], *row]

        columns, path = ["feature", *names, *head], folder / dest.name
        if kind == ".gpkg":
            _write_features(path, features.geometries, columns, all_rows(), results.grid.wkt)
        else:
            write_table(path, columns, all_rows())
    notes = list(features.notes)
    if kept:
        notes.append(f"{dest.name} of an earlier call is now called {kept.name}.")
    if OUTSIDE in states and set(states) <= {OUTSIDE, NO_GEOMETRY}:
        bounds = " ".join(f"{value:.10g}" for value in place.bounds)
        notes.append(f"All features lie outside the run, whose bounds are {bounds}.")
    return Extracted(dest, len(geometries), states, tuple(notes))


def _head(results: RunResults) -> list[str]:
    shares = [
        name
        for model in results.model_names
        for name in (
            f"class_{model}",
            *(f"share_{model}_{one.name}" for one in results.classes(model)),
        )
    ]
    columns = [f"{what}_{name}" for name in _maps(results) for what in STATISTICS]
    return [*_BEFORE_VALUES, *shares, *columns]


def _maps(results: RunResults) -> dict[str, Callable[[slice, slice], np.ndarray]]:
    """What statistics are made of, by the names of their columns."""
    maps: dict[str, Callable[[slice, slice], np.ndarray]] = {
        name: partial(results.values, name) for name in results.index_names
    }
    if results.endmember_names:
        for group in results.fraction_groups:
            maps[f"fraction_{group}"] = partial(results.fractions, group)
        maps[UNMIXING_RMSE.name] = results.unmixing_rmse
    return maps


def _row(results: RunResults, place: _Place, geometry: Any, buffer: float) -> list[Any]:
    import shapely

    n_empty = len(_head(results)) - len(_BEFORE_VALUES)
    if geometry is None or geometry.is_empty:
        return [None, None, NO_GEOMETRY, 0, 0, 0, *[None] * n_empty]
    windows = list(_windows(place, geometry, buffer))
    pixels = sum(int(is_in.sum()) for _, _, is_in in windows)
    valid, clustered, classes = _class_values(results, windows)
    if geometry.geom_type == "Point" and not buffer:
        state = OUTSIDE if not pixels else OK if valid else NO_DATA
    else:
        area = geometry.buffer(buffer) if buffer else geometry
        state = state_of(shapely.box(*place.bounds), area, pixels, valid)
    centre = geometry.centroid
    row = [centre.x, centre.y, state, pixels, valid, clustered]
    if not valid:
        return row + [None] * n_empty
    row += classes
    for read in _maps(results).values():
        values = _gather(windows, read)
        row += _statistics(values[np.isfinite(values)].astype(np.float64))
    return row


def _windows(place: _Place, geometry: Any, buffer: float) -> Iterator[Window]:
    """Windows with the pixels inside a feature; a point without a buffer is one pixel."""
    if geometry.geom_type != "Point" or buffer:
        yield from windows_inside(place.grid, place.shape, geometry, buffer, _SIDE)
        return
    row, col = place.grid.pixel_of(geometry.x, geometry.y)
    if 0 <= row < place.shape[0] and 0 <= col < place.shape[1]:
        yield slice(row, row + 1), slice(col, col + 1), np.ones((1, 1), bool)


def _gather(windows: Sequence[Window], read: Any) -> np.ndarray:
    """Values of a map at the pixels of windows, one after the other."""
    return np.concatenate([read(rows, cols)[is_in] for rows, cols, is_in in windows])


def _class_values(results: RunResults, windows: Sequence[Window]) -> tuple[int, int, list[Any]]:
    """Pixels with data, and with a cluster; for each model the class of most pixels, and shares."""
    valid, total, found = 0, 0, []
    for model in results.model_names if windows else ():
        labels = _gather(windows, lambda r, c, m=model: results.class_map(m, r, c))
        valid = int((labels != NO_CLUSTER).sum())
        classes = results.classes(model)
        counts = np.bincount(labels, minlength=256)[[one.number for one in classes]]
        total = int(counts.sum())
        found.append(classes[int(counts.argmax())].name if total else None)
        found += [n / total if total else None for n in counts.tolist()]
    return valid, total, found


def _statistics(values: np.ndarray) -> list[Any]:
    """:data:`STATISTICS` of values (pixel,) float64."""
    if not values.size:
        return [0, *[None] * (len(STATISTICS) - 1)]
    found = (values.mean(), values.std(), values.min(), values.max(), np.median(values))
    return [values.size, *map(float, found)]


def _write_features(
    path: Path, geometries: np.ndarray, names: list[str], rows: Iterator[list[Any]], wkt: str | None
) -> None:
    """Write rows with their geometries as the layer ``plots``."""
    columns: list[list[Any]] = [[] for _ in names]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    kinds = {one.geom_type for one in geometries if one is not None}
    kind = kinds.pop() if len(kinds) == 1 else "Unknown"
    fields = dict(zip(_distinct(names), map(_typed, columns), strict=True))
    write_layer(path, "plots", geometries, fields, kind, wkt, append=False)


def _distinct(names: list[str]) -> list[str]:
    """Names of columns that differ in more than case, as SQLite needs them."""
    found: list[str] = []
    for name in names:
        number, other = 2, name
        while other.lower() in {one.lower() for one in found}:
            number, other = number + 1, f"{name}_{number}"
        found.append(other)
    return found


def _typed(values: list[Any]) -> np.ndarray:
    """A column of whole numbers, of numbers (NaN is missing), or of text (None is missing)."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int} and None not in values:
        return np.array(values, dtype=np.int64)
    if kinds and kinds <= {int, float}:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return np.array([None if value is None else str(value) for value in values], dtype=object)
