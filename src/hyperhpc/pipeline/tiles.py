"""Apply one function to every tile, so that it can be stopped and gone on with.

A task does its work, writes its own files, and last of all a record; a tile with a
record is finished. Few tasks are in flight at a time, so a scene of any size needs the
same memory here and on the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from hyperhpc.errors import HyperhpcError, IncompleteRunError
from hyperhpc.pipeline.manifest import read_json, write_json
from hyperhpc.pipeline.plan import Tile
from hyperhpc.pipeline.progress import Progress
from hyperhpc.workers import Workers


def run_tiles(
    workers: Workers,
    function: Callable[[Any, Tile], dict[str, Any]],
    job: Any,
    tiles: Iterable[Tile],
    folder: Path,
    progress: Progress,
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

    Returns
    -------
    The records of all tiles by name, and how many were there before.

    Raises
    ------
    HyperhpcError
        What a tile raised; an unforeseen error comes as IncompleteRunError with the
        tile's name. Finished tiles are kept either way.
    """
    from distributed import as_completed

    folder.mkdir(parents=True, exist_ok=True)
    records: dict[str, dict[str, Any]] = {}
    waiting = []
    for tile in tiles:
        path = folder / f"{tile.name}.json"
        if path.exists():
            records[tile.name] = read_json(path)
            progress.advance(tile.shape[0] * tile.shape[1])
        else:
            waiting.append(tile)
    resumed, queue = len(records), iter(waiting)
    in_flight: dict[Any, Tile] = {}

    def submit(tile: Tile) -> Any:
        future = workers.client.submit(
            _run_one, function, job, tile, folder, pure=False, key=f"{folder.name}-{tile.name}"
        )
        in_flight[future] = tile
        return future

    first = [submit(tile) for tile in islice(queue, 2 * workers.count * workers.threads + 1)]
    done = as_completed(first)
    for future in done:
        tile = in_flight.pop(future)
        records[tile.name] = _result(future, tile)
        progress.advance(tile.shape[0] * tile.shape[1])
        for following in islice(queue, 1):
            done.add(submit(following))
    return records, resumed


def _run_one(function: Callable, job: Any, tile: Tile, folder: Path) -> dict[str, Any]:
    """On the worker: the work first, its record after."""
    record = function(job, tile)
    write_json(folder / f"{tile.name}.json", record)
    return record


def _result(future: Any, tile: Tile) -> dict[str, Any]:
    try:
        return future.result()
    except HyperhpcError:
        raise
    except Exception as error:  # the tile's name is worth more than a foreign traceback
        raise IncompleteRunError(
            f"tile {tile.name} failed: {type(error).__name__}: {error}",
            "give the same command again: it goes on from the tiles that are finished",
        ) from error
