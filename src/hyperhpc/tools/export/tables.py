"""Tables of a run: one row per cluster, or one per point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.quantiles import GroupQuantiles
from hyperhpc.errors import ConfigError
from hyperhpc.results import RunResults
from hyperhpc.schema import NO_CLUSTER, NOT_CLUSTERED, NOT_CLUSTERED_TITLE
from hyperhpc.tools.csv_table import attribute_columns, band_columns, write_table

#: Statistics of each index in each cluster, in the order of the columns.
STATISTICS = ("mean", "q25", "median", "q75")


def write_clusters(path: Path, results: RunResults, models: Sequence[str]) -> None:
    """One row per model and cluster.

    Columns: model, cluster; class, the name of its class (only if clusters were named); pixels of
    the map, their share of all pixels with a cluster, area_m2 and area_ha (empty where the size
    of a pixel in metres is not known); mean_NAME, q25_NAME, median_NAME and q75_NAME of each index
    over these pixels (missing values left out); spectrum_pixels, the number of fitted pixels;
    mean_NM and sd_NM over these, reflectance 0-1 at each good band. Of a run with ``--where`` the
    last row of a model, cluster 254, is that of the pixels that are not clustered: it has no share
    and no spectrum.
    """
    centres = results.model["wavelength_nm"]
    area = results.area.get("pixel_area_m2")
    head = [
        "model", "cluster", *(["class"] if results.named_models else []),
        "pixels", "share", "area_m2", "area_ha",
        *(f"{what}_{name}" for name in results.index_names for what in STATISTICS),
        "spectrum_pixels",
        *band_columns("mean", centres), *band_columns("sd", centres),
    ]  # fmt: skip
    statistics = index_statistics(results, models)
    rows, n_spectrum = [], 1 + 2 * len(centres)
    for model in models:
        entry = results.cluster_entry(model)
        total, names = sum(entry["pixels"]), results.class_names(model)
        for k, pixels in enumerate(entry["pixels"]):
            m2 = None if area is None else pixels * float(area)
            size = [pixels, pixels / total if total else None, m2, m2 and m2 / 1e4]
            name = [names[k]] if results.named_models else []
            row = [
                model,
                k,
                *name,
                *size,
                *statistics[model][k].ravel().tolist(),
                entry["counts"][k],
            ]
            for spectrum in (entry["mean"][k], entry["sd"][k]):
                row += spectrum or [None] * len(centres)  # a cluster without pixels
            rows.append(row)
        if results.conditions:
            n = results.n_not_clustered
            m2 = None if area is None else n * float(area)
            name = [NOT_CLUSTERED_TITLE] if results.named_models else []
            row = [model, NOT_CLUSTERED, *name, n, None, m2, m2 and m2 / 1e4]
            rows.append([*row, *statistics[model][-1].ravel().tolist(), *[None] * n_spectrum])
    write_table(path, head, rows)


def index_statistics(results: RunResults, models: Sequence[str]) -> dict[str, np.ndarray]:
    """Each index in each cluster at full resolution, computed strip by strip.

    Exact, whatever the strips: the maps are read three times, and memory holds one strip and
    histograms of at most 12 x 2048 bins per cluster and model.

    Returns: by model: float64 (cluster, index, statistic of ``STATISTICS``), NaN where no
    pixel has a value. Of a run with ``--where`` the pixels that are not clustered come last.
    """
    n_indices = len(results.index_names)
    n_groups = {m: results.n_clusters(m) + bool(results.conditions) for m in models}
    found = {m: np.full((n, n_indices, len(STATISTICS)), np.nan) for m, n in n_groups.items()}
    for i, name in enumerate(results.index_names):
        sums = {m: np.zeros(len(found[m])) for m in models}
        quartiles = {m: GroupQuantiles(len(found[m])) for m in models}
        for number in range(GroupQuantiles.n_passes):
            for rows in results.strips():
                values = results.values(name, rows)
                has_value = np.isfinite(values)
                for m in models:
                    labels = results.labels(m, rows)
                    is_used = has_value & (labels != NO_CLUSTER)
                    used, kept = labels[is_used], values[is_used]
                    used[used == NOT_CLUSTERED] = n_groups[m] - 1
                    quartiles[m].add(kept, used)
                    if number == 0:
                        sums[m] += np.bincount(used, kept, len(found[m]))
            for m in models:
                quartiles[m].end_pass()
        for m in models:
            n = quartiles[m].n
            with np.errstate(invalid="ignore"):
                found[m][:, i, 0] = sums[m] / np.where(n, n, np.nan)
            found[m][:, i, 1:] = quartiles[m].values().T
    return found


def write_points(path: Path, results: RunResults) -> None:
    """One row per point of the run, in the order they were given.

    Columns: point (from 1); the attributes of the file of points; x, y in the scene's CRS; state
    (``ok`` or ``no geometry``); row, col of the scene; cluster_MODEL for each model, and
    class_MODEL if its clusters were named; each index by its name; fraction_GROUP with
    ``--unmix``; nm_NM, reflectance 0-1 at every band of the scene. A point outside the area of
    the maps has no clusters, indices and fractions.

    Raises ConfigError: the run was given no points.
    """
    points = results.spectra
    if not points:
        raise ConfigError(
            f"The run in {results.folder.out} was given no points",
            "Give --point X,Y or --points FILE to hyperhpc run, or use hyperhpc extract",
        )
    head = [
        "x", "y", "state", "row", "col", *(f"cluster_{name}" for name in results.model_names),
        *(f"class_{name}" for name in _named(results)),
        *results.index_names, *(f"fraction_{name}" for name in results.fraction_groups),
        *band_columns("nm", points[0]["wavelength_nm"]),
    ]  # fmt: skip
    given = [point.get("attributes", {}) for point in points]
    names, attributes = attribute_columns(given, ["point", *head])
    rows = []
    for number, point in enumerate(points, 1):
        x, y, row, col = (point[name] for name in ("x", "y", "row", "col"))
        place = [x, y, point.get("state", "ok"), row, col]
        values = _pixel_values(results, row, col)
        rows.append([number, *attributes[number - 1], *place, *values, *point["reflectance"]])
    write_table(path, ["point", *names, *head], rows)


def _named(results: RunResults) -> list[str]:
    return [model for model in results.model_names if model in results.named_models]


def _class_name(results: RunResults, model: str, label: int) -> str | None:
    if label == NOT_CLUSTERED:
        return NOT_CLUSTERED_TITLE
    return dict(enumerate(results.class_names(model))).get(label)


def _pixel_values(results: RunResults, row: int | None, col: int | None) -> list[Any]:
    """Cluster of each model and value of each index at a pixel of the scene, if there is one."""
    area = results.area
    n_values = len(results.model_names) + len(_named(results)) + len(results.index_names)
    n_values += len(results.fraction_groups)
    nothing = [None] * n_values
    if row is None or col is None:
        return nothing
    y, x = row - area["row0"], col - area["col0"]
    if not (0 <= y < results.shape[0] and 0 <= x < results.shape[1]):
        return nothing
    window = slice(y, y + 1), slice(x, x + 1)
    labels = {model: int(results.labels(model, *window)[0, 0]) for model in results.model_names}
    names = [_class_name(results, model, labels[model]) for model in _named(results)]
    maps = [results.values(name, *window) for name in results.index_names]
    maps += [results.fractions(group, *window) for group in results.fraction_groups]
    values = [float(one[0, 0]) for one in maps]
    return [
        *(None if label == NO_CLUSTER else label for label in labels.values()),
        *names,
        *(None if math.isnan(value) else value for value in values),
    ]
