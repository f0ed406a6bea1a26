"""Is what lies in OUT what was written there?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhpc.compute.tiles import read_record
from hyperhpc.errors import IncompleteRunError
from hyperhpc.pipeline.results import CHUNK
from hyperhpc.rundir.folder import RunFolder, out_of, read_json
from hyperhpc.rundir.integrity import Sums, files_of, find_damage
from hyperhpc.scene.formats.zarr_layout import zarr_format_of

#: In a store that was ingested: length and CRC-32C of its files.
CHECKSUMS = "checksums.json"


@dataclass(frozen=True)
class Verified:
    """What was found.

    Attributes
    ----------
    files, nbytes
        Compared.
    damaged
        File, relative to OUT, and what is wrong with it.
    complete
        False if the run has not come to its end.
    hint
        How to mend it.
    """

    files: int
    nbytes: int
    damaged: dict[str, str]
    complete: bool
    hint: str


def verify(out: Path) -> Verified:
    """Compare every file of a run's results, or of a store, with its checksum; reads only.

    Of an unfinished run the finished tiles are compared.

    Parameters
    ----------
    out
        The folder of a run, or a store made by ``hyperhpc ingest``.

    Raises
    ------
    ConfigError
        If there is no run.
    IncompleteRunError
        If no tile is finished yet.
    """
    if (out / CHECKSUMS).is_file() and zarr_format_of(str(out)) is not None:
        return _verify_store(out)
    folder = out_of(out)
    run = read_json(folder.run) if folder.run.exists() else {}
    complete = bool(run.get("complete")) and folder.checksums.exists()
    sums = read_sums(folder) if complete else _recorded(folder)
    if not sums:
        raise IncompleteRunError(
            f"{out} has no finished tile yet, so there is nothing to verify",
            f"see what the run does: hyperhpc status {out}",
        )
    damaged = dict(find_damage(out, sums))
    if complete:
        for store in (folder.results, folder.overview):
            names = (f"{store.name}/{path}" for path in files_of(store))
            damaged |= {
                name: "was not written by this run" for name in names if name not in sums
            }
    command = str(run.get("command") or "")
    if not command.startswith("hyperhpc "):
        command = "the same command"
    command = command.removesuffix(" --restart")
    tiles = {
        name for name in sums if CHUNK.fullmatch(name.removeprefix(f"{folder.results.name}/"))
    }
    return Verified(
        len(sums),
        sum(value[0] for value in sums.values() if value),
        damaged,
        complete,
        f"go on with the run, which computes these tiles again: {command}"
        if damaged.keys() <= tiles
        else f"compute it anew: {command} --restart",
    )


def _verify_store(path: Path) -> Verified:
    """Files that are missing, changed, or were added."""
    sums = read_json(path / CHECKSUMS)["files"]
    damaged = dict(find_damage(path, sums))
    more = set(files_of(path)) - set(sums) - {CHECKSUMS}
    damaged |= dict.fromkeys(sorted(more), "was not there when the store was written")
    n_bytes = sum(value[0] for value in sums.values())
    hint = f"ingest the scene again, or copy the store again: {path}"
    return Verified(len(sums), n_bytes, damaged, complete=True, hint=hint)


def read_sums(folder: RunFolder) -> Sums:
    """checksums.json."""
    return read_json(folder.checksums)["files"]


def _recorded(folder: RunFolder) -> Sums:
    """Those of the tiles that are finished."""
    sums: dict[str, Any] = {}
    for path in sorted(folder.records("classify").glob("*.json")):
        files = (read_record(path) or {}).get("files", {})
        sums |= {f"{folder.results.name}/{name}": value for name, value in files.items()}
    return sums
