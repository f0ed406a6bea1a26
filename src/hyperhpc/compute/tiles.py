"""Apply one function to every tile, so that it can be stopped and gone on with.

A task does its work, writes its own files, and last of all a record; a tile with a
record is finished. Few tasks are in flight at a time, so a scene of any size needs the
same memory here and on the scheduler.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

from hyperhpc.errors import (
    ConfigError,
    HyperhpcError,
    IncompleteRunError,
    ResourceError,
    SceneError,
)
from hyperhpc.rundir.folder import disk_error, read_json, write_json
from hyperhpc.rundir.lock import Claim
from hyperhpc.rundir.plan import Area, Slab, Tile
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.window import describe_window, mirror
from hyperhpc.workers import MOST_DEATHS, Workers, scheduler_errors

# Which file of a scene is damaged: found only when a window could not be read.


def find_damaged_chunk(scene: Scene, rows: slice, cols: slice, bands: slice) -> str | None:
    """Read the stored chunks of a window one by one; the first that cannot be read, in words.

    Parameters
    ----------
    rows, cols, bands
        Slices with start and stop, step 1.
    """
    unit = scene.shards or scene.chunks
    ranges = [
        range(part.start // size * size, part.stop, size)
        for part, size in zip((rows, cols, bands), unit, strict=True)
    ]
    for first in product(*ranges):
        place = [
            slice(max(start, part.start), min(start + size, part.stop))
            for start, part, size in zip(first, (rows, cols, bands), unit, strict=True)
        ]
        try:
            if place[2].stop - place[2].start == scene.shape[2]:
                deque(scene.blocks(place[0], place[1]), maxlen=0)  # as the passes read it
            else:
                scene.read(*place)
        except SceneError:
            return _name(scene, place)
    return None


def _name(scene: Scene, place: list[slice]) -> str:
    from hyperhpc.scene.formats.zarr import ZarrScene, open_array

    if not isinstance(scene, ZarrScene):
        return f"the chunk at {describe_window(*place)}"
    array = open_array(scene.store, scene.array, scene.zarr_format)
    if scene.is_south_up:
        place = [mirror(place[0], scene.shape[0]), *place[1:]]
    stored = array.shards or array.chunks
    key = [0, 0, 0]
    for axis, part in zip(scene.order, place, strict=True):
        key[axis] = part.start // stored[axis]
    name = array.metadata.encode_chunk_key(tuple(key))
    return f"chunk file {os.path.join(scene.store, scene.array, name)}"


# A tile of which a part cannot be read: tried again, then named, or left as no-data.

#: Seconds before each further try: a file server that is busy, or started again.
PAUSES_S = (0.5, 2.0)
#: Scenes are told from changed ones by the times of their files, among others.
_COPY = (
    "copy the file again, or the scene with its times (cp -p, rsync -a), then give the same "
    "command: it goes on"
)
_SKIP = f"{_COPY}; with --skip-bad-tiles it goes on too, and leaves such tiles as no-data"
_USED = (
    "its pixels are in the sample, so it could be read before: give the same command again; "
    "if it stays so, add --restart"
)


class DamagedTileError(SceneError):
    """A part of the scene cannot be read; the finished tiles are kept."""


#: Does a tile's work and returns its record.
Work = Callable[[Any, Tile], dict[str, Any]]


@dataclass(frozen=True)
class Skipping:
    """How a pass leaves out the tiles that cannot be read.

    Attributes
    ----------
    blank
        Writes a tile as no-data.
    known
        Tiles that an earlier pass left out, and why: they are not read again.
    used
        Tiles whose pixels an earlier pass has used: they cannot be left out any more.
    """

    blank: Work
    known: Mapping[str, str]
    used: frozenset[str]

    def of_tile(self, tile: Tile) -> TileSkipping:
        """What a task must know."""
        blank = None if tile.name in self.used else self.blank
        return TileSkipping(blank, self.known.get(tile.name))


@dataclass(frozen=True)
class TileSkipping:
    """The same for one tile."""

    blank: Work | None
    why: str | None


def work_patiently(
    function: Work, job: Any, tile: Tile, skipping: TileSkipping | None
) -> dict[str, Any]:
    """On a worker: the tile's record; ``bad`` in it says why the tile was left out.

    Raises
    ------
    DamagedTileError
        If the tile cannot be read, with its name and that of the damaged file.
    """
    if skipping and skipping.blank and skipping.why:
        return skipping.blank(job, tile) | {"bad": skipping.why}
    error: SceneError | None = None
    for pause in (0.0, *PAUSES_S):
        time.sleep(pause)
        try:
            return function(job, tile)
        except SceneError as caught:
            error = caught
    assert error is not None
    why = _explain(job.scene, job.area, tile, error.message)
    if skipping and skipping.blank:
        return skipping.blank(job, tile) | {"bad": why}
    hint = _USED if skipping else _COPY if isinstance(tile, Slab) else _SKIP
    raise DamagedTileError(f"tile {tile.name}: {why}", hint) from None


def _explain(scene: Scene, area: Area, tile: Tile, message: str) -> str:
    rows = slice(area.row0 + tile.y0, area.row0 + tile.y1)
    cols = slice(area.col0 + tile.x0, area.col0 + tile.x1)
    bands = slice(0, scene.shape[2])
    if isinstance(tile, Slab):
        bands = slice(tile.b0, tile.b1)
    chunk = find_damaged_chunk(scene, rows, cols, bands)
    message = message.rstrip(".")
    if chunk is None or chunk.rpartition(" ")[2] in message:
        return message
    return f"{message} ({chunk})"


def bad_tiles(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Tiles that were left out, and why."""
    return {name: record["bad"] for name, record in records.items() if "bad" in record}


def describe_bad(tiles: Iterable[Tile], area: Area, bad: Mapping[str, str]) -> list[dict]:
    """``bad_tiles`` of run.json; rows and columns of the scene, the last one included."""
    return [
        {
            "tile": tile.name,
            "rows": [area.row0 + tile.y0, area.row0 + tile.y1 - 1],
            "columns": [area.col0 + tile.x0, area.col0 + tile.x1 - 1],
            "why": bad[tile.name],
        }
        for tile in tiles
        if tile.name in bad
    ]


def check_none_bad(bad: list[dict[str, Any]], report: Any) -> None:
    """Say at the end of a run that it has holes.

    Raises
    ------
    IncompleteRunError
        If tiles were left out.
    """
    if bad:
        listed = "; ".join(f"{entry['tile']}: {entry['why']}" for entry in bad[:12])
        more = f"; and {len(bad) - 12} more, see run.json" if len(bad) > 12 else ""
        raise IncompleteRunError(
            f"{len(bad)} tiles could not be read and are no-data in {report}: {listed}{more}",
            "copy the scene again, then the same command with --restart",
        )


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
