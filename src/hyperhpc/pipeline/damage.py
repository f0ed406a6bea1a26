"""A tile of which a part cannot be read: tried again, then named, or left as no-data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hyperhpc.errors import IncompleteRunError, SceneError
from hyperhpc.rundir.plan import Area, Slab, Tile
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.damage import find_damaged_chunk

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
