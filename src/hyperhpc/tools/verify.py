"""Compare the files of OUT with what was written there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhpc.compute.results_store import CHUNK
from hyperhpc.compute.tiles import read_record
from hyperhpc.errors import IncompleteRunError
from hyperhpc.rundir.folder import RunFolder, find_run_folder, read_json
from hyperhpc.rundir.integrity import Sums, files_of, find_damage
from hyperhpc.scene.formats.zarr_layout import zarr_format_of


@dataclass(frozen=True)
class Verified:
    """Number and bytes of the files compared, and how to repair the damaged ones.

    ``damaged``: Path of a file, relative to OUT, and what is wrong with it.
    ``complete``: False if the run has not finished.
    """

    files: int
    nbytes: int
    damaged: dict[str, str]
    complete: bool
    hint: str


def verify(out: Path) -> Verified:
    """Compare every file of a run's finished tiles, or of an ingested store, with its checksum.

    Raises ConfigError: if there is no run; IncompleteRunError: if no tile is finished yet.
    """
    if RunFolder(out).checksums.is_file() and zarr_format_of(str(out)) is not None:
        return _verify_store(out)
    folder = find_run_folder(out)
    run = read_json(folder.run) if folder.run.exists() else {}
    complete = bool(run.get("complete")) and folder.checksums.exists()
    sums = read_json(folder.checksums)["files"] if complete else _recorded_sums(folder)
    if not sums:
        raise IncompleteRunError(
            f"{out} has no finished tile yet, so there is nothing to verify",
            f"See what the run does: hyperhpc status {shlex.quote(str(out))}",
        )
    damaged = dict(find_damage(out, sums))
    if complete:
        for store in (folder.results, folder.overview):
            names = (f"{store.name}/{path}" for path in files_of(store))
            damaged |= {name: "was not written by this run" for name in names if name not in sums}
    command = str(run.get("command") or "").removesuffix(" --restart")
    if not command.startswith("hyperhpc "):
        command = "the same command"
    prefix = f"{folder.results.name}/"
    chunks = {name for name in sums if CHUNK.fullmatch(name.removeprefix(prefix))}
    hint = f"Compute it from the beginning: {command} --restart"
    if damaged.keys() <= chunks:
        hint = f"Resume the run, which computes these tiles again: {command}"
    n_bytes = sum(value[0] for value in sums.values() if value)
    return Verified(len(sums), n_bytes, damaged, complete, hint)


def _verify_store(path: Path) -> Verified:
    """Files that are missing, changed, or were added."""
    checksums = RunFolder(path).checksums
    sums = read_json(checksums)["files"]
    damaged = dict(find_damage(path, sums))
    added = set(files_of(path)) - set(sums) - {checksums.name}
    damaged |= dict.fromkeys(sorted(added), "was not there when the store was written")
    n_bytes = sum(value[0] for value in sums.values())
    hint = f"Ingest the scene again, or copy the store again: {path}"
    return Verified(len(sums), n_bytes, damaged, complete=True, hint=hint)


def _recorded_sums(folder: RunFolder) -> Sums:
    """Checksums of the finished tiles."""
    sums: dict[str, Any] = {}
    for path in sorted(folder.records("classify").glob("*.json")):
        files = (read_record(path) or {}).get("files", {})
        sums |= {f"{folder.results.name}/{name}": value for name, value in files.items()}
    return sums
