"""A complete run whose files have changed since: repair it, or finish what a kill left."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping

import numpy as np

from hyperhpc.compute.classify import classify_tile, write_nodata_tile
from hyperhpc.compute.fit.fitting import read_labellers
from hyperhpc.compute.results_store import CHUNK
from hyperhpc.compute.tiles import SkipPolicy, run_tiles, shorten
from hyperhpc.errors import ConfigError, IncompleteRunError, ResourceError
from hyperhpc.files import find_partial_files, remove_partial_files
from hyperhpc.pipeline.context import RunContext
from hyperhpc.pipeline.managed import Session
from hyperhpc.pipeline.passes import classify_job
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.integrity import is_drawn, read_result
from hyperhpc.rundir.lock import find_parts, hold_lock
from hyperhpc.rundir.progress import Progress, StatusFile
from hyperhpc.scratch import remove_abandoned_scratch
from hyperhpc.sealed import find_damage, read_json, read_sums
from hyperhpc.workers import find_stale_connections, remove_stale_connections

_FROM_THE_BEGINNING = "Compute it from the beginning: the same command with --restart"


def find_damaged_files(folder: RunFolder) -> dict[str, str]:
    """Files of a complete run that are not as they were written, and what is wrong.

    The report is not looked at: ``hyperhpc report`` draws it again.
    """
    if not folder.checksums.exists():
        return {}
    sums = read_sums(folder.checksums)
    kept = {name: value for name, value in sums.items() if not is_drawn(folder, name)}
    return dict(find_damage(folder.out, kept))


def repair_run(ctx: RunContext, session: Session, damaged: Mapping[str, str]) -> None:
    """Compute the tiles again that damaged files belong to: they get the same bits.

    Nothing else of the run is changed, and after a kill the same damage is found again.

    Raises IncompleteRunError: files are damaged that no tile writes, or tiles cannot be
    computed by themselves.
    """
    folder, plan, progress = ctx.folder, ctx.plan, session.progress
    first, what = next(iter(damaged.items()))
    prefix = f"{folder.results.name}/"
    chunks = [CHUNK.fullmatch(name.removeprefix(prefix)) for name in damaged]
    places = {(int(chunk[1]), int(chunk[2])) for chunk in chunks if chunk}
    if None in chunks or plan.is_transposed or ctx.config.estimator:
        raise IncompleteRunError(
            f"{len(damaged)} files of {folder.out} are not as they were written; {first} {what}",
            _FROM_THE_BEGINNING,
        )
    tall, wide = plan.tile_shape
    tiles = [tile for tile in plan.tiles() if (tile.y0 // tall, tile.x0 // wide) in places]
    progress.note(
        "warning: finished tiles were found damaged and are computed again: "
        f"{shorten([tile.name for tile in tiles])} ({first} {what})"
    )
    records = folder.records("repair")
    shutil.rmtree(records, ignore_errors=True)
    folder.work.mkdir(exist_ok=True)
    is_integer = np.issubdtype(np.dtype(ctx.scene.dtype), np.integer)
    labellers = read_labellers(
        read_result(folder, folder.model), ctx.scene.scale_factor, is_integer
    )
    job = classify_job(ctx, ctx.scene, labellers)
    for file in job.overview.files():  # tiles write there too, though nothing will read it
        file.create()
    bad = {entry["tile"]: entry["why"] for entry in read_json(folder.run)["bad_tiles"]}
    used = frozenset(tile.name for tile in tiles if tile.name not in bad)
    skip_policy = SkipPolicy(write_nodata_tile, bad, used) if bad else None
    n_pixels = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
    with (
        session.workers(progress.note) as workers,
        progress.stage("repairing tiles", n_pixels, tiles=len(tiles)),
    ):
        run_tiles(workers, classify_tile, job, tiles, records, progress, session.claim, skip_policy)
    remove_partial_files(folder.results)  # of workers that were lost
    if name := next(iter(find_damaged_files(folder)), None):
        raise IncompleteRunError(
            f"{name} of {folder.out} differs from the first time: other versions of the "
            "packages, or of the scene, have computed it",
            _FROM_THE_BEGINNING,
        )


def clear_leftovers(folder: RunFolder, launcher: str, note: Callable[[str], None]) -> None:
    """Remove work, keys and lock that a kill left in a complete OUT.

    A run that is alive does it itself; an OUT that may only be read is left as it is.
    """
    remove_abandoned_scratch()
    left = [path for path in (folder.work, folder.lock) if path.exists()]
    left += [*find_parts(folder.lock), *find_stale_connections(folder.out)]
    if not (left or any(find_partial_files(folder.out))):
        return
    with contextlib.suppress(ConfigError, ResourceError), hold_lock(folder.out, note) as lock:
        remove_stale_connections(folder.out)
        remove_partial_files(folder.out)
        StatusFile(folder.status, Progress(), launcher, lock.claim).end("complete")
        shutil.rmtree(folder.work, ignore_errors=True)
