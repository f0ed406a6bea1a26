"""From NEON's files to a store: how fast it is written, and how fast it is read."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

from measure import HYPERHPC, cache, measure
from reading import SIDE, read_bare
from record import Result, Row
from scenes import check_free, warm

#: Both layouts of NEON's files.
_LAYOUTS = ("old", "band")
_MEMORY = "2GiB"
_BANDS = 426
_FILE = 2**25


def files(layout: str, side: int) -> Path:
    """A folder of four simulated tiles, created at the first call."""
    path = cache() / f"neon-{layout}-{2 * side}x{2 * side}"
    if not path.exists():
        check_free(cache(), 4 * side * side * _BANDS * 2)
        size = f"--size={2 * side}x{2 * side}"
        how = ["--layout=neon", "--tiles=2x2", f"--neon-chunks={layout}"]
        measure([*HYPERHPC, "simulate", str(path), size, *how], cache() / "simulate.log")
    return path


def read_by_h5py(folder: Path, processes: int) -> float:
    """Seconds to read all files, every chunk once, by a number of processes."""
    context = multiprocessing.get_context("spawn")
    tiles = sorted(folder.glob("*.h5"))
    with ProcessPoolExecutor(processes, context, _import_h5py) as pool:
        list(pool.map(abs, range(8)))  # until all have started
        start = time.perf_counter()
        list(pool.map(_read_file, tiles))
        return time.perf_counter() - start


def _import_h5py() -> None:
    import h5py  # noqa: F401


def _read_file(path: Path) -> int:
    import h5py

    read = 0
    with h5py.File(path) as file:
        cube = file["CPER/Reflectance/Reflectance_Data"]
        is_by_band = cube.chunks[2] == 1
        step = 32 if is_by_band else cube.chunks[0]
        for first in range(0, cube.shape[2 if is_by_band else 0], step):
            part = slice(first, first + step)
            read += (cube[:, :, part] if is_by_band else cube[part]).nbytes
    return read


def write_bare(folder: Path, n_bytes: int) -> float:
    """Seconds to write that many bytes by two processes, in files of 32 MiB."""
    context = multiprocessing.get_context("spawn")
    n_files = max(n_bytes // _FILE, 1)
    folder.mkdir()
    try:
        with ProcessPoolExecutor(2, context) as pool:
            list(pool.map(abs, range(8)))
            start = time.perf_counter()
            list(pool.map(_write_file, [folder / str(n) for n in range(n_files)]))
            return time.perf_counter() - start
    finally:
        shutil.rmtree(folder)


def _write_file(path: Path) -> None:
    path.write_bytes(bytes(_FILE))


def ingest(side: int, repeats: int) -> Result:
    """Compare ingest of both layouts with reading by h5py, and the store with xarray's."""
    found: list[dict[str, Any]] = []
    store = cache() / "ingested.zarr"
    plain = cache() / "xarray.zarr"
    for _ in range(repeats):
        entry: dict[str, Any] = {}
        for layout in _LAYOUTS:
            folder = files(layout, side)
            warm(folder)
            shutil.rmtree(store, ignore_errors=True)
            alone, bare = read_by_h5py(folder, 1), read_by_h5py(folder, 2)
            command = [*HYPERHPC, "ingest", str(folder), str(store), "--workers=2"]
            taken = measure([*command, f"--memory-per-worker={_MEMORY}"], cache() / "log")
            stored = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
            written = write_bare(store.with_suffix(".bytes"), stored)
            entry[layout] = {"alone": alone, "h5py": bare, "write": written, **vars(taken)}
        if not plain.exists():
            _write_by_xarray(files("old", side), plain)
        for path in (store, plain):
            warm(path)
        entry["store"], entry["xarray"] = read_bare(store, "Scene.blocks"), read_chunks(plain)
        found.append(entry)
    for path in (store, plain):
        shutil.rmtree(path)
    gigabytes = (2 * side) ** 2 * _BANDS * 2 / 1e9
    names = {"old": "chunks of few pixels and bands", "band": "one band a chunk"}
    rows = []
    for layout in _LAYOUTS:
        taken, bare = [r[layout]["seconds"] for r in found], [r[layout]["h5py"] for r in found]
        alone = [r[layout]["alone"] for r in found]
        over_one = [t / a for t, a in zip(taken, alone, strict=True)]
        over = [t / b for t, b in zip(taken, bare, strict=True)]
        floor = [t / (b + r[layout]["write"]) for t, b, r in zip(taken, bare, found, strict=True)]
        peaks = [r[layout]["peak_mib"] / 4096 for r in found]
        what = names[layout]
        rows += [
            Row(f"ingest over h5py in one process, {what}", over_one, "x", at_most=1.5),
            Row(f"ingest over h5py in two processes, {what}", over, "x", at_most=1.5),
            Row(f"ingest over the latter and writing the store's bytes, {what}", floor, "x"),
            Row(f"ingest, {what}", [gigabytes / t for t in taken], "GB/s"),
            Row(f"h5py in one process, {what}", [gigabytes / a for a in alone], "GB/s"),
            Row(f"h5py in two processes, {what}", [gigabytes / b for b in bare], "GB/s"),
            Row(
                f"writing the store's bytes alone, {what}", [r[layout]["write"] for r in found], "s"
            ),
            Row(f"peak of all over 2 x {_MEMORY}, {what}", peaks, "x", at_most=1.0),
        ]
    gain = [r["xarray"] / r["store"] for r in found]
    rows += [
        Row("reading xarray's default Zarr over the store", gain, "x", at_least=3.0),
        Row("reading the store", [gigabytes / r["store"] for r in found], "GB/s"),
        Row("reading xarray's default", [gigabytes / r["xarray"] for r in found], "GB/s"),
    ]
    return Result(
        "ingest",
        f"Ingest, four tiles of {side} x {side} x {_BANDS}",
        f"bench.py ingest --size {side} --repeats {repeats}",
        rows,
        found,
        "Whole process, 2 workers of 1 thread; files in the page cache, GB of int16. h5py "
        "reads one file at a time in each process, every chunk once. The store's "
        "bytes are written by two processes too, from memory to the page cache.",
        is_judged=side >= 1000,
    )


def _write_by_xarray(folder: Path, path: Path) -> None:
    """Write the same cube by ``Dataset.to_zarr`` without options."""
    import xarray as xr

    from hyperhpc.scene import open_scene

    scene = open_scene(folder)
    dn = scene.read(slice(0, scene.shape[0]), slice(0, scene.shape[1]))
    cube = xr.DataArray(dn, dims=("y", "x", "wl"), name="reflectance")
    cube.to_dataset().to_zarr(path)


def read_chunks(path: Path) -> float:
    """Seconds to read an array by zarr in windows of whole chunks, by two processes."""
    import zarr

    array = zarr.open_array(path / "reflectance", mode="r")
    sides = [max(SIDE // chunk, 1) * chunk for chunk in array.chunks[:2]]
    windows = list(
        product(*(range(0, size, side) for size, side in zip(array.shape, sides, strict=False)))
    )
    jobs = [(str(path), y, y + sides[0], x, x + sides[1]) for y, x in windows]
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "BLOSC_NTHREADS"), "1"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context) as pool:
        list(pool.map(_read_window, [(str(path), 0, 1, 0, 1)] * 8))
        start = time.perf_counter()
        list(pool.map(_read_window, jobs))
        return time.perf_counter() - start


def _read_window(job: tuple[str, int, int, int, int]) -> int:
    import zarr

    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    path, top, bottom, left, right = job
    array = zarr.open_array(Path(path) / "reflectance", mode="r")
    return int(array[top:bottom, left:right].nbytes)
