"""What of a run can be exported: its maps by name, each a band of a GeoTIFF."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.finished import Maps
from hyperhpc.schema import CLUSTER, INDICES, Variable

#: All maps of a kind at once.
CLUSTERS, ALL_INDICES = "clusters", "indices"
#: A table only.
POINTS = "points"


@dataclass(frozen=True)
class Layer:
    """One map.

    Attributes
    ----------
    name
        Of the model or the index.
    variable
        Its entry in the data dictionary: dtype, missing value, unit.
    tags
        What a band says of itself.
    read
        Rows to values (y, x).
    n_clusters
        0 for an index.
    """

    name: str
    variable: Variable
    tags: dict[str, str]
    read: Callable[[slice], np.ndarray]
    n_clusters: int = 0

    @property
    def categories(self) -> list[str]:
        """Names of the values 0, 1, ..., as the report writes them."""
        return [f"C{k}" for k in range(self.n_clusters)]


def choose_layers(maps: Maps, what: str) -> list[Layer]:
    """The maps of a kind, or the one of a name, in the order of the results.

    Raises
    ------
    ConfigError
        There is nothing of that name.
    """
    names = [*maps.models, *maps.indices]
    if what == CLUSTERS:
        wanted = list(maps.models)
    elif what == ALL_INDICES:
        wanted = list(maps.indices)
    else:
        wanted = [what] if what in names else []
    if not wanted:
        there = " ".join([CLUSTERS, ALL_INDICES, *names])
        raise ConfigError(
            f"the run in {maps.folder.out} has no map {what!r}",
            f"--what takes {there}, and {POINTS} with --format csv",
        )
    return [_cluster(maps, n) if n in maps.models else _index(maps, n) for n in wanted]


def _cluster(maps: Maps, model: str) -> Layer:
    tags = {"long_name": f"Clusters, {model}", "description": CLUSTER.about}
    n = maps.n_clusters(model)
    return Layer(model, CLUSTER, tags, lambda rows: maps.labels(model, rows), n)


def _index(maps: Maps, name: str) -> Layer:
    entry: dict[str, Any] = entry_of(maps, name)
    keys = ("title", "long_name", "formula", "citation", "doi")
    tags = {key: str(entry[key]) for key in keys if entry.get(key)}
    return Layer(name, INDICES, tags, lambda rows: maps.values(name, rows))


def entry_of(maps: Maps, name: str) -> dict[str, Any]:
    """What run.json says of an index."""
    computed = maps.run["indices"]["computed"]
    return next((entry for entry in computed if entry["name"] == name), {"name": name})
