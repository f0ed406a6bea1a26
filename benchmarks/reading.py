"""The read floor: how fast processes that do nothing else read a store."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

from measure import run_hyperhpc
from record import Result, Row, stage_rows

#: Side of the windows that are read: a shard of the simulated stores.
SIDE = 512
_MULTIPLICATIONS = 6000
_ONE_THREAD = ("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "BLOSC_NTHREADS")

_read: Callable[[slice, slice], int]  # set in each reading process


def readers() -> list[str]:
    """Names: our scene by windows and by blocks, zarr, and zarrs if it is installed."""
    others = ["zarrs"] if importlib.util.find_spec("zarrs") else []
    return ["Scene.read", "Scene.blocks", "zarr", *others]


def read_bare(scene: Path, reader: str, workers: int = 2) -> float:
    """Seconds to read all of a scene in whole shards, by processes of one thread."""
    from hyperhpc.scene import open_scene

    height, width, bands = open_scene(scene).shape
    windows = [
        (row, min(row + SIDE, height), col, min(col + SIDE, width))
        for row, col in product(range(0, height, SIDE), range(0, width, SIDE))
    ]
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _open, (str(scene), reader)) as pool:
        list(pool.map(_window, windows[:1] * workers * 2))  # until all have started
        start = time.perf_counter()
        read = sum(pool.map(_window, windows))
        seconds = time.perf_counter() - start
    assert read == height * width * bands * 2, f"{reader} has read {read} bytes"
    return seconds


def multiply_bare(workers: int) -> float:
    """Seconds to multiply pixels by centres, by processes of one thread."""
    os.environ.update(dict.fromkeys((*_ONE_THREAD, "OPENBLAS_NUM_THREADS"), "1"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context) as pool:
        list(pool.map(_multiply, [1] * workers * 2))
        start = time.perf_counter()
        list(pool.map(_multiply, [_MULTIPLICATIONS // 20] * 20))
        return time.perf_counter() - start


def _multiply(times: int) -> None:
    import numpy as np

    pixels, centres = np.ones((4096, 358), np.float32), np.ones((358, 16), np.float32)
    out = np.empty((4096, 16), np.float32)
    for _ in range(times):
        np.matmul(pixels, centres, out=out)


def _open(path: str, reader: str) -> None:
    """In a reading process: choose how it reads."""
    global _read
    _read = _zarr_reader(path, reader) if reader.startswith("zarr") else _scene_reader(path, reader)


def _scene_reader(path: str, reader: str) -> Callable[[slice, slice], int]:
    from hyperhpc.scene import open_scene

    scene = open_scene(path)

    def read(rows: slice, cols: slice) -> int:
        return scene.read(rows, cols).nbytes

    def read_blocks(rows: slice, cols: slice) -> int:
        return sum(dn.nbytes for _, _, dn in scene.blocks(rows, cols))

    return read if reader == "Scene.read" else read_blocks


def _zarr_reader(path: str, reader: str) -> Callable[[slice, slice], int]:
    import zarr

    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    if reader == "zarrs":
        import zarrs  # noqa: F401  # registers its codec pipeline

        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    array = zarr.open_group(path, mode="r")["reflectance/reflectance"]

    def read(rows: slice, cols: slice) -> int:
        return array[rows, cols].nbytes

    return read


def _window(window: tuple[int, int, int, int]) -> int:
    """In a reading process: read one window, return its number of bytes."""
    top, bottom, left, right = window
    return _read(slice(top, bottom), slice(left, right))


def floor(size: int, repeats: int) -> Result:
    """Compare whole runs with the bare read of the same store."""
    from scenes import simulated, warm

    scene = simulated(size, size)
    found = []
    for _ in range(repeats):
        stored = warm(scene)
        bare = {reader: read_bare(scene, reader) for reader in readers()}
        found.append(run_hyperhpc(scene) | {"bare": bare, "stored_bytes": stored})
    fastest = [min(r["bare"].values()) for r in found]
    raw = size * size * 426 * 2 / 2**20
    passes = [r["staged_s"] - r["stages"]["fit"] for r in found]
    whole = [r["seconds"] - r["stages"]["fit"] - r["stages"]["report"] for r in found]

    def over(seconds: list[float]) -> list[float]:
        return [s / b for s, b in zip(seconds, fastest, strict=True)]

    rows = [
        Row("run without fit and report, over a bare read", over(whole), "x", at_most=2.6),
        Row("the same without start-up: both passes, overviews", over(passes), "x"),
        *(
            Row(f"bare read by {name}", [r["bare"][name] for r in found], "s")
            for name in found[0]["bare"]
        ),
        Row("bare read by the fastest", [raw / b for b in fastest], "MiB/s"),
        Row("stored size of what is read", [found[0]["stored_bytes"] / 2**20 / raw], "x"),
        *stage_rows(found),
    ]
    return Result(
        f"reading-{size}",
        f"Read floor, {size} x {size} x 426",
        f"bench.py reading --size {size} --repeats {repeats}",
        rows,
        found,
        "2 processes of 1 thread read whole shards; the store is in the page cache.",
        is_judged=size >= 4096,
    )
