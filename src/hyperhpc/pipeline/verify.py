"""Is what lies in OUT what was written there?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhpc.errors import IncompleteRunError
from hyperhpc.pipeline.checksums import Sums, files_of, find_damage
from hyperhpc.pipeline.manifest import RunFolder, read_json
from hyperhpc.pipeline.stages import out_of


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
    """Compare every file of the results with its checksum; reads only.

    Of an unfinished run the finished tiles are compared.

    Raises
    ------
    ConfigError
        If there is no run.
    IncompleteRunError
        If no tile is finished yet.
    """
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
    return Verified(
        len(sums),
        sum(value[0] for value in sums.values() if value),
        damaged,
        complete,
        f"compute it anew: {command.removesuffix(' --restart')} --restart"
        if complete
        else f"go on with the run, which computes these tiles again: {command}",
    )


def read_sums(folder: RunFolder) -> Sums:
    """checksums.json."""
    return read_json(folder.checksums)["files"]


def _recorded(folder: RunFolder) -> Sums:
    """Those of the tiles that are finished."""
    sums: dict[str, Any] = {}
    for path in sorted(folder.records("classify").glob("*.json")):
        files = read_json(path).get("files", {})
        sums |= {f"{folder.results.name}/{name}": value for name, value in files.items()}
    return sums
