"""Compare the files of OUT with what was written there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhpc.compute.results_store import CHUNK
from hyperhpc.compute.transpose import TRANSPOSED
from hyperhpc.errors import ConfigError, IncompleteRunError
from hyperhpc.results.classes import names_hint, read_classes
from hyperhpc.rundir.folder import RunFolder, find_run_folder
from hyperhpc.rundir.integrity import files_of, is_drawn, read_recorded_sums
from hyperhpc.scene.formats.zarr_layout import zarr_format_of
from hyperhpc.sealed import DamagedJsonError, find_damage, read_json, read_sums


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
    """Compare every file of a run, or of an ingested store, with its checksum.

    Of a run that is not finished: what its finished tiles have written, and what it has recorded.

    Raises ConfigError: if there is no run; IncompleteRunError: if no tile is finished yet, or
    checksums.json is damaged.
    """
    if RunFolder(out).checksums.is_file() and zarr_format_of(str(out)) is not None:
        return _verify_store(out)
    folder = find_run_folder(out)
    run, damaged = _read_run(folder)
    complete = bool(run.get("complete", damaged)) and folder.checksums.exists()
    sums = read_sums(folder.checksums) if complete else read_recorded_sums(folder)
    if not complete:
        damaged |= _find_damaged_work(folder)
    if not sums and not damaged:
        raise IncompleteRunError(
            f"{out} has no finished tile yet, so there is nothing to verify",
            f"See what the run does: hyperhpc status {shlex.quote(str(out))}",
        )
    damaged |= find_damage(out, sums)
    damaged |= _find_damaged_classes(folder)
    for name in [name for name in damaged if is_drawn(folder, name) and not (out / name).exists()]:
        del damaged[name]  # pictures may be left out of a copy: they are drawn again
    if complete:
        for store in (folder.results, folder.overview):
            names = (f"{store.name}/{path}" for path in files_of(store))
            damaged |= {name: "was not written by this run" for name in names if name not in sums}
    command = str(run.get("command") or "").removesuffix(" --restart")
    if not command.startswith("hyperhpc "):
        command = "the same command"
    elif not _names(command, out):  # the folder was moved or copied
        command += f" (with {shlex.quote(str(out))} as its OUT)"
    prefix = f"{folder.results.name}/"
    chunks = {name for name in sums if CHUNK.fullmatch(name.removeprefix(prefix))}
    hint = f"Compute it from the beginning: {command} --restart"
    if not complete:
        hint = f"Resume the run, which makes these files again: {command}"
    elif damaged.keys() <= chunks:
        hint = f"Resume the run, which computes these tiles again: {command}"
    elif damaged.keys() == {folder.classes.name}:
        hint = names_hint(out)
    elif all(is_drawn(folder, name) for name in damaged):
        hint = f"Draw them again: hyperhpc report {shlex.quote(str(out))}"
    n_bytes = sum(value[0] for value in sums.values() if value)
    return Verified(len(sums), n_bytes, damaged, complete, hint)


def _names(command: str, out: Path) -> bool:
    """True if a word of a command leads to a folder."""
    place = out.resolve()
    return any(Path(word).resolve() == place for word in shlex.split(command))


_DAMAGED = "holds other bytes than were written"


def _read_run(folder: RunFolder) -> tuple[dict[str, Any], dict[str, str]]:
    """Content of run.json, and what is wrong with it."""
    try:
        return (read_json(folder.run) if folder.run.exists() else {}), {}
    except DamagedJsonError:
        return {}, {folder.run.name: _DAMAGED}


def _find_damaged_classes(folder: RunFolder) -> dict[str, str]:
    """The names of clusters, whose file holds its own checksum."""
    try:
        read_classes(folder)
    except ConfigError:
        return {folder.classes.name: _DAMAGED}
    return {}


def _find_damaged_work(folder: RunFolder) -> dict[str, str]:
    """JSON files of a run that is not finished, and what is wrong with them."""
    damaged = {}
    for path in (folder.plan, *sorted(folder.work.rglob("*.json"))):
        try:
            if not path.is_relative_to(folder.work / TRANSPOSED):
                read_json(path)
        except DamagedJsonError:
            damaged[str(path.relative_to(folder.out))] = _DAMAGED
    return damaged


def _verify_store(path: Path) -> Verified:
    """Files that are missing, changed, or were added."""
    checksums = RunFolder(path).checksums
    sums = read_sums(checksums)
    damaged = dict(find_damage(path, sums))
    added = set(files_of(path)) - set(sums) - {checksums.name}
    damaged |= dict.fromkeys(sorted(added), "was not there when the store was written")
    n_bytes = sum(value[0] for value in sums.values() if value)
    hint = f"Ingest the scene again, or copy the store again: {path}"
    return Verified(len(sums), n_bytes, damaged, complete=True, hint=hint)
