"""Scenes for the benchmarks: simulated once, cached, enlarged by hard links."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import hyperhpc
from measure import HYPERHPC, cache, measure

#: Sources that decide what a simulated scene holds.
_SOURCES = ("simulate/*.py", "scene/thinned.py", "scene/formats/zarr_*.py")
CUBE = Path("reflectance") / "reflectance"
THINNED = Path("reflectance") / "every4th" / "reflectance"


def simulated(rows: int, columns: int, bands: int = 426) -> Path:
    """A simulated scene, created at the first call; one made by older sources is removed."""
    package = Path(hyperhpc.__file__).parent
    sources = sorted(path for pattern in _SOURCES for path in package.glob(pattern))
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources))
    name = f"scene-{rows}x{columns}x{bands}"
    path = cache() / f"{name}-{state.hexdigest()[:8]}.zarr"
    if not path.exists():
        for old in cache().glob(f"{name}-*"):
            shutil.rmtree(old)
        check_free(cache(), rows * columns * bands * 2)
        size = f"--size={rows}x{columns}"
        command = [*HYPERHPC, "simulate", str(path), size, f"--bands={bands}"]
        measure(command, cache() / "simulate.log")
    return path


@contextmanager
def tiled(block: Path, rows: int, columns: int) -> Iterator[Path]:
    """A scene of any size whose shards are hard links to those of a simulated block.

    It takes no disk space, and is removed at the end. Shards at its edges reach over them, as
    in any Zarr store.
    """
    import zarr

    from hyperhpc.simulate.write_zarr import ZarrWriter

    cube = zarr.open_array(block / CUBE, mode="r")
    assert cube.shards, f"{block} has no shards"
    side = cube.shards[0]
    across = [-(-size // side) for size in cube.shape[:2]]
    path = cache() / f"domain-{rows}x{columns}.zarr"
    shutil.rmtree(path, ignore_errors=True)
    try:
        ZarrWriter(path, (rows, columns, cube.shape[2]), 3)
        for cube_path in (CUBE, THINNED):  # both arrays have the same shards
            chunks = path / cube_path / "c"
            for i, j in product(range(-(-rows // side)), range(-(-columns // side))):
                found = Path(str(i % across[0]), str(j % across[1]), "0")
                shard = block / cube_path / "c" / found
                if shard.exists():  # an empty shard is not stored
                    (chunks / str(i) / str(j)).mkdir(parents=True)
                    os.link(shard, chunks / str(i) / str(j) / "0")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def warm(scene: Path) -> int:
    """Read every file of a scene once, into the page cache; return the number of bytes."""
    total, seen = 0, set()
    for path in sorted(scene.rglob("*")):
        inode = path.stat().st_ino
        if path.is_file() and inode not in seen:
            seen.add(inode)
            with path.open("rb", buffering=0) as file:
                while piece := file.read(2**24):
                    total += len(piece)
    return total


def check_free(folder: Path, need: float) -> None:
    """Exit with a message if the disk has not that many bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < need:
        sys.exit(
            f"{folder} has {free / 2**30:.0f} GiB free, {need / 2**30:.0f} GiB are needed: "
            "make room, or set HYPERHPC_CACHE to another disk"
        )
