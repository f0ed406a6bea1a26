"""The full-resolution maps of a finished run, read a window at a time."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hyperhpc.errors import ConfigError, IncompleteRunError, cause
from hyperhpc.pipeline.manifest import RunFolder, read_json
from hyperhpc.pipeline.runner import out_of
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.summed import open_summed
from hyperhpc.schema import CLUSTER, INDICES

#: Rows that are read at once: a whole number of the blocks of a GeoTIFF.
STRIP = 512


@dataclass(frozen=True, eq=False)
class Maps:
    """What a finished run holds.

    Attributes
    ----------
    folder
        Where it lies.
    run
        run.json.
    grid
        Georeference of the maps.
    models, indices
        Names along the first dimension of ``cluster`` and ``indices``.
    cluster, index
        These arrays (name, y, x), lazy.
    """

    folder: RunFolder
    run: dict[str, Any]
    grid: Grid
    models: tuple[str, ...]
    indices: tuple[str, ...]
    cluster: Any
    index: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.cluster.shape[1:]

    def strips(self) -> Iterator[slice]:
        """Rows from north to south, so many at a time as memory should hold."""
        height = self.shape[0]
        for row in range(0, height, STRIP):
            yield slice(row, min(row + STRIP, height))

    def labels(self, model: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """Clusters of one model (y, x), uint8; 255 is no-data."""
        return np.asarray(self.cluster[self.models.index(model), rows, cols])

    def values(self, name: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """One index (y, x), float32; NaN is missing."""
        return np.asarray(self.index[self.indices.index(name), rows, cols])

    def n_clusters(self, model: str) -> int:
        """Number of clusters of a model."""
        return len(read_json(self.folder.clusters)["models"][model]["pixels"])


def open_maps(out: Path) -> Maps:
    """Open the results of a finished run.

    Raises
    ------
    ConfigError
        There is no run, or its results cannot be read.
    IncompleteRunError
        It has not come to its end.
    """
    folder = out_of(out)
    run = read_json(folder.run) if folder.run.exists() else {}
    if not run.get("complete"):
        command = str(run.get("command") or "")
        again = command if command.startswith("hyperhpc ") else "the command it was started by"
        raise IncompleteRunError(
            f"the run in {out} has not come to its end",
            f"go on with it: {again.removesuffix(' --restart')}",
        )
    try:
        group: Any = zarr.open_group(open_summed(folder.results), mode="r", zarr_format=2)
        names = {name: tuple(map(str, group[name][:])) for name in ("model", "index")}
        grid = _grid_of(group, run)
        return Maps(
            folder, run, grid, names["model"], names["index"],
            group[CLUSTER.name], group[INDICES.name],
        )  # fmt: skip
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{folder.results} cannot be read: {cause(error)}",
            f"see what is damaged: hyperhpc verify {shlex.quote(str(out))}",
        ) from None


def _grid_of(group: Any, run: dict[str, Any]) -> Grid:
    """As :func:`hyperhpc.scene.georef.grid_mapping_attributes` has written it."""
    attributes = group["spatial_ref"].attrs
    xmin, px, _, ymax, _, py = map(float, str(attributes["GeoTransform"]).split())
    wkt = attributes.get("crs_wkt")
    return Grid(xmin, ymax, px, -py, str(wkt) if wkt else None, run["scene"].get("epsg"))
