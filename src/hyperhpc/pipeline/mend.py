"""A run that is complete, but whose files are not any more as it has written them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hyperhpc.compute.classify import blank_tile, classify_tile
from hyperhpc.compute.fitting import read_labellers
from hyperhpc.compute.stores import remove_halves
from hyperhpc.compute.tiles import run_tiles, shorten
from hyperhpc.errors import IncompleteRunError
from hyperhpc.pipeline.damage import Skipping
from hyperhpc.pipeline.manifest import RunFolder, read_json
from hyperhpc.pipeline.passes import classify_job
from hyperhpc.pipeline.results import CHUNK
from hyperhpc.rundir.integrity import find_damage
from hyperhpc.workers import launch_workers, losses_told

if TYPE_CHECKING:
    from hyperhpc.pipeline.runner import Run

_ANEW = "compute it anew: the same command with --restart"


def find_harm(folder: RunFolder) -> dict[str, str]:
    """Files of a complete run that are not as they were written, and what is wrong."""
    if not folder.checksums.exists():
        return {}
    return dict(find_damage(folder.out, read_json(folder.checksums)["files"]))


def mend(this: Run, damaged: Mapping[str, str]) -> None:
    """Compute the tiles again that damaged files belong to: they get the same bits.

    Nothing else of the run is changed, and a kill leaves what there was to mend.

    Raises
    ------
    IncompleteRunError
        Files are damaged that no tile writes, or tiles cannot be computed by themselves.
    """
    folder, plan, scene = this.folder, this.plan, this.scene
    start = f"{folder.results.name}/"
    first, what = next(iter(damaged.items()))
    found = [
        CHUNK.fullmatch(name.removeprefix(start)) if name.startswith(start) else None
        for name in damaged
    ]
    places = {(int(chunk[1]), int(chunk[2])) for chunk in found if chunk}
    if None in found or plan.is_transposed or this.config.estimator:
        raise IncompleteRunError(
            f"{len(damaged)} files of {folder.out} are not as they were written; "
            f"{first} {what}",
            _ANEW,
        )
    tall, wide = plan.tile_shape
    tiles = [tile for tile in plan.tiles() if (tile.y0 // tall, tile.x0 // wide) in places]
    this.progress.note(
        "warning: finished tiles were found damaged and are computed again: "
        f"{shorten([tile.name for tile in tiles])} ({first} {what})"
    )
    records = folder.records("mend")
    shutil.rmtree(records, ignore_errors=True)
    folder.work.mkdir(exist_ok=True)
    is_integer = np.issubdtype(np.dtype(scene.dtype), np.integer)
    labellers = read_labellers(read_json(folder.model), scene.scale_factor, is_integer)
    job = classify_job(this, scene, labellers)
    for file in job.overview.files():  # tiles write there too, though nobody will read it
        file.create()
    known = {entry["tile"]: entry["why"] for entry in this.journal.bad_tiles}
    used = frozenset(tile.name for tile in tiles if tile.name not in known)
    skipping = Skipping(blank_tile, known, used) if known else None
    n_pixels = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
    with (
        launch_workers(this.config, this.progress.note) as workers,
        losses_told(workers, this.progress.note),
        this.progress.stage("mending tiles", n_pixels, tiles=len(tiles)),
    ):
        run_tiles(
            workers, classify_tile, job, tiles, records, this.progress, this.claim, skipping
        )
    remove_halves(folder.results)
    left = find_harm(folder)
    if left:
        name, _ = next(iter(left.items()))
        raise IncompleteRunError(
            f"{name} of {folder.out} has come out otherwise than at first: other versions of "
            "the packages, or of the scene, have computed it",
            _ANEW,
        )
