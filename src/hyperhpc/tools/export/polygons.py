"""Maps of classes as polygons in a GeoPackage: a layer per model, and its style for QGIS."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from hyperhpc.errors import ConfigError
from hyperhpc.report.style import model_colours
from hyperhpc.results import ClusterClass, RunResults
from hyperhpc.scene.vectors.geopackage import MAX_FEATURES
from hyperhpc.scene.vectors.write import write_layer
from hyperhpc.tools.export.regions import (
    CONNECTIVITY,
    Regions,
    mean_indices,
    merge_small_regions,
    number_regions,
    read_class_map,
    smallest_region,
)
from hyperhpc.tools.export.sidecars import make_environment

#: Polygons that are written at once.
_BATCH = 50_000
#: The table in which QGIS looks for styles, and its column for polygons of GDAL.
_STYLES, _GEOMETRY = "layer_styles", "geom"


def write_polygons(
    path: Path,
    results: RunResults,
    models: Sequence[str],
    min_area_m2: float | None,
    notify: Callable[[str], object],
) -> None:
    """Write the regions of connected pixels of one class as polygons, in the CRS of the run.

    Fields: class, the number of the class; name; color (#rrggbb); pixels; area_m2 and area_ha
    (missing where the size of a pixel in metres is not known); mean_NAME of each index over the
    pixels that have a value. Edges follow those of pixels. Pixels in no class are in no polygon.

    ``min_area_m2``: Regions that are smaller become part of the largest region next to them.
    ``notify``: Called with what remains smaller.

    Raises ConfigError: there are more than ``MAX_FEATURES`` regions, or --min-area cannot be used.
    """
    styles = []
    for model in models:
        classes, values = results.classes(model), read_class_map(results, model)
        min_pixels = 1
        if min_area_m2 is not None:
            min_pixels = smallest_region(results, min_area_m2)
            values = merge_small_regions(values, classes, min_pixels)
        regions = number_regions(values, classes)
        _check_count(results, model, regions.count)
        if few := np.count_nonzero(regions.pixels[1:] < min_pixels):
            notify(
                f"note: {few} of {regions.count} polygons of {model} are smaller than "
                f"{min_area_m2:g} m2: no larger one is next to them"
            )
        colours = [to_hex(colour) for colour in model_colours(results, model)]
        known = {one.number: (one.name, colours[one.number]) for one in classes}
        _write_model(path, results, model, regions, known)
        styles.append((model, _make_style(classes, colours)))
    _write_styles(path, styles)


def _check_count(results: RunResults, model: str, count: int) -> None:
    if count > MAX_FEATURES:
        raise ConfigError(
            f"The map of {model} has {count} regions; at most {MAX_FEATURES} polygons are written",
            "Merge small ones: --min-area 100, in m2; or merge clusters: "
            f"hyperhpc classes {shlex.quote(str(results.folder.out))}",
        )


def _write_model(
    path: Path, results: RunResults, model: str, regions: Regions, known: dict[int, tuple[str, str]]
) -> None:
    means, pixel_area = mean_indices(results, regions), results.area.get("pixel_area_m2")
    m2 = regions.pixels * (np.nan if pixel_area is None else float(pixel_area))
    shapes = _polygons(results, regions)
    batch, is_first = list(islice(shapes, _BATCH)), True
    while batch or is_first:
        found = np.array([number for number, _ in batch], dtype=np.int64)
        kinds = regions.classes[found]
        fields = {
            "class": kinds.astype(np.int32),
            "name": np.array([known[k][0] for k in kinds.tolist()], dtype=object),
            "color": np.array([known[k][1] for k in kinds.tolist()], dtype=object),
            "pixels": regions.pixels[found],
            "area_m2": m2[found],
            "area_ha": m2[found] / 1e4,
            **{f"mean_{name}": values[found] for name, values in means.items()},
        }
        polygons = np.array([polygon for _, polygon in batch], dtype=object)
        write_layer(path, model, polygons, fields, "Polygon", results.grid.wkt, append=not is_first)
        batch, is_first = list(islice(shapes, _BATCH)), False


def _polygons(results: RunResults, regions: Regions) -> Iterator[tuple[int, Any]]:
    """Number and polygon of each region (GDAL's polygonize, by rasterio)."""
    import shapely
    from rasterio.features import shapes
    from rasterio.transform import Affine

    grid = results.grid
    transform = Affine(grid.px, 0, grid.xmin, 0, -grid.py, grid.ymax)
    found = shapes(regions.numbers, regions.numbers > 0, CONNECTIVITY, transform)
    for shape, number in found:
        shell, *holes = shape["coordinates"]
        yield int(number), shapely.Polygon(shell, holes)


def _make_style(classes: Sequence[ClusterClass], colours: Sequence[str]) -> str:
    """A style of QGIS that colours polygons by their name."""
    entries = [
        (one.name, ",".join(str(int(colours[one.number][i : i + 2], 16)) for i in (1, 3, 5)))
        for one in classes
    ]
    return make_environment().get_template("polygons.qml.j2").render(entries=entries)


def _write_styles(path: Path, styles: Sequence[tuple[str, str]]) -> None:
    """The table of styles that QGIS reads as it opens a layer."""
    n = len(styles)
    columns: dict[str, list[str]] = {
        "f_table_catalog": [""] * n, "f_table_schema": [""] * n,
        "f_table_name": [model for model, _ in styles], "f_geometry_column": [_GEOMETRY] * n,
        "styleName": ["classes"] * n, "styleQML": [text for _, text in styles],
        "styleSLD": [""] * n, "description": ["Written by hyperhpc"] * n, "owner": [""] * n,
    }  # fmt: skip
    fields = {name: np.array(values, dtype=object) for name, values in columns.items()}
    fields["useAsDefault"] = np.ones(n, dtype=bool)
    fields["update_time"] = np.full(n, np.datetime64("now", "ms"))
    write_layer(path, _STYLES, None, fields, None, None, append=False)
