"""The maps of a run that can be exported, each a band of a GeoTIFF."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.results import ClusterClass, RunResults
from hyperhpc.schema import CLUSTER, FRACTION, INDICES, UNMIXING_RMSE, Variable
from hyperhpc.tools.export.regions import merge_small_regions, read_class_map, smallest_region

#: Names of all maps of a kind at once.
CLUSTERS, ALL_INDICES, FRACTIONS = "clusters", "indices", "fractions"
#: Name of the table of points; not a map.
POINTS = "points"


@dataclass(frozen=True)
class Band:
    """The map of a model, or of an index, which has no classes.

    ``variable``: Its entry in the data dictionary: dtype, missing value, unit.
    ``tags``: Metadata of the band in the GeoTIFF.
    ``read``: Reads rows as values (y, x).
    ``classes``: Classes of a model; empty for an index.
    ``pixels``: Pixels of each class by number, if they are not those of clusters.json.
    """

    name: str
    variable: Variable
    tags: dict[str, str]
    read: Callable[[slice], np.ndarray]
    classes: Sequence[ClusterClass] = ()
    pixels: dict[int, int] | None = None


def choose_bands(results: RunResults, what: str) -> list[Band]:
    """All maps of a kind, or the map of a name, in the order of the results.

    Raises ConfigError: there is no map of that name.
    """
    names = [*results.model_names, *results.index_names]
    groups = {CLUSTERS: results.model_names, ALL_INDICES: results.index_names}
    chosen = groups.get(what, [name for name in names if name == what])
    mixtures = _fraction_names(results)
    if not chosen and mixtures:
        if what == FRACTIONS:
            return [_fraction_band(results, name) for name in results.fraction_groups]
        if what in mixtures:
            return [_fraction_band(results, what)]
    if not chosen:
        known = " ".join([CLUSTERS, ALL_INDICES, *names, *map(shlex.quote, mixtures)])
        raise ConfigError(
            f"The run in {results.folder.out} has no map {what!r}",
            f"--what takes {known}, and {POINTS} for a table",
        )
    return [_make_band(results, name) for name in chosen]


def _make_band(results: RunResults, name: str) -> Band:
    if name in results.model_names:
        tags = {"long_name": f"Clusters, {name}", "description": CLUSTER.about}
        classes = results.classes(name)
        if any(one.is_named for one in classes):
            names = (f"{one.number} = {one.name}" for one in classes)
            tags = {"long_name": f"Classes, {name}", "description": "; ".join(names)}
        return Band(name, CLUSTER, tags, lambda rows: results.class_map(name, rows), classes)
    entry = index_entry(results, name)
    keys = ("title", "long_name", "formula", "citation", "doi")
    tags = {key: str(entry[key]) for key in keys if entry.get(key)}
    return Band(name, INDICES, tags, lambda rows: results.values(name, rows))


def _fraction_names(results: RunResults) -> list[str]:
    """What names maps of fractions: all groups, the residual, a group, an endmember."""
    if not results.endmember_names:
        return []
    names = [*results.fraction_groups, *results.endmember_names]
    return list(dict.fromkeys([FRACTIONS, UNMIXING_RMSE.name, *names]))


def _fraction_band(results: RunResults, name: str) -> Band:
    """The fraction of a group or an endmember, or the residual of all."""
    if name == UNMIXING_RMSE.name:
        tags = {"long_name": "Residual of the fractions", "description": UNMIXING_RMSE.about}
        return Band(name, UNMIXING_RMSE, tags, results.unmixing_rmse)
    members = ", ".join(results.endmember_names[layer] for layer in results.fraction_layers(name))
    tags = {"long_name": f"Fraction of {name}", "description": f"Endmembers: {members}"}
    return Band(name, FRACTION, tags, lambda rows: results.fractions(name, rows))


def merge_regions(results: RunResults, band: Band, min_area_m2: float) -> Band:
    """The map of a model with small regions merged; it is held in memory.

    Raises ConfigError: the band is an index, or the area cannot be used.
    """
    if not band.classes:
        raise ConfigError(
            f"--min-area is for maps of clusters; {band.name} is an index", "Leave out --min-area"
        )
    min_pixels = smallest_region(results, min_area_m2)
    values = read_class_map(results, band.name)
    values = merge_small_regions(values, band.classes, min_pixels)
    counts = np.bincount(values.ravel(), minlength=256)
    pixels = {one.number: int(counts[one.number]) for one in band.classes}
    tags = band.tags | {"min_area_m2": f"{min_area_m2:g}"}
    return replace(band, tags=tags, read=lambda rows: values[rows], pixels=pixels)


def index_entry(results: RunResults, name: str) -> dict[str, Any]:
    """The facts about an index in run.json."""
    known = (entry for entry in results.computed if entry["name"] == name)
    return next(known, {"name": name})
