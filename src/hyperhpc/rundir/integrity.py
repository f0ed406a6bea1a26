"""Length and CRC-32C of what a run has written, kept next to it.

GDAL reads no checksum inside a store of Zarr v2 (docs/decisions/0008), so the record of a
tile holds those of its chunk files, and ``OUT/checksums.json`` in the end those of all.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import zarr

from hyperhpc.errors import IncompleteRunError, SceneError
from hyperhpc.rundir.folder import RunFolder, write_json
from hyperhpc.rundir.plan import Tile
from hyperhpc.scene.formats.zarr_guard import GuardedStore

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

#: [bytes, CRC-32C in hexadecimal]; None for a chunk of missing values only: it has no file.
Sums = Mapping[str, list[Any] | None]
_PIECE = 4 * 2**20
#: Files looked at together: a shared file system has long delays, but needs no processor.
_AT_ONCE = 8


def measure_file(path: Path) -> list[Any] | None:
    """Length and checksum of a file; None if there is none."""
    try:
        with path.open("rb", buffering=0) as file:
            size, crc = 0, 0
            while piece := file.read(_PIECE):
                size, crc = size + len(piece), google_crc32c.extend(crc, piece)
    except FileNotFoundError:
        return None
    return [size, f"{crc:08x}"]


def measure_tile(group: zarr.Group, names: Iterable[str], root: Path, tile: Tile) -> Sums:
    """Length and checksum of the chunk files of a tile, which is one chunk of each array.

    They are not flushed to disk, which takes six times as long: after a loss of power the
    checksums show which files are damaged, and those tiles are computed again.
    """
    sums: dict[str, list[Any] | None] = {}
    for name in names:
        array: zarr.Array = group[name]  # type: ignore[assignment]
        layers, height, width = array.chunks
        for layer in range(array.shape[0] // layers):
            place = (layer, tile.y0 // height, tile.x0 // width)
            key = f"{name}/{array.metadata.encode_chunk_key(place)}"
            sums[key] = measure_file(root / key)
    return sums


def find_damage(root: Path, sums: Sums) -> Iterator[tuple[str, str]]:
    """Names of the files that are not as they were written, and what is wrong."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = pool.map(lambda name: _compare(root / name, sums[name]), sums)
        yield from ((name, what) for name, what in zip(sums, found, strict=True) if what)


def _compare(path: Path, wanted: list[Any] | None) -> str | None:
    try:
        size = path.stat().st_size
        # A file of another length need not be read
        found = [size] if wanted and size != wanted[0] else measure_file(path)
    except FileNotFoundError:
        found = None
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return _describe_change(found, wanted)


def _describe_change(found: list[Any] | None, wanted: list[Any] | None) -> str | None:
    """What is wrong with a file, from its length and checksum; None if nothing is."""
    if found == wanted:
        return None
    if not found:
        return "is missing"
    if not wanted:
        return "was not written by this run"
    if found[0] != wanted[0]:
        return f"has {found[0]} bytes instead of {wanted[0]}"
    return "holds other bytes than were written"


def write_checksums(folder: RunFolder, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write checksums.json: what the tiles have recorded, and the rest, measured now."""
    sums = {
        f"{folder.results.name}/{name}": value
        for record in records.values()
        for name, value in record.get("files", {}).items()
    }
    stores = (folder.results, folder.overview)
    names = [f"{store.name}/{name}" for store in stores for name in files_of(store)]
    names += [path.name for path in (folder.plan, folder.model, folder.clusters, folder.spectra)]
    sums |= {name: measure_file(folder.out / name) for name in names if name not in sums}
    write_json(folder.checksums, {"algorithm": "crc32c", "files": dict(sorted(sums.items()))})


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
        out = self.root.parent
        hint = f"See all that is damaged: hyperhpc verify {shlex.quote(str(out))}"
        try:
            buffer = await super().get(key, prototype, byte_range)
        except SceneError as error:
            raise IncompleteRunError(error.message, hint) from None
        if key in self.sums and byte_range is None:
            found = None
            if buffer is not None:
                data = buffer.to_bytes()
                found = [len(data), f"{google_crc32c.value(data):08x}"]
            if what := _describe_change(found, self.sums[key]):
                raise IncompleteRunError(
                    f"{self.root.name}/{key} of {out} {what}, so it cannot be read", hint
                )
        return buffer


def open_summed(path: Path) -> SummedStore:
    """The store at ``path``; its files are compared if there is a checksums.json next to it.

    Raises IncompleteRunError: checksums.json is damaged.
    """
    checksums = RunFolder(path.parent).checksums
    try:
        files = json.loads(checksums.read_text("utf-8"))["files"]
        start = f"{path.name}/"
        sums = {k.removeprefix(start): files[k] for k in files if k.startswith(start)}
    except FileNotFoundError:  # the run has not finished
        return SummedStore(path, {})
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        raise IncompleteRunError(
            f"{checksums} is damaged",
            "Copy the folder of the run again, or give --restart to start from the beginning",
        ) from None
    return SummedStore(path, sums)
