"""The store of the maps: made empty, and looked at before a run goes on with it."""

from __future__ import annotations

import json
import re
import shutil
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hyperhpc.compute.stores import consolidate, create_group, create_store, set_attributes
from hyperhpc.compute.tiles import read_record, shorten
from hyperhpc.files import atomic_write, remove_partial_files
from hyperhpc.rundir.folder import read_json, write_json
from hyperhpc.rundir.integrity import files_of, find_damage, measure_file
from hyperhpc.schema import CLUSTER, INDICES, RESULTS

if TYPE_CHECKING:
    from hyperhpc.pipeline.runner import Run

#: A file that a tile writes: array, layer, row and column of the tile.
CHUNK = re.compile(rf"(?:{INDICES.name}|{CLUSTER.name})/\d+\.(\d+)\.(\d+)")
#: In ``work``: length and checksum of what lies in the store before any tile does,
_FRAME = "results.json"
#: but for these two, which say in the end that it is complete.
_ATTRIBUTES, _GATHERED = ".zattrs", ".zmetadata"


def create_results(this: Run) -> None:
    """Make the store, without any tile; what was there is removed."""
    results = this.folder.results
    shutil.rmtree(results, ignore_errors=True)
    names = [bound.index.name for bound in this.indices]
    with atomic_write(results) as part:
        create_group(
            create_store(part),
            dict(zip(RESULTS, (names, this.model_names), strict=True)),
            this.grid,
            this.plan.area.shape,
            this.plan.tile_shape,
            {"title": "hyperhpc results", "Conventions": "CF-1.11", "complete": False},
        )
        consolidate(part)
        frame = {
            name: measure_file(part / name)
            for name in files_of(part)
            if name not in (_ATTRIBUTES, _GATHERED) and not CHUNK.fullmatch(name)
        }
        write_json(this.folder.work / _FRAME, frame)


def is_frame_whole(this: Run) -> bool:
    """True if the store is there, and what no tile writes in it is as it was made."""
    results, frame = this.folder.results, this.folder.work / _FRAME
    if not (results.exists() and frame.exists()):
        return False
    damaged = dict(find_damage(results, read_json(frame)))
    try:
        json.loads((results / _ATTRIBUTES).read_text("utf-8"))
    except (OSError, ValueError):
        damaged[_ATTRIBUTES] = "cannot be read"
    for name, what in islice(damaged.items(), 1):
        this.journal.warn(
            f"{results.name}/{name} {what}, so that the maps of all tiles are computed again"
        )
    return not damaged


def drop_damaged(this: Run, records: Path) -> None:
    """Forget the tiles whose files are not as they were written; remove half-written ones."""
    results = this.folder.results
    remove_partial_files(results)
    paths: dict[str, Path] = {}
    sums: dict[str, Any] = {}
    for path in records.glob("*.json"):
        files = (read_record(path) or {}).get("files", {})
        paths |= dict.fromkeys(files, path)
        sums |= files
    damaged = dict(find_damage(results, sums))
    if damaged:
        # First, so that a start after a kill here finds the damage again
        set_attributes(results, complete=False)
        for name in damaged:
            paths[name].unlink(missing_ok=True)
        tiles = sorted({paths[name].stem for name in damaged})
        name, what = next(iter(damaged.items()))
        this.journal.warn(
            f"finished tiles were found damaged and are computed again: {shorten(tiles)} "
            f"({results.name}/{name} {what})"
        )
