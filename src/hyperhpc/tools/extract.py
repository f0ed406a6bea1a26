"""Spectra at the points, or of the polygons, of a file, as a table."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.spectra import Moments
from hyperhpc.compute.selection import reflectance_of, select_bands
from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.vectors import Features, read_features, reproject_to_scene

# Tables as CSV, in one form that R's ``read.csv`` and spreadsheets read: wide, a header
# line, points as decimal signs, empty where there is no value.


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of as many values as the head has; None and NaN become empty."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for row in rows:
            assert len(row) == len(head)
            writer.writerow([_cell(value) for value in row])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):  # numpy's float64 is one; float32 is not, and is not given
        return "" if math.isnan(value) else f"{value:.12g}"
    return str(value)


def band_columns(prefix: str, wavelength_nm: Iterable[float]) -> list[str]:
    """Names of columns by band centres, nm: ``mean_857.307``; R takes them as they are.

    Three decimals, or as many as keep the names of different centres apart.
    """
    centres = list(wavelength_nm)
    for decimals in (3, 6, 9):
        names = [f"{prefix}_{nm:.{decimals}f}" for nm in centres]
        if len(set(names)) == len(names):
            break
    return names


OK, PARTLY, OUTSIDE, NO_DATA, NO_PIXEL, NOTHING = (
    "ok", "partly outside", "outside", "no-data", "no pixel centre", "no geometry",
)  # fmt: skip
#: Sides of the windows that are read, in pixels: those of the stored chunks between these.
_LEAST, _MOST = 64, 256
#: Pixels that are turned into reflectance at once.
_PIXELS = 16384


@dataclass(frozen=True)
class Extracted:
    """What came out.

    Attributes
    ----------
    path
        The table.
    rows
        One per feature.
    states
        How many are in each of the states, those without values included.
    """

    path: Path
    rows: int
    states: Counter[str]

    @property
    def without(self) -> str:
        """How many have no values and why; empty if all have some."""
        empty = [(n, what) for what, n in self.states.items() if what not in (OK, PARTLY)]
        return ", ".join(f"{n} {what}" for n, what in empty)


def extract(
    scene_path: Path,
    options: SceneOptions | None,
    file: Path,
    dest: Path,
    buffer: float | None = None,
) -> Extracted:
    """Write the spectra of the features of a file, one row each, in their order.

    Points without a buffer: ``nm_NM``, the reflectance of the pixel that holds the point,
    at every band. Otherwise ``pixels``, whose centres lie inside the polygon or within the
    buffer, ``valid`` of them without no-data in a good band, and of those ``mean_NM``,
    ``sd_NM`` (divided by n, as everywhere here) and ``n_NM``. A feature outside the scene
    or on no-data has empty values; its ``state`` says why.

    Parameters
    ----------
    file
        GeoJSON, GeoPackage, or CSV of points.
    dest
        The table; it must not exist.
    buffer
        Distance in units of the scene's CRS.

    Raises
    ------
    ConfigError
        The file cannot be read or placed, holds nothing or only lines, or the buffer is
        negative.
    ResourceError
        The table cannot be written.
    """
    import shapely

    if dest.suffix.lower() != ".csv":
        raise ConfigError(f"{dest} is no name of a table", "name a file that ends in .csv")
    if buffer is not None and not 0 < buffer < np.inf:
        raise ConfigError(f"--buffer {buffer:g} is no distance", "give more than 0")
    what = f"--points {file}"
    features = read_features(file, "--points")
    if not len(features.geometries):
        raise ConfigError(f"{what} holds no feature", "see what is in the file")
    kinds = set(shapely.get_type_id(features.geometries).tolist())
    if kinds & {1, 2, 5, 7} and not buffer:  # lines, rings, collections
        raise ConfigError(f"{what} holds lines, which have no inside", "give --buffer M")
    scene = open_scene(scene_path, options=options)
    places = reproject_to_scene(features.geometries, features.crs, scene, what)
    with atomic_outputs(dest) as folder:
        states: Counter[str] = Counter()
        head, rows = (
            _of_points(scene, places)
            if buffer is None and kinds <= {-1, 0}
            else _of_areas(scene, places, buffer or 0.0)
        )
        names, values = _attributes(features, head)
        write_table(
            folder / dest.name,
            ["feature", *names, *head],
            ([i + 1, *values[i], *row] for i, row in enumerate(_counted(rows, states))),
        )
    return Extracted(dest, len(places), states)


def _counted(rows: Iterator[list[Any]], states: Counter[str]) -> Iterator[list[Any]]:
    for row in rows:
        states[row[2]] += 1
        yield row


def _attributes(features: Features, head: list[str]) -> tuple[list[str], list[list[Any]]]:
    """Columns of the file; one that is called as one of ours gets ``file_`` before it."""
    names = list(dict.fromkeys(name for values in features.attributes for name in values))
    taken = {"feature", *head}
    columns = [f"file_{name}" if name in taken else name for name in names]
    return columns, [[values.get(name) for name in names] for values in features.attributes]


def _of_points(scene: Scene, places: np.ndarray) -> tuple[list[str], Iterator[list[Any]]]:
    """Pixels that hold points, window by window; a row for each point."""
    import shapely

    height, width, n_bands = scene.shape
    x, y = shapely.get_x(places), shapely.get_y(places)  # NaN for none
    grid = scene.grid
    rows = np.floor((grid.ymax - y) / grid.py)
    cols = np.floor((x - grid.xmin) / grid.px)
    is_in = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    good, to_values = select_bands(scene).bands, reflectance_of(scene)
    spectra = np.full((len(places), n_bands), np.nan)
    side = _side(scene)
    blocks: dict[tuple[int, int], list[int]] = {}
    for i in np.flatnonzero(is_in):
        blocks.setdefault((int(rows[i]) // side, int(cols[i]) // side), []).append(int(i))
    for _, here in sorted(blocks.items()):
        r, c = rows[here].astype(int), cols[here].astype(int)
        dn = scene.read(slice(r.min(), r.max() + 1), slice(c.min(), c.max() + 1))
        spectra[here] = to_values(dn[r - r.min(), c - c.min()])
    is_bad = np.isnan(spectra[:, good]).any(axis=1)
    spectra[is_bad] = np.nan

    def made() -> Iterator[list[Any]]:
        for i, place in enumerate(places):
            state = NOTHING if np.isnan(x[i]) else OUTSIDE
            if is_in[i]:
                state = NO_DATA if is_bad[i] else OK
            where = [int(rows[i]), int(cols[i])] if is_in[i] else [None, None]
            point = [None, None] if place is None else [float(x[i]), float(y[i])]
            yield [*point, state, *where, *spectra[i].tolist()]

    return ["x", "y", "state", "row", "col", *band_columns("nm", scene.wavelength_nm)], made()


def _of_areas(
    scene: Scene, places: np.ndarray, buffer: float
) -> tuple[list[str], Iterator[list[Any]]]:
    """Moments of the pixels in each place; x and y are those of its centroid."""
    import shapely

    nm = scene.wavelength_nm
    columns = [name for kind in ("mean", "sd", "n") for name in band_columns(kind, nm)]
    whole = shapely.box(*scene.bounds)

    def made() -> Iterator[list[Any]]:
        for place in places:
            if place is None or place.is_empty:
                yield [None, None, NOTHING, 0, 0, *[None] * len(columns)]
                continue
            pixels, moments = _measure(scene, place, buffer)
            reach = place.buffer(buffer) if buffer else place
            state = OK if whole.contains(reach) else PARTLY
            if not pixels:
                state = NO_PIXEL if whole.intersects(reach) else OUTSIDE
            elif not moments.count:
                state = NO_DATA
            centre = place.centroid
            yield [centre.x, centre.y, state, pixels, moments.count, *moments.columns()]

    return ["x", "y", "state", "pixels", "valid", *columns], made()


def _measure(scene: Scene, place: Any, buffer: float) -> tuple[int, Moments]:
    """Number of pixels in one place, and the moments of those that are valid."""
    import shapely

    good, to_values = select_bands(scene).bands, reflectance_of(scene)
    height, width, n_bands = scene.shape
    grid, side = scene.grid, _side(scene)
    xmin, ymin, xmax, ymax = place.bounds
    row0, col0 = grid.pixel_of(xmin - buffer, ymax + buffer)
    row1, col1 = grid.pixel_of(xmax + buffer, ymin - buffer)
    row0, row1 = max(row0, 0), min(row1 + 1, height)
    col0, col1 = max(col0, 0), min(col1 + 1, width)
    shapely.prepare(place)
    pixels, moments = 0, Moments(n_bands)
    for top in range(row0 // side * side, row1, side):
        for left in range(col0 // side * side, col1, side):
            rows = slice(max(top, row0), min(top + side, row1))
            cols = slice(max(left, col0), min(left + side, col1))
            xs, ys = np.meshgrid(
                grid.x_centres(cols.start, cols.stop), grid.y_centres(rows.start, rows.stop)
            )
            is_in = (
                shapely.dwithin(place, shapely.points(xs, ys), buffer)
                if buffer
                else shapely.intersects_xy(place, xs, ys)
            )
            if not is_in.any():
                continue
            pixels += int(is_in.sum())
            picked = scene.read(rows, cols)[is_in]
            for start in range(0, len(picked), _PIXELS):
                values = to_values(picked[start : start + _PIXELS])
                moments.add(values[~np.isnan(values[:, good]).any(axis=1)])
    return pixels, moments


def _side(scene: Scene) -> int:
    """Rows and columns of a window: those of chunks, if that is bearable."""
    return int(np.clip(max(scene.chunks[:2]), _LEAST, _MOST))
