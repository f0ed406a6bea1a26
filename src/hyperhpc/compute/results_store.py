"""The store of the maps: created empty, and checked before a run resumes with it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hyperhpc.compute.grid_file import GridFile
from hyperhpc.compute.stores import consolidate, create_group, create_store, set_attributes
from hyperhpc.compute.tiles import drop_damaged_records
from hyperhpc.files import atomic_write, check_guard, remove_partial_files
from hyperhpc.reading import read_json_file
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.integrity import files_of
from hyperhpc.rundir.plan import Plan
from hyperhpc.scene.cube import Grid
from hyperhpc.schema import CLUSTER, FRACTION, INDICES, RESULTS, UNMIXING, UNMIXING_RMSE
from hyperhpc.sealed import DamagedJsonError, find_damage, measure_file, read_json, write_sealed

#: A file that a tile writes: array, layer if it has some, row and column of the tile.
CHUNK = re.compile(
    rf"(?:(?:{INDICES.name}|{CLUSTER.name}|{FRACTION.name})/\d+\.|{UNMIXING_RMSE.name}/)"
    r"(\d+)\.(\d+)"
)
#: Attributes of the store.
_ABOUT = {"title": "hyperhpc results", "Conventions": "CF-1.11"}
#: Files that change once more at the end, when they say that the store is complete.
_ATTRIBUTES, _CONSOLIDATED = ".zattrs", ".zmetadata"


def create_results(
    folder: RunFolder,
    plan: Plan,
    grid: Grid,
    indices: Sequence[str],
    models: Sequence[str],
    endmembers: Sequence[str] = (),
) -> None:
    """Create the store without any tile, in place of another; keep checksums of its metadata."""
    check_guard(folder.results)
    shutil.rmtree(folder.results, ignore_errors=True)
    variables = dict(zip(RESULTS, (indices, models), strict=True))
    if endmembers:
        variables |= dict.fromkeys(UNMIXING, endmembers)
    with atomic_write(folder.results) as part:
        root = create_store(part)
        create_group(
            root, variables, grid, plan.area.shape, plan.tile_shape, {**_ABOUT, "complete": False}
        )
        consolidate(part)
        sums = {
            name: measure_file(part / name)
            for name in files_of(part)
            if name not in (_ATTRIBUTES, _CONSOLIDATED) and not CHUNK.fullmatch(name)
        }
        write_sealed(folder.store_sums, sums)


def is_store_intact(folder: RunFolder, warn: Callable[[str], None]) -> bool:
    """True if the store is there, and all that no tile writes in it is as it was created."""
    results = folder.results
    if not (results.exists() and folder.store_sums.exists()):
        return False
    try:
        sums = read_json(folder.store_sums)
    except DamagedJsonError:
        warn(f"{folder.store_sums} is damaged, so that the maps of all tiles are computed again")
        return False
    damaged = dict(find_damage(results, sums))
    try:
        if not _are_ours(read_json_file(results / _ATTRIBUTES)):
            damaged[_ATTRIBUTES] = "holds other bytes than were written"
    except (OSError, ValueError):
        damaged[_ATTRIBUTES] = "cannot be read"
    if damaged:
        name, what = next(iter(damaged.items()))
        warn(f"{results.name}/{name} {what}, so that the maps of all tiles are computed again")
    return not damaged


def _are_ours(attributes: dict[str, Any]) -> bool:
    """True for the attributes that a run gives the store, at its start or its end."""
    known = {**_ABOUT, "complete": attributes.get("complete")}
    if "bad_tiles" in attributes:
        known["bad_tiles"] = attributes["bad_tiles"]
    return attributes == known and isinstance(attributes["complete"], bool)


def drop_damaged_tiles(
    folder: RunFolder,
    records: Path,
    warn: Callable[[str], None],
    grid_files: Sequence[GridFile] = (),
) -> None:
    """Remove the records of tiles whose files are not as they were written.

    ``grid_files``: Those of the overview, of which each tile has written a window.
    """
    remove_partial_files(folder.results)
    # First, so that a start after a kill here finds the damage again
    before = partial(set_attributes, folder.results, complete=False)
    drop_damaged_records(folder.results, records, warn, grid_files, before)
