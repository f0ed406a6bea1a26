"""Length and CRC-32C of what a run has written, kept next to it.

GDAL reads no checksum inside a store of Zarr v2 (docs/decisions/0008), so the record of a
tile holds those of its chunk files, and ``OUT/checksums.json`` in the end those of all.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zarr

from hyperhpc.errors import ConfigError, IncompleteRunError, SceneError, unreadable
from hyperhpc.reading import read_file
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.plan import Tile
from hyperhpc.scene.formats.zarr_guard import GuardedStore
from hyperhpc.sealed import (
    Sums,
    describe_change,
    measure_bytes,
    measure_file,
    parse_json,
    read_json,
    read_sums,
    write_sums,
)

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype


def measure_tile(group: zarr.Group, names: Iterable[str], root: Path, tile: Tile) -> Sums:
    """Length and checksum of the chunk files of a tile, which is one chunk of each array.

    They are not flushed to disk, which takes six times as long: after a loss of power the
    checksums show which files are damaged, and those tiles are computed again.
    """
    sums: dict[str, list[Any] | None] = {}
    for name in names:
        array: zarr.Array = group[name]  # type: ignore[assignment]
        height, width = array.chunks[-2:]
        chunk = (tile.y0 // height, tile.x0 // width)
        has_layers = array.ndim > len(chunk)
        for place in [(n, *chunk) for n in range(array.shape[0])] if has_layers else [chunk]:
            key = f"{name}/{array.metadata.encode_chunk_key(place)}"
            sums[key] = measure_file(root / key)
    return sums


def write_checksums(folder: RunFolder, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write checksums.json: what the tiles have recorded, and the rest, measured now.

    run.json, which says that the run is complete and is written last, holds its own.
    """
    sums = {
        f"{folder.results.name}/{name}": value
        for record in records.values()
        for name, value in record.get("files", {}).items()
    }
    stores = (folder.results, folder.overview)
    names = [f"{store.name}/{name}" for store in stores for name in files_of(store)]
    names += [path.name for path in (folder.plan, folder.model, folder.clusters, folder.spectra)]
    sums |= {name: measure_file(folder.out / name) for name in names if name not in sums}
    write_sums(folder.checksums, {**sums, **_measure_drawn(folder)})


def update_drawn(folder: RunFolder) -> None:
    """Put the report and its pictures as they are now into checksums.json, if there is one."""
    with suppress(FileNotFoundError):
        sums = read_sums(folder.checksums)
        kept = {name: value for name, value in sums.items() if not is_drawn(folder, name)}
        write_sums(folder.checksums, {**kept, **_measure_drawn(folder)})


def is_drawn(folder: RunFolder, name: str) -> bool:
    """True for the report and its pictures, which ``hyperhpc report`` draws again."""
    return name == folder.report.name or name.startswith(f"{folder.figures.name}/")


def _measure_drawn(folder: RunFolder) -> Sums:
    names = [f"{folder.figures.name}/{name}" for name in files_of(folder.figures)]
    found = {name: measure_file(folder.out / name) for name in (folder.report.name, *names)}
    return {name: value for name, value in found.items() if value}


def read_recorded_sums(folder: RunFolder) -> Sums:
    """Checksums of what a run that is not finished has written, by name relative to OUT."""
    sums: dict[str, list[Any] | None] = {}
    if folder.store_sums.exists():
        with suppress(ConfigError):  # then it is made again
            sums |= _in_results(folder, read_json(folder.store_sums))
    for path in sorted(folder.records("classify").glob("*.json")):
        with suppress(ConfigError):
            sums |= _in_results(folder, read_json(path).get("files", {}))
    for path in (folder.model, folder.clusters, folder.spectra):
        if (value := _read_sum(folder, path)) and path.exists():
            sums[path.name] = value
    return sums


def _in_results(folder: RunFolder, sums: Sums) -> Sums:
    return {f"{folder.results.name}/{name}": value for name, value in sums.items()}


def _read_sum(folder: RunFolder, path: Path) -> list[Any] | None:
    """The checksum of one result of a run that is not finished, if it has one."""
    with suppress(ConfigError, KeyError, TypeError):
        value: list[Any] = read_json(folder.sum_of(path))["sum"]
        return value
    return None


def read_result(folder: RunFolder, path: Path) -> Any:
    """Read one of the JSON files of the results, compared with its checksum if there is one.

    ``path``: In OUT: model.json, clusters.json or spectra.json.

    Raises ConfigError: it cannot be read, or is no JSON; IncompleteRunError: it is not as it
    was written, or checksums.json is damaged.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        wanted = read_sums(folder.checksums).get(path.name)
    except FileNotFoundError:
        wanted = _read_sum(folder, path)
    if wanted and (what := describe_change(measure_bytes(data), wanted)):
        raise _changed(path.name, folder.out, what)
    return parse_json(path, data)


def _changed(name: str, out: Path, what: str) -> IncompleteRunError:
    return IncompleteRunError(
        f"{name} of {out} {what}, so it cannot be read",
        f"See all that is damaged: hyperhpc verify {shlex.quote(str(out))}",
    )


def files_of(root: Path) -> list[str]:
    """All files under a folder, relative to it."""
    return [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file()]


class SummedStore(GuardedStore):
    """Read-only store that raises IncompleteRunError for a file that has changed.

    Without checksums most flipped bits decode to other numbers, and a chunk that is missing
    reads as missing values, or as cluster 0. Computing them takes less time than reading.
    Files that ``sums`` does not name are read as they are.
    """

    def __init__(self, root: Path, sums: Sums) -> None:
        super().__init__(root, read_only=True)
        self.sums = sums

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file; None if there is no such file, and there was none."""
        name, out = f"{self.root.name}/{key}", self.root.parent
        try:
            buffer = await super().get(key, prototype, byte_range)
        except SceneError as error:
            raise IncompleteRunError(error.message, _changed(name, out, "").hint) from None
        if key in self.sums and byte_range is None:
            found = None if buffer is None else measure_bytes(buffer.to_bytes())
            if what := describe_change(found, self.sums[key]):
                raise _changed(name, out, what)
        return buffer


def open_summed(path: Path) -> SummedStore:
    """The store at ``path``; its files are compared with their checksums as they are read.

    Those are in checksums.json, or of a run that is not finished in OUT/work.

    Raises IncompleteRunError: checksums.json is damaged.
    """
    folder = RunFolder(path.parent)
    try:
        files = read_sums(folder.checksums)
    except FileNotFoundError:  # the run has not finished
        files = read_recorded_sums(folder) if path == folder.results else {}
    start = f"{path.name}/"
    sums = {k.removeprefix(start): files[k] for k in files if k.startswith(start)}
    return SummedStore(path, sums)
