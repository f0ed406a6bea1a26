"""Length and CRC-32C of what a run has written, kept beside it.

GDAL reads no checksum inside a store of Zarr v2 (docs/decisions/0008), so the record of a
tile holds those of its chunk files, and ``OUT/checksums.json`` in the end those of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import zarr

from hyperhpc.pipeline.manifest import RunFolder, write_json
from hyperhpc.rundir.plan import Tile

#: [bytes, CRC-32C in hexadecimal]; None for a chunk of missing values only: it has no file.
Sums = Mapping[str, list[Any] | None]
_PIECE = 4 * 2**20
#: Files looked at together: what a shared file system needs is patience, not processors.
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
    """Those of the chunk files of one tile, which must be a chunk of each array.

    They are not flushed to disk, which takes six times as long: after a loss of power the
    record tells what did not get there, and those tiles are computed again.
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
    """Gather what the tiles have recorded, and measure the rest."""
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
