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
from zarr.storage import LocalStore

from hyperhpc.errors import IncompleteRunError
from hyperhpc.rundir.folder import RunFolder, write_json
from hyperhpc.rundir.plan import Tile

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
        if wanted and path.stat().st_size != wanted[0]:  # no need to read it
            return f"has {path.stat().st_size} bytes instead of {wanted[0]}"
        found = measure_file(path)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    if found == wanted:
        return None
    return "holds other bytes than were written" if wanted else "was not written by this run"


def write_checksums(folder: RunFolder, records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write checksums.json: what the tiles have recorded, and the rest, measured now."""
    results = folder.results.name
    sums = {
        f"{results}/{name}": value
        for record in records.values()
        for name, value in record.get("files", {}).items()
    }
    rest = [path for path in files_of(folder.results) if f"{results}/{path}" not in sums]
    sums |= {f"{results}/{path}": measure_file(folder.results / path) for path in rest}
    overview = folder.overview.name
    sums |= {
        f"{overview}/{path}": measure_file(folder.overview / path)
        for path in files_of(folder.overview)
    }
    for path in (folder.plan, folder.model, folder.clusters, folder.spectra):
        sums[path.name] = measure_file(path)
    write_json(folder.checksums, {"algorithm": "crc32c", "files": dict(sorted(sums.items()))})


def files_of(root: Path) -> list[str]:
    """All files under a folder, relative to it."""
    return [str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file()]


class SummedStore(LocalStore):
    """Read-only store that raises IncompleteRunError for a file that has changed.

    Without checksums most flipped bits decode to other numbers, and a chunk that is missing
    reads as missing values, or as cluster 0. Computing them takes less time than reading.

    ``root``: The store.
    ``sums``: [bytes, CRC-32C in hexadecimal] by the name of the file in the store; None for one
        that must not be there. Files that are not named are read as they are.
    """

    def __init__(
        self, root: Path, sums: Mapping[str, list[Any] | None], *, read_only: bool = True
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.sums = sums

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file; None if there is no such file, and there was none.

        Raises
        ------
        IncompleteRunError
            The file is not as it was written.
        """
        buffer = await super().get(key, prototype, byte_range)
        if key in self.sums and byte_range is None:
            found = None
            if buffer is not None:
                data = buffer.to_bytes()
                found = [len(data), f"{google_crc32c.value(data):08x}"]
            if found != self.sums[key]:
                raise _changed(Path(self.root), key, found, self.sums[key])
        return buffer


def open_summed(path: Path) -> LocalStore:
    """The store at ``path``; its files are compared if there is a checksums.json next to it.

    Raises IncompleteRunError: checksums.json is damaged.
    """
    checksums = RunFolder(path.parent).checksums
    try:
        files = json.loads(checksums.read_text("utf-8"))["files"]
        start = f"{path.name}/"
        sums = {name[len(start) :]: files[name] for name in files if name.startswith(start)}
    except FileNotFoundError:  # the run has not finished
        return LocalStore(path, read_only=True)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        raise IncompleteRunError(
            f"{checksums} is damaged",
            "Copy the folder of the run again, or give --restart to start from the beginning",
        ) from None
    return SummedStore(path, sums)


def _changed(root: Path, key: str, found: Any, wanted: Any) -> IncompleteRunError:
    if not found:
        what = "is missing"
    elif not wanted:
        what = "was not written by this run"
    elif found[0] != wanted[0]:
        what = f"has {found[0]} bytes instead of {wanted[0]}"
    else:
        what = "holds other bytes than were written"
    return IncompleteRunError(
        f"{root.name}/{key} of {root.parent} {what}, so it cannot be read",
        f"See all that is damaged: hyperhpc verify {shlex.quote(str(root.parent))}",
    )
