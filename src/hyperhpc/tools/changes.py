"""What has changed from one run to another: hectares between classes, and indices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs
from hyperhpc.results import RunResults, row_strips
from hyperhpc.scene.cube import Grid
from hyperhpc.schema import INDICES
from hyperhpc.tools.compare import Overlap
from hyperhpc.tools.csv_table import PARQUET, write_table
from hyperhpc.tools.export.bands import Band, index_entry

#: Columns of the table of transitions.
COLUMNS = ("model", "from", "to", "pixels", "area_ha", "share_of_from")
_DIFFERENCE = replace(INDICES, about="Index of the second run minus that of the first.")
_TIFF = (".tif", ".tiff")


def list_transitions(overlap: Overlap, pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """From which class to which one pixels have gone, for each model that both runs label by.

    ``pairs``: As :func:`hyperhpc.tools.compare.compare` gives them.

    Returns: model; from, to (names of the classes of the first and the second run, which are
    clusters unless ``hyperhpc classes`` has named them); pixels (from, to); hectares (from, to),
    None where the size of a pixel in metres is not known.
    """
    one, other = overlap.runs
    pixel_area = one.area.get("pixel_area_m2")
    found = []
    for pair in pairs:
        name = pair["models"][0]
        if name != pair["models"][1] or not _is_one_model(one, other, name):
            continue
        sides = [run.classes(name) for run in (one, other)]
        table = np.array(pair["confusion"], dtype=np.int64)
        pixels = [
            [int(table[np.ix_(a.clusters, b.clusters)].sum()) for b in sides[1]] for a in sides[0]
        ]
        hectares = None
        if pixel_area is not None:
            hectares = [[n * float(pixel_area) / 1e4 for n in row] for row in pixels]
        names = [[one_class.name for one_class in side] for side in sides]
        facts = {"from": names[0], "to": names[1], "pixels": pixels, "hectares": hectares}
        found.append({"model": name, **facts})
    return found


def _is_one_model(one: RunResults, other: RunResults, name: str) -> bool:
    """True if both runs label by the same centres, as with ``--apply-model``."""
    entries = [run.model.get("models", {}).get(name, {}).get("centers") for run in (one, other)]
    scaling = [[run.model.get(key) for key in ("mean", "scale")] for run in (one, other)]
    return entries[0] is not None and entries[0] == entries[1] and scaling[0] == scaling[1]


def check_table(path: Path) -> None:
    """Raise ConfigError unless a table can have this name."""
    if path.suffix.lower() not in (".csv", PARQUET):
        raise ConfigError(
            f"{path} does not end in .csv or .parquet", "Name a file that ends in .csv"
        )


def write_transitions(path: Path, transitions: list[dict[str, Any]]) -> None:
    """Write :data:`COLUMNS`, a row for each class of the first run and each of the second.

    ``path``: CSV or Parquet; it must not exist.

    Raises ConfigError: no model is that of both runs; ResourceError: it cannot be written.
    """
    if not transitions:
        raise ConfigError(
            "The runs have no model in common, so classes of one are not those of the other",
            "Make the second run with the model of the first: --apply-model OUT1/model.json",
        )
    with atomic_outputs(path) as folder:
        write_table(folder / path.name, COLUMNS, _rows(transitions))


def _rows(transitions: list[dict[str, Any]]) -> Iterator[list[Any]]:
    for change in transitions:
        for i, a in enumerate(change["from"]):
            total = sum(change["pixels"][i])
            for j, b in enumerate(change["to"]):
                n = change["pixels"][i][j]
                area = None if change["hectares"] is None else change["hectares"][i][j]
                yield [change["model"], a, b, n, area, n / total if total else None]


@dataclass(frozen=True)
class _CommonArea:
    """Where two runs overlap, as a place of maps."""

    grid: Grid
    shape: tuple[int, int]

    def strips(self) -> Iterator[slice]:
        """Slices of rows, from north to south."""
        return row_strips(self.shape[0])


def check_difference(path: Path) -> None:
    """Raise ConfigError unless a GeoTIFF can have this name."""
    if path.suffix.lower() not in _TIFF:
        raise ConfigError(f"{path} does not end in .tif or .tiff", "Name a file that ends in .tif")


def write_difference(path: Path, overlap: Overlap) -> None:
    """Write the indices of the second run minus those of the first as a cloud-optimized GeoTIFF.

    A band for each index of both, float32, NaN where one has no value.

    Raises ConfigError: there is no such index, or one has another formula in the other run, or the
    file exists; ResourceError: it cannot be written.
    """
    from hyperhpc.tools.export.geotiff import write_geotiff

    one, other = overlap.runs
    names = [name for name in one.index_names if name in other.index_names]
    if not names:
        raise ConfigError(
            f"{one.folder.out} and {other.folder.out} have no index in common",
            "Run the second with the --indices of the first",
        )
    for name in names:
        formulas = [index_entry(run, name).get("formula") for run in overlap.runs]
        if formulas[0] != formulas[1]:
            raise ConfigError(
                f"{name} is {formulas[0]} in {one.folder.out} and {formulas[1]} in "
                f"{other.folder.out}",
                "Run the second with the --formula of the first",
            )
    grid, (xmin, _, _, ymax) = one.grid, overlap.bounds
    place = _CommonArea(replace(grid, xmin=xmin, ymax=ymax), overlap.shape)
    with atomic_outputs(path) as folder:
        bands = [_difference_band(overlap, name) for name in names]
        write_geotiff(folder / path.name, place, bands, cog=True)


def _difference_band(overlap: Overlap, name: str) -> Band:
    title = index_entry(overlap.runs[0], name).get("title", name)
    tags = {"long_name": f"Change of {title}", "description": _DIFFERENCE.about}

    def read(rows: slice) -> np.ndarray:
        first, second = (overlap.values(i, name, rows.start, rows.stop) for i in range(2))
        return second - first

    return Band(name, _DIFFERENCE, tags, read)
