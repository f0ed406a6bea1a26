"""Run one function on every tile of a scene, so that a stopped run can resume.

A task does its work, writes its own files, and writes a record last; a tile that has a
record is finished. Only a few tasks are in flight at a time, so the memory needed here and
on the scheduler does not grow with the scene. A tile that cannot be read is tried again;
then the run stops with the name of the damaged file, or the tile is written as no-data.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

from hyperhpc.compute.grid_file import GridFile
from hyperhpc.errors import HyperhpcError, IncompleteRunError, ResourceError, SceneError
from hyperhpc.files import guard_writes
from hyperhpc.rundir.folder import disk_error
from hyperhpc.rundir.lock import Claim
from hyperhpc.rundir.plan import Area, Slab, Tile
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.window import describe_window, mirror
from hyperhpc.sealed import find_damage, read_json, write_sealed
from hyperhpc.workers import MAX_WORKER_DEATHS, Workers, scheduler_errors

#: Does the work of one tile on a worker and returns its record (JSON).
Work = Callable[[Any, Tile], dict[str, Any]]

#: Seconds before each further try: a file server may be busy, or restarting.
RETRY_PAUSES_S = (0.5, 2.0)
#: Windows of grid files that are compared at the same time.
_WINDOWS_AT_ONCE = 8

_RESUME_HINT = "Give the same command again: it resumes from the finished tiles"
# The times of files are part of a scene's fingerprint
_COPY_HINT = (
    "copy the file again, or the scene with its times (cp -p, rsync -a), then give the same "
    "command: it resumes"
)
_SKIP_HINT = f"{_COPY_HINT}; with --skip-bad-tiles such tiles are left as no-data"
_SAMPLED_HINT = (
    "its pixels are in the sample, so it could be read before: give the same command again; "
    "if the error stays, add --restart"
)


class DamagedTileError(SceneError):
    """A part of the scene cannot be read; the finished tiles are kept."""


@dataclass(frozen=True)
class SkipPolicy:
    """How a pass leaves out tiles that cannot be read: ``write_nodata`` writes them.

    ``known``: Names of tiles that an earlier pass left out, and why: they are not read again.
    ``used``: Names of tiles whose pixels an earlier pass has used: they must not be left out.
    """

    write_nodata: Work
    known: Mapping[str, str]
    used: frozenset[str]

    def for_tile(self, tile: Tile) -> SkipPolicy:
        """The part that concerns one tile, small enough to be sent with its task."""
        known = {tile.name: self.known[tile.name]} if tile.name in self.known else {}
        return SkipPolicy(self.write_nodata, known, self.used & {tile.name})


def run_tiles(
    workers: Workers,
    function: Work,
    job: Any,
    tiles: Iterable[Tile],
    folder: Path,
    progress: Progress,
    claim: Claim,
    skip_policy: SkipPolicy | None = None,
) -> tuple[dict[str, dict[str, Any]], int]:
    """Run ``function(job, tile)`` on every tile that has no record yet.

    ``job``: What all tiles share; it is small and sent with each task.
    ``folder``: Where the records are kept, one file per tile.
    ``claim``: Each task asks it whether OUT still belongs to this run.
    ``skip_policy``: How tiles that cannot be read are left out; None stops at the first one.

    Returns: the records of all tiles by name, and how many tiles were finished before.
    Raises HyperhpcError: what a tile raised; an unexpected error comes as IncompleteRunError
    with the tile's name, and ResourceError says that a tile has killed three workers, or that
    the disk is full. Finished tiles are kept.
    """
    from distributed import as_completed

    folder.mkdir(parents=True, exist_ok=True)
    for mark in folder.glob(".*.on-*"):  # left by a run that was killed as a whole
        mark.unlink(missing_ok=True)
    records: dict[str, dict[str, Any]] = {}
    waiting = []
    for tile in tiles:
        path = folder / f"{tile.name}.json"
        if (record := read_record(path)) is None:
            if path.exists():
                progress.note(f"warning: {path} is damaged; its tile is computed again")
            waiting.append(tile)
            continue
        records[tile.name] = record
        progress.advance(tile.shape[0] * tile.shape[1])
    n_resumed, queue = len(records), iter(waiting)
    in_flight: dict[Any, Tile] = {}
    tries: Counter[str] = Counter()

    def submit(tile: Tile) -> Any:
        tries[tile.name] += 1
        tile_policy = skip_policy.for_tile(tile) if skip_policy else None
        # with the token of this run: an external cluster may serve several runs at once
        key = f"{folder.name}-{tile.name}-{tries[tile.name]}-{claim.token}"
        arguments = (function, job, tile, folder, claim, tile_policy)
        future = workers.client.submit(_run_task, *arguments, pure=False, key=key)
        in_flight[future] = tile
        return future

    first = [submit(tile) for tile in islice(queue, 2 * workers.count * workers.threads + 1)]
    done = as_completed(first)
    for future in done:
        tile = in_flight.pop(future)
        record = _get_record(future, tile, folder, tries[tile.name], workers.memory_bytes)
        if record is None:
            done.add(submit(tile))
            continue
        records[tile.name] = record
        progress.advance(tile.shape[0] * tile.shape[1])
        for following in islice(queue, 1):
            done.add(submit(following))
    return records, n_resumed


def find_damaged_records(
    root: Path, records: Path, grid_files: Sequence[GridFile] = ()
) -> dict[Path, str]:
    """Records of tiles whose files are not as they were written: a file, and what is wrong.

    ``root``: What the names of files in the records are relative to.
    ``grid_files``: Files of which each tile has written a window.
    """
    known = {path: read_record(path) or {} for path in sorted(records.glob("*.json"))}
    owner = {name: path for path, record in known.items() for name in record.get("files", {})}
    sums = {name: known[path]["files"][name] for name, path in owner.items()}
    found = {owner[name]: f"{root.name}/{name} {what}" for name, what in find_damage(root, sums)}
    with ThreadPoolExecutor(_WINDOWS_AT_ONCE) as pool:
        windows = pool.map(partial(describe_damaged_window, grid_files), known.values())
        found |= {path: what for path, what in zip(known, windows, strict=True) if what}
    return found


def describe_damaged_window(grid_files: Sequence[GridFile], record: dict[str, Any]) -> str | None:
    """The grid file of which the window of a tile is not as its record says; None if all are."""
    for file in grid_files:
        written = record.get("windows", {}).get(file.path.name)
        if written and not file.is_as_written(written):
            return f"{file.path.name} holds other bytes than were written"
    return None


def drop_damaged_records(
    root: Path,
    records: Path,
    warn: Callable[[str], None],
    grid_files: Sequence[GridFile] = (),
    before: Callable[[], None] = lambda: None,
) -> None:
    """Remove the records of such tiles, so that they are computed again, and say which.

    ``before``: Called before the first is removed.
    """
    found = find_damaged_records(root, records, grid_files)
    if not found:
        return
    before()
    for path in found:
        path.unlink(missing_ok=True)
    warn(
        "finished tiles were found damaged and are computed again: "
        f"{shorten([path.stem for path in found])} ({next(iter(found.values()))})"
    )


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a finished tile; None if there is no readable one."""
    try:
        return read_json(path) if path.exists() else None
    except HyperhpcError:
        return None


def _run_task(
    function: Work, job: Any, tile: Tile, folder: Path, claim: Claim, skip_policy: SkipPolicy | None
) -> dict[str, Any]:
    """On a worker: do the work of a tile, then write its record."""
    claim.check()
    # This file stays if the tile kills the process
    mark = folder / f".{tile.name}.on-{secrets.token_hex(4)}"
    try:
        mark.touch()
        with guard_writes(claim.path.parent, claim.check):
            record = run_with_retries(function, job, tile, skip_policy)
            write_sealed(folder / f"{tile.name}.json", record)
    except OSError as error:
        raise disk_error(error, folder) from None
    finally:
        with contextlib.suppress(OSError):
            mark.unlink(missing_ok=True)
    return record


def _get_record(
    future: Any, tile: Tile, folder: Path, tries: int, memory_bytes: int
) -> dict[str, Any] | None:
    """The record of a tile; None if the tile must be tried again."""
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except HyperhpcError:
        raise
    except scheduler_errors():
        raise
    except KilledWorker:
        deaths = len(list(folder.glob(f".{tile.name}.on-*")))
        if deaths < MAX_WORKER_DEATHS and tries < MAX_WORKER_DEATHS:
            return None  # it was queued on workers that another tile killed
        raise ResourceError(
            f"Tile {tile.name} has ended {max(deaths, MAX_WORKER_DEATHS)} workers, each with "
            f"{memory_bytes // 2**20} MiB; probably they ran out of memory",
            f"Give --memory-per-worker {memory_bytes * 3 // 2 // 2**20}MiB or more: the run "
            "resumes from the finished tiles",
        ) from None
    except Exception as error:  # the tile's name is worth more than a foreign traceback
        raise IncompleteRunError(
            f"Tile {tile.name} failed: {type(error).__name__}: {error}", _RESUME_HINT
        ) from error


# --- tiles that cannot be read ---------------------------------------------------------


def run_with_retries(
    function: Work, job: Any, tile: Tile, skip_policy: SkipPolicy | None
) -> dict[str, Any]:
    """On a worker: the tile's record; ``bad`` in it says why the tile was left out.

    Raises DamagedTileError: if the tile cannot be read and must not be left out; names the
    damaged file.
    """
    may_skip = skip_policy is not None and tile.name not in skip_policy.used
    if skip_policy and may_skip and tile.name in skip_policy.known:
        return skip_policy.write_nodata(job, tile) | {"bad": skip_policy.known[tile.name]}
    for pause in (0.0, *RETRY_PAUSES_S):
        time.sleep(pause)
        try:
            return function(job, tile)
        except SceneError as error:
            message = error.message
    why = _explain(job.scene, job.area, tile, message)
    if skip_policy and may_skip:
        return skip_policy.write_nodata(job, tile) | {"bad": why}
    other_hint = _COPY_HINT if isinstance(tile, Slab) else _SKIP_HINT
    hint = _SAMPLED_HINT if skip_policy else other_hint
    raise DamagedTileError(f"Tile {tile.name}: {why}", hint) from None


def _explain(scene: Scene, area: Area, tile: Tile, message: str) -> str:
    """The message, with the damaged chunk added if it does not name it."""
    bands = slice(tile.b0, tile.b1) if isinstance(tile, Slab) else slice(0, scene.shape[2])
    chunk = find_damaged_chunk(scene, *area.window(tile), bands)
    message = message.rstrip(".")
    if chunk is None or chunk.rpartition(" ")[2] in message:
        return message
    return f"{message} ({chunk})"


def find_damaged_chunk(scene: Scene, rows: slice, cols: slice, bands: slice) -> str | None:
    """Read the stored chunks of a window one by one; describe the first unreadable one."""
    sides = [
        [
            slice(max(start, part.start), min(start + size, part.stop))
            for start in range(part.start // size * size, part.stop, size)
        ]
        for part, size in zip((rows, cols, bands), scene.shards or scene.chunks, strict=True)
    ]
    for window in product(*sides):
        try:
            if window[2].stop - window[2].start == scene.shape[2]:
                deque(scene.blocks(window[0], window[1]), maxlen=0)  # as the passes read it
            else:
                scene.read(*window)
        except SceneError:
            return _describe_chunk(scene, window)
    return None


def _describe_chunk(scene: Scene, window: Sequence[slice]) -> str:
    from hyperhpc.scene.formats.zarr import ZarrScene, open_array

    if not isinstance(scene, ZarrScene):
        return f"the chunk at {describe_window(*window)}"
    array = open_array(scene.store, scene.array, scene.zarr_format)
    if scene.is_south_up:
        window = [mirror(window[0], scene.shape[0]), *window[1:]]
    stored = array.shards or array.chunks
    key = [0, 0, 0]
    for axis, part in zip(scene.order, window, strict=True):
        key[axis] = part.start // stored[axis]
    name = array.metadata.encode_chunk_key(tuple(key))
    return f"chunk file {os.path.join(scene.store, scene.array, name)}"


def collect_bad_tiles(records: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Names of the tiles that were left out, and why."""
    return {name: record["bad"] for name, record in records.items() if "bad" in record}


def describe_bad_tiles(tiles: Iterable[Tile], area: Area, bad: Mapping[str, str]) -> list[dict]:
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


def check_no_bad_tiles(bad: list[dict[str, Any]], report: Any) -> None:
    """Raise IncompleteRunError if tiles were left out of a finished run."""
    if bad:
        listed = "; ".join(f"{entry['tile']}: {entry['why']}" for entry in bad[:12])
        more = f"; and {len(bad) - 12} more, see run.json" if len(bad) > 12 else ""
        raise IncompleteRunError(
            f"{len(bad)} tiles could not be read and are no-data in {report}: {listed}{more}",
            "Copy the scene again, then give the same command with --restart",
        )


def shorten(names: Sequence[str], most: int = 12) -> str:
    """Names separated by commas; of many names only the first ones and a count."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
