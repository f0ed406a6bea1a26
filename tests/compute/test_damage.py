"""Scenes that cannot be read in one place, and workers that die: named, or left out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cli_case import call, check_refused, spawn
from hyperhpc.compute import tiles as damage
from hyperhpc.compute.tiles import (
    DamagedTileError,
    SkipPolicy,
    find_damaged_chunk,
    run_tiles,
    run_with_retries,
)
from hyperhpc.config import load_config
from hyperhpc.errors import ResourceError, SceneError
from hyperhpc.rundir.lock import hold_lock
from hyperhpc.rundir.plan import Area, Plan, Tile
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene import open_scene
from hyperhpc.scene.formats.zarr_chunks import EMPTY_CHUNKS
from hyperhpc.simulate.scene import simulate
from hyperhpc.workers import Workers, launch_workers, report_worker_losses
from run_case import assert_same_results
from zarr_case import CUBE, write

OPTIONS = "--models lloyd --memory-per-worker 1GiB --workers 1".split()
WHOLE = slice(0, 1000)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def unreadable(path: Path) -> None:
    """Reading it is an error of the file system."""
    path.unlink()
    path.mkdir()


@dataclass(frozen=True)
class Damaged:
    """A scene of several tiles, one chunk of it damaged."""

    scene: Path
    chunk: Path
    tile: Tile


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A scene in many files, as it comes from elsewhere: without a thinned copy."""
    simulate(tmp_path / "scene.zarr", 150, 160, bands=40, seed=2, zarr_format=2)
    shutil.rmtree(tmp_path / "scene.zarr" / "reflectance" / "every4th")
    return tmp_path / "scene.zarr"


def damage_scene(whole: Path, harm: Callable[[Path], None]) -> Damaged:
    """Harm a chunk in the middle of the scene."""
    chunks = sorted(
        path for path in (whole / "reflectance" / "reflectance").rglob("*") if path.is_file()
    )
    chunks = [path for path in chunks if not path.name.startswith(".")]
    chunk = chunks[len(chunks) // 2]
    scene = open_scene(whole)
    row, col, _ = map(int, chunk.name.split("."))
    y, x = row * scene.chunks[0], col * scene.chunks[1]
    config = load_config(whole, whole, {"memory_per_worker": "1GiB"})
    from hyperhpc.rundir.plan import make_plan

    (tile,) = (
        tile
        for tile in make_plan(scene, config).tiles()
        if tile.y0 <= y < tile.y1 and tile.x0 <= x < tile.x1
    )
    harm(chunk)
    return Damaged(whole, chunk, tile)


# --- found and named ------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("harm", [pytest.param(cut, marks=pytest.mark.smoke), unreadable])
def test_run__names_tile_and_file_and_resumes_when_repaired(
    whole: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    copy, out, alone = tmp_path / "copy.zarr", tmp_path / "out", tmp_path / "alone"
    shutil.copytree(whole, copy)
    found = damage_scene(whole, harm)
    check_refused(
        call("run", whole, out, *OPTIONS), 4,
        f"Tile {found.tile.name}: ", str(found.chunk), "--skip-bad-tiles", "resumes",
    )  # fmt: skip
    if found.chunk.is_dir():
        found.chunk.rmdir()
    shutil.copy2(copy / found.chunk.relative_to(whole), found.chunk)
    done = call("run", whole, out, *OPTIONS)
    assert done.code == 0, done.err
    assert call("run", copy, alone, *OPTIONS).code == 0
    assert_same_results(out, alone)


@pytest.mark.e2e
def test_run__leaves_bad_tiles_out_of_both_passes(whole: Path, tmp_path: Path) -> None:
    copy, out, alone = tmp_path / "copy.zarr", tmp_path / "out", tmp_path / "alone"
    shutil.copytree(whole, copy)
    found = damage_scene(whole, cut)
    tile = found.tile
    assert call("run", whole, out, *OPTIONS).code == 4
    again = ("run", whole, out, *OPTIONS, "--skip-bad-tiles")
    for _ in range(2):  # the second time it is complete, and says the same
        done = spawn(*again)
        assert done.code == 7, done.err
        assert f"1 tiles could not be read and are no-data in {out / 'report.html'}" in done.err
        assert f"{tile.name}: " in done.error
        assert str(found.chunk) in done.error
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert run["complete"] is True
    (entry,) = run["bad_tiles"]
    assert entry["tile"] == tile.name
    assert entry["rows"] == [tile.y0, tile.y1 - 1]
    assert entry["columns"] == [tile.x0, tile.x1 - 1]
    assert f"tile {tile.name} is left as no-data" in run["warnings"][0]
    assert f"tile {tile.name} is left as no-data" in (out / "report.html").read_text("utf-8")
    results = xr.open_zarr(out / "results.zarr", mask_and_scale=False)
    assert results.attrs["bad_tiles"] == [tile.name]
    window = {"y": slice(tile.y0, tile.y1), "x": slice(tile.x0, tile.x1)}
    assert np.isnan(results["indices"].isel(window).values).all()
    assert (results["cluster"].isel(window).values == 255).all()
    assert call("verify", out).code == 0
    # the same as of a scene that has no data there
    import zarr

    cube = zarr.open_array(copy / "reflectance" / "reflectance", mode="r+")
    cube[tile.y0 : tile.y1, tile.x0 : tile.x1] = -9999
    del cube.attrs[EMPTY_CHUNKS]  # it is emptier now
    assert call("run", copy, alone, *OPTIONS).code == 0
    assert_same_results(out, alone)
    # what was skipped cannot be wanted again, but the option may come late
    check_refused(call("run", whole, out, *OPTIONS), 3, "skip_bad_tiles was True, is False")


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_run__samples_what_the_thinned_copy_still_has(tmp_path: Path) -> None:
    scene, out, alone = tmp_path / "scene.zarr", tmp_path / "out", tmp_path / "alone"
    step = ("--stride", "4")  # that of the copy; so small a scene would get a smaller one
    simulate(scene, 150, 160, bands=40, seed=2, zarr_format=2)
    assert call("run", scene, alone, *OPTIONS, *step).code == 0
    found = damage_scene(scene, cut)
    cut(scene / "reflectance" / "every4th" / "reflectance" / "0.0.0")
    assert call("run", scene, out, *OPTIONS, *step).code == 4
    assert call("run", scene, out, *OPTIONS, *step, "--skip-bad-tiles").code == 7
    assert (out / "model.json").read_bytes() == (alone / "model.json").read_bytes()
    (entry,) = json.loads((out / "run.json").read_text("utf-8"))["bad_tiles"]
    assert entry["tile"] == found.tile.name


# --- tried again ----------------------------------------------------------------------


@dataclass
class Job:
    """As a pass has it."""

    scene: Any
    area: Area
    failures: int
    done: list[str]


def fail_at_first(job: Job, tile: Tile) -> dict[str, Any]:
    job.failures -= 1
    if job.failures >= 0:
        raise SceneError("the server is away.")
    return {"valid": 1}


def blank(job: Job, tile: Tile) -> dict[str, Any]:
    return {"valid": 0}


def test_run_with_retries__tries_three_times(
    monkeypatch: pytest.MonkeyPatch, small_scene: Path
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(damage.time, "sleep", slept.append)
    scene, tile = open_scene(small_scene), Tile("0000-0000", 0, 32, 0, 32)
    area = Area(0, 96, 0, 112)
    assert run_with_retries(fail_at_first, Job(scene, area, 2, []), tile, None) == {"valid": 1}
    assert slept == [0.0, 0.5, 2.0]
    with pytest.raises(DamagedTileError, match=r"Tile 0000-0000: the server is away$"):
        run_with_retries(fail_at_first, Job(scene, area, 3, []), tile, None)
    skip_policy = SkipPolicy(blank, {}, frozenset())
    record = run_with_retries(
        fail_at_first, Job(scene, area, 3, []), tile, skip_policy.for_tile(tile)
    )
    assert record == {"valid": 0, "bad": "the server is away"}


def test_run_with_retries__passes_agree_on_what_is_bad(small_scene: Path) -> None:
    tile = Tile("0000-0000", 0, 32, 0, 32)
    job = Job(open_scene(small_scene), Area(0, 96, 0, 112), 0, [])
    known = SkipPolicy(blank, {tile.name: "was bad"}, frozenset()).for_tile(tile)
    assert run_with_retries(fail_at_first, job, tile, known)["bad"] == "was bad"  # not read again
    used = SkipPolicy(blank, {}, frozenset({tile.name})).for_tile(tile)
    job.failures = 3
    with pytest.raises(DamagedTileError) as caught:
        run_with_retries(fail_at_first, job, tile, used)
    assert "could be read before" in str(caught.value.hint)


# --- which file -----------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dims", [("y", "x", "wl"), ("wl", "y", "x")])
def test_find_damaged_chunk__names_the_file(
    tmp_path: Path, version: int, dims: tuple[str, ...]
) -> None:
    order = [("y", "x", "wl").index(name) for name in dims]
    chunks = tuple((4, 4, 5)[axis] for axis in order)
    data = CUBE.transpose(order).copy()
    path = write(tmp_path / "s", data, version=version, dims=dims, chunks=chunks)
    scene = open_scene(path)
    rows, cols, bands = (slice(0, size) for size in scene.shape)
    assert find_damaged_chunk(scene, rows, cols, bands) is None
    place = [(1, 0, 2)[axis] for axis in order]
    folder = path / "reflectance" / "reflectance"
    name = ".".join(map(str, place)) if version == 2 else "c/" + "/".join(map(str, place))
    (folder / name).write_bytes(b"")
    assert find_damaged_chunk(scene, rows, cols, bands) == f"chunk file {folder / name}"
    assert find_damaged_chunk(scene, slice(0, 4), cols, bands) is None


def test_find_damaged_chunk__in_hdf5_by_position(tmp_path: Path) -> None:
    path = tmp_path / "scene.h5"
    simulate(path, 64, 70, bands=30, layout="neon")
    import h5py

    scene = open_scene(path)
    with h5py.File(path) as file:
        found: list[Any] = []
        file[scene.dataset].id.chunk_iter(found.append)  # type: ignore[attr-defined]
    broken = found[len(found) // 2]
    with path.open("r+b") as file:
        file.seek(broken.byte_offset)
        file.write(b"\xff" * min(broken.size, 64))
    rows, cols, bands = (slice(0, size) for size in scene.shape)
    row, col, _ = broken.chunk_offset
    words = find_damaged_chunk(scene, rows, cols, bands)
    assert words is not None
    assert words.startswith(f"the chunk at rows {row}-")
    assert f"columns {col}-" in words


# --- workers that die -----------------------------------------------------------------


def die_of_one(job: Job, tile: Tile) -> dict[str, Any]:
    """On a worker: one tile kills it, the others do not."""
    if tile.name == "0001-0001":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.05)
    return {"bytes_read": 0, "bytes_written": 0}


def die_once(job: Path, tile: Tile) -> dict[str, Any]:
    """On a worker: dies the first time."""
    mark = job / f"died-{tile.name}"
    if tile.name == "0001-0001" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"bytes_read": 0, "bytes_written": 0}


def eat(job: Path, tile: Tile) -> dict[str, Any]:
    """On a worker: takes more memory than it has, the first time."""
    mark = job / f"ate-{tile.name}"
    if tile.name == "0001-0001" and not mark.exists():
        mark.touch()
        kept = []
        for _ in range(100):
            kept.append(np.ones(2**23))
            time.sleep(0.02)
        time.sleep(30)
    return {"bytes_read": 0, "bytes_written": 0}


TILES = list(Plan(Area(0, 40, 0, 40), (10, 10), False, {}, {}).tiles())


def at_work(
    tmp_path: Path, function: Callable, job: Any, notes: list[str], memory: str = "1GiB"
) -> dict[str, Any]:
    config = load_config("s", tmp_path, {"workers": 1, "memory_per_worker": memory})
    with (
        hold_lock(tmp_path, print) as lock,
        launch_workers(config) as workers,
        report_worker_losses(workers, notes.append),
    ):
        assert isinstance(workers, Workers)
        words = function, job, TILES, tmp_path / "work", Progress(), lock.claim
        records, _ = run_tiles(workers, *words)
    return records


@pytest.mark.workers
def test_run_tiles__names_the_tile_that_kills_workers(tmp_path: Path) -> None:
    notes: list[str] = []
    with pytest.raises(ResourceError) as caught:
        at_work(tmp_path, die_of_one, None, notes)
    assert "Tile 0001-0001 has ended 3 workers, each with 1024 MiB" in caught.value.message
    assert "Give --memory-per-worker 1536MiB or more" in str(caught.value.hint)
    assert "a worker on 127.0.0.1 was lost; its tiles are processed again" in notes


@pytest.mark.workers
def test_run_tiles__a_worker_that_dies_once_is_only_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    assert len(at_work(tmp_path, die_once, tmp_path, notes)) == len(TILES)
    assert notes == ["a worker on 127.0.0.1 was lost; its tiles are processed again"]
    record = tmp_path / "work" / f"{TILES[3].name}.json"
    whole = record.read_bytes()
    record.write_bytes(whole[:5])  # is as good as none
    assert len(at_work(tmp_path, die_once, tmp_path, notes)) == len(TILES)
    assert record.read_bytes() == whole
    assert not list((tmp_path / "work").glob(".*"))


@pytest.mark.workers
def test_run_tiles__a_worker_ended_for_memory_is_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    assert len(at_work(tmp_path, eat, tmp_path, notes, "600MiB")) == len(TILES)
    assert notes == [
        "a worker needed more than its 600 MiB of memory and was restarted; "
        "its tiles are processed again"
    ]
