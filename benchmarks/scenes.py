"""Scenes to measure on: simulated once, kept in the cache, of any size by hard links."""

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
from measure import HYPERHPC, measure

#: Sources that decide what a simulated scene holds.
_SOURCES = (
    "cube_store.py", "land.py", "materials.py", "simulate.py", "thinned.py", "write.py"
)  # fmt: skip
CUBE = Path("reflectance") / "reflectance"
THINNED = Path("reflectance") / "every4th" / "reflectance"


def cache() -> Path:
    """Folder for scenes and runs: $HYPERHPC_CACHE/bench, as ``make clean`` names it."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HYPERHPC_CACHE") or Path(home) / "hyperhpc") / "bench"


def simulated(rows: int, columns: int, bands: int = 426) -> Path:
    """A simulated scene, made at the first call; one of older sources is removed."""
    scene = Path(hyperhpc.__file__).parent / "scene"
    state = hashlib.sha256(b"".join((scene / name).read_bytes() for name in _SOURCES))
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

    It takes no room on the disk, and is removed at the end. Shards at its edges reach over
    them, as those of any Zarr store do.
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
        for cube_path in (CUBE, THINNED):  # a shard of one has its twin in the other
            chunks = path / cube_path / "c"
            for i, j in product(range(-(-rows // side)), range(-(-columns // side))):
                found = Path(str(i % across[0]), str(j % across[1]), "0")
                shard = block / cube_path / "c" / found
                if shard.exists():  # one without any data is not stored
                    (chunks / str(i) / str(j)).mkdir(parents=True)
                    os.link(shard, chunks / str(i) / str(j) / "0")
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def warm(scene: Path) -> int:
    """Read every file of a scene once, so that it lies in the page cache; its bytes."""
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
    """End here, with a sentence, if the disk has not that many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < need:
        sys.exit(
            f"{folder} has {free / 2**30:.0f} GiB free, {need / 2**30:.0f} GiB are needed: "
            "make room, or set HYPERHPC_CACHE to another disk"
        )
