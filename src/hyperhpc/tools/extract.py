"""Spectra at the points, or in the polygons, of a file, written as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.spectra import SpectraMoments
from hyperhpc.compute.selection import NO_GEOMETRY, reflectance_converter, select_bands
from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.point_table import is_point_table
from hyperhpc.scene.points import (
    MISSING,
    POINT,
    GivenPoints,
    is_inside_as_degrees,
    place_features,
    split_layer,
)
from hyperhpc.scene.probe import is_bright, note_assumptions
from hyperhpc.tools.areas import (
    NO_DATA,
    OK,
    OUTSIDE,
    PARTLY,
    Extracted,
    as_areas,
    buffer_in_units,
    check_buffer,
    name_for_earlier,
    state_of,
    windows_inside,
)
from hyperhpc.tools.csv_table import attribute_columns, band_columns, write_table

#: Limits of the side of a window that is read at once, in pixels.
_MIN_SIDE, _MAX_SIDE = 64, 256
#: Pixels that are turned into reflectance at once.
_PIXELS_AT_ONCE = 16384


def extract(
    scene_path: Path,
    options: SceneOptions | None,
    given: GivenPoints,
    dest: Path,
    buffer: float | None = None,
) -> Extracted:
    """Write the spectra of points, and of the features of a file, one row each, in their order.

    Points without a buffer have ``nm_NM``: the reflectance (0-1) of the pixel that holds the
    point, at every band. Other features have ``pixels``, the number of pixels whose centres
    lie inside the polygon or within the buffer; ``valid``, those without no-data in a good
    band; and of these ``mean_NM``, ``sd_NM`` (divided by n) and ``n_NM``. A feature outside
    the scene or on no-data has empty values; its ``state`` says why.

    ``given``: Its file is any vector file of :mod:`hyperhpc.scene.vectors`, or a CSV of points;
        the layer of ``options`` is one of this file.
    ``dest``: The table. One that an earlier call has written there gets another name
        (``NAME.old-1.csv``); any other file is refused.
    ``buffer``: Distance in metres.

    Raises ConfigError: the file cannot be read or placed, holds no feature or only lines, or
    the buffer is not positive; ResourceError: the table cannot be written.
    """
    import shapely

    if dest.suffix.lower() != ".csv":
        raise ConfigError(f"{dest} does not end in .csv", "Name a file that ends in .csv")
    check_buffer(buffer)
    what = f"--points {given.file}"
    options, given = split_layer(options, given)
    scene = open_scene(scene_path, options=options)
    buffer = buffer_in_units(buffer, scene.grid)
    features = place_features(scene, given)
    geometries = as_areas(features.geometries, buffer, what)
    kinds = set(shapely.get_type_id(geometries).tolist())
    kept = name_for_earlier(dest, given.file)
    with atomic_outputs(dest, keep_as=kept) as folder:
        if buffer is None and kinds <= {MISSING, POINT}:
            head, rows = _point_rows(scene, geometries)
        else:
            head, rows = _area_rows(scene, geometries, buffer or 0.0)
        names, values = attribute_columns(features.attributes, ["feature", *head])
        states: Counter[str] = Counter()
        medians: list[float] = []
        bright = np.flatnonzero(is_bright(scene.wavelength_nm))

        def all_rows() -> Iterator[list[Any]]:
            for i, row in enumerate(rows):
                states[row[2]] += 1
                if row[2] in (OK, PARTLY):
                    known = [row[5 + band] for band in bright if np.isfinite(row[5 + band])]
                    medians.append(float(np.median(known)) if known else np.nan)
                yield [i + 1, *values[i], *row]

        write_table(folder / dest.name, ["feature", *names, *head], all_rows())
    notes = [*scene.warnings, *features.notes, *note_assumptions(scene, medians)]
    is_table = given.file is None or is_point_table(given.file)
    if set(states) == {OUTSIDE} and is_table and given.crs is None:
        place = geometries[0].centroid
        if is_inside_as_degrees(scene, place.x, place.y):
            notes.append(
                "All points lie outside the scene; as longitude and latitude they lie inside: "
                "give --point-crs EPSG:4326."
            )
    if kept:
        notes.append(f"{dest.name} of an earlier call is now called {kept.name}.")
    return Extracted(dest, len(geometries), states, tuple(notes))


def _point_rows(scene: Scene, points: np.ndarray) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and rows of points; the pixels that hold them are read window by window."""
    import shapely

    height, width, n_bands = scene.shape
    x, y = shapely.get_x(points), shapely.get_y(points)  # NaN for a missing point
    grid = scene.grid
    rows = np.floor((grid.ymax - y) / grid.py)
    cols = np.floor((x - grid.xmin) / grid.px)
    is_in = (rows >= 0) & (rows < height) & (cols >= 0) & (cols < width)
    good, to_values = select_bands(scene).bands, reflectance_converter(scene)
    spectra = np.full((len(points), n_bands), np.nan)
    side = _window_side(scene)
    windows: dict[tuple[int, int], list[int]] = {}
    for i in np.flatnonzero(is_in):
        windows.setdefault((int(rows[i]) // side, int(cols[i]) // side), []).append(int(i))
    for _, inside in sorted(windows.items()):
        r, c = rows[inside].astype(int), cols[inside].astype(int)
        dn = scene.read(slice(r.min(), r.max() + 1), slice(c.min(), c.max() + 1))
        spectra[inside] = to_values(dn[r - r.min(), c - c.min()])
    is_nodata = np.isnan(spectra[:, good]).any(axis=1)
    spectra[is_nodata] = np.nan

    def make_rows() -> Iterator[list[Any]]:
        for i, point in enumerate(points):
            state = NO_GEOMETRY if np.isnan(x[i]) else OUTSIDE
            if is_in[i]:
                state = NO_DATA if is_nodata[i] else OK
            pixel = [int(rows[i]), int(cols[i])] if is_in[i] else [None, None]
            position = [None, None] if point is None else [float(x[i]), float(y[i])]
            yield [*position, state, *pixel, *spectra[i].tolist()]

    head = ["x", "y", "state", "row", "col", *band_columns("nm", scene.wavelength_nm)]
    return head, make_rows()


def _area_rows(
    scene: Scene, geometries: np.ndarray, buffer: float
) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and rows of areas: moments of their pixels; x and y are those of the centroid."""
    import shapely

    nm = scene.wavelength_nm
    columns = [name for kind in ("mean", "sd", "n") for name in band_columns(kind, nm)]
    scene_box = shapely.box(*scene.bounds)

    def make_rows() -> Iterator[list[Any]]:
        for geometry in geometries:
            if geometry is None or geometry.is_empty:
                yield [None, None, NO_GEOMETRY, 0, 0, *[None] * len(columns)]
                continue
            pixels, moments = _measure_area(scene, geometry, buffer)
            area = geometry.buffer(buffer) if buffer else geometry
            state = state_of(scene_box, area, pixels, moments.count)
            centre = geometry.centroid
            yield [centre.x, centre.y, state, pixels, moments.count, *moments.columns()]

    return ["x", "y", "state", "pixels", "valid", *columns], make_rows()


def _measure_area(scene: Scene, geometry: Any, buffer: float) -> tuple[int, SpectraMoments]:
    """Number of pixels in one area, and the moments of the valid ones."""
    good, to_values = select_bands(scene).bands, reflectance_converter(scene)
    height, width, n_bands = scene.shape
    pixels, moments = 0, SpectraMoments(n_bands)
    windows = windows_inside(scene.grid, (height, width), geometry, buffer, _window_side(scene))
    for rows, cols, is_in in windows:
        pixels += int(is_in.sum())
        dn = scene.read(rows, cols)[is_in]
        for start in range(0, len(dn), _PIXELS_AT_ONCE):
            values = to_values(dn[start : start + _PIXELS_AT_ONCE])
            moments.add(values[~np.isnan(values[:, good]).any(axis=1)])
    return pixels, moments


def _window_side(scene: Scene) -> int:
    """Rows and columns of a window: the side of the chunks, within limits."""
    return int(np.clip(max(scene.chunks[:2]), _MIN_SIDE, _MAX_SIDE))
