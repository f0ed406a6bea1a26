"""Apply one function to every tile, so that it can be stopped and gone on with.

A task does its work, writes its own files, and last of all a record; a tile with a
record is finished. Few tasks are in flight at a time, so a scene of any size needs the
same memory here and on the scheduler.
"""

from __future__ import annotations

import contextlib
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hyperhpc.errors import ConfigError, HyperhpcError, IncompleteRunError, ResourceError
from hyperhpc.pipeline.damage import Skipping, TileSkipping, Work, work_patiently
from hyperhpc.pipeline.manifest import disk_error, read_json, write_json
from hyperhpc.pipeline.progress import Progress
from hyperhpc.rundir.lock import Claim
from hyperhpc.rundir.plan import Tile
from hyperhpc.workers import MOST_DEATHS, Workers, scheduler_errors


def run_tiles(
    workers: Workers,
    function: Work,
    job: Any,
    tiles: Iterable[Tile],
    folder: Path,
    progress: Progress,
    claim: Claim,
    skipping: Skipping | None = None,
) -> tuple[dict[str, dict[str, Any]], int]:
    """Run ``function(job, tile)`` on every tile that has no record yet.

    Parameters
    ----------
    function
        Runs on a worker, writes the tile's files and returns a small record (JSON).
    job
        What all tiles share; small, sent along with each.
    folder
        Where the records are kept, one file a tile.
    progress
        Told the pixels of each tile as it is finished.
    claim
        Asked by each task whether OUT is still this run's.
    skipping
        How tiles that cannot be read are left out; None stops at the first.

    Returns
    -------
    The records of all tiles by name, and how many were there before.

    Raises
    ------
    HyperhpcError
        What a tile raised; an unforeseen error comes as IncompleteRunError with the
        tile's name. Finished tiles are kept either way.
    ResourceError
        If a tile has killed three workers, or the disk is full.
    """
    from distributed import as_completed

    folder.mkdir(parents=True, exist_ok=True)
    for mark in folder.glob(".*.on-*"):  # of a run that was killed as a whole
        mark.unlink(missing_ok=True)
    records: dict[str, dict[str, Any]] = {}
    waiting = []
    for tile in tiles:
        record = read_record(folder / f"{tile.name}.json")
        if record is not None:
            records[tile.name] = record
            progress.advance(tile.shape[0] * tile.shape[1])
        else:
            waiting.append(tile)
    resumed, queue = len(records), iter(waiting)
    in_flight: dict[Any, Tile] = {}
    tries: Counter[str] = Counter()

    def submit(tile: Tile) -> Any:
        tries[tile.name] += 1
        how = skipping.of_tile(tile) if skipping else None
        name = f"{folder.name}-{tile.name}-{tries[tile.name]}"
        arguments = (function, job, tile, folder, claim, how)
        future = workers.client.submit(_run_one, *arguments, pure=False, key=name)
        in_flight[future] = tile
        return future

    first = [submit(tile) for tile in islice(queue, 2 * workers.count * workers.threads + 1)]
    done = as_completed(first)
    for future in done:
        tile = in_flight.pop(future)
        record = _result(future, tile, folder, tries[tile.name], workers.memory_bytes)
        if record is None:
            done.add(submit(tile))
            continue
        records[tile.name] = record
        progress.advance(tile.shape[0] * tile.shape[1])
        for following in islice(queue, 1):
            done.add(submit(following))
    return records, resumed


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a finished tile; None if there is none that is whole."""
    if not path.exists():
        return None
    try:
        record: dict[str, Any] = read_json(path)
    except ConfigError:
        return None
    return record


def _run_one(
    function: Work,
    job: Any,
    tile: Tile,
    folder: Path,
    claim: Claim,
    skipping: TileSkipping | None,
) -> dict[str, Any]:
    """On the worker: the work first, its record after."""
    claim.check()
    # Stays if this process dies of the tile
    mark = folder / f".{tile.name}.on-{secrets.token_hex(4)}"
    try:
        mark.touch()
        record = work_patiently(function, job, tile, skipping)
        claim.check()
        write_json(folder / f"{tile.name}.json", record)
    except OSError as error:
        raise disk_error(error, folder) from None
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)
    return record


def _result(
    future: Any, tile: Tile, folder: Path, tries: int, memory_bytes: int
) -> dict[str, Any] | None:
    """The record of a tile; None if it is to be tried again."""
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except HyperhpcError:
        raise
    except scheduler_errors():
        raise
    except KilledWorker:
        deaths = len(list(folder.glob(f".{tile.name}.on-*")))
        if deaths < MOST_DEATHS and tries < MOST_DEATHS:
            return None  # it waited in workers that died of another
        raise ResourceError(
            f"tile {tile.name} has ended {max(deaths, MOST_DEATHS)} workers, each with "
            f"{memory_bytes // 2**20} MiB; probably they ran out of memory",
            f"give --memory-per-worker {memory_bytes * 3 // 2 // 2**20}MiB or more: the run "
            "goes on from the tiles that are finished",
        ) from None
    except Exception as error:  # the tile's name is worth more than a foreign traceback
        raise IncompleteRunError(
            f"tile {tile.name} failed: {type(error).__name__}: {error}",
            "give the same command again: it goes on from the tiles that are finished",
        ) from error


def shorten(names: Sequence[str], most: int = 12) -> str:
    """Names with commas; of many the first ones."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
