"""hyperhpc ingest: any scene becomes one store with the same pixels."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
import pytest
import xarray as xr
import zarr

from cli_case import Program, call, check_refused, command_of, program, spawn
from hyperhpc.config import SceneOptions
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import LAYERS, SUN_LAYERS, Scene
from hyperhpc.simulate.scene import simulate
from raster_case import listed, write_envi
from run_case import assert_same_results

MEMORY = ("--memory-per-worker", "1GiB")
#: One shard after the other, so that there is time to interrupt it.
SLOWLY = (*MEMORY, "--workers", "1")


def whole_of(scene: Scene) -> np.ndarray:
    return scene.read(slice(0, scene.shape[0]), slice(0, scene.shape[1]))


def ingest(*words: Any) -> None:
    outcome = call("ingest", *words, *MEMORY)
    assert outcome.code == 0, outcome.err


def files_in(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scene that tiles are cut from."""
    path = tmp_path_factory.mktemp("whole") / "whole.h5"
    simulate(path, 150, 130, bands=20, seed=5, layout="neon")
    return path


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
@pytest.mark.parametrize("bidirectional", [False, True], ids=["001", "002"])
@pytest.mark.parametrize("chunks", ["old", "band"])
def test_ingest__of_tiles_is_the_scene_they_were_cut_from(
    tmp_path: Path, chunks: Any, bidirectional: bool
) -> None:
    how: dict[str, Any] = {"bands": 20, "seed": 5, "layout": "neon", "neon_chunks": chunks}
    how["bidirectional"] = bidirectional
    whole = simulate(tmp_path / "whole.h5", 150, 130, **how).path
    simulate(tmp_path / "tiles", 150, 130, tiles=(4, 4), **how)
    ingest(tmp_path / "tiles", tmp_path / "site.zarr")
    with h5py.File(whole) as file:  # the cube itself, without our own reader
        expected = file["CPER/Reflectance/Reflectance_Data"][...]
        images = file["CPER/Reflectance/Metadata/Ancillary_Imagery"]
        lines, about = images["Data_Selection_Index"][...], images["Data_Selection_Index"].attrs
        flown = about["Data_Files"].split(",")
        days = images["Acquisition_Date"][...] if bidirectional else None
    opened = xr.open_zarr(tmp_path / "site.zarr", group="reflectance", mask_and_scale=False)
    np.testing.assert_array_equal(opened.reflectance.values, expected)
    one, many = open_scene(whole), open_scene(tmp_path / "site.zarr")
    np.testing.assert_array_equal(many.wavelength_nm, one.wavelength_nm)
    np.testing.assert_array_equal(many.fwhm_nm, one.fwhm_nm)
    assert many.grid == one.grid
    for name in ("dtype", "nodata", "window_nodata", "scale_factor", "bad_band_windows_nm"):
        assert getattr(many, name) == getattr(one, name), name
    assert many.thinned is not None
    np.testing.assert_array_equal(whole_of(many.thinned), expected[::4, ::4])
    assert len(many.sources) == 16
    number = many.read_origins(slice(0, 150), slice(0, 130))["source"]
    assert number is not None
    for place, source in (((3, 5), 3), ((149, 129), 12), ((80, 40), 5)):
        corner = open_scene(tmp_path / "tiles" / many.sources[number[place]].name).grid
        assert corner.xmin <= one.grid.x_centres(*(place[1], place[1] + 1))[0]
        assert np.unique(number).size == 16, source
    assert not list(tmp_path.glob("*.part"))
    listed = opened.reflectance.attrs["source_files"].split("\n")
    assert listed == sorted(os.listdir(tmp_path / "tiles"))
    listed = [one["name"] for one in json.loads(opened.flight_line.attrs["sources"])]
    assert listed == flown
    np.testing.assert_array_equal(opened.flight_line, np.where(lines < 0, 65535, lines))
    if days is None:  # known from the names of the flight lines alone
        of_line = [int(name.split("_")[4]) for name in flown]
        days = np.where(lines < 0, 0, np.array(of_line)[lines])
    np.testing.assert_array_equal(opened.acquired, np.where(days < 0, 0, days))
    assert np.unique(opened.acquired).size == 3
    check_layers(whole, tmp_path / "site.zarr", lines)
    # what other readers find
    about = zarr.open_group(tmp_path / "site.zarr", mode="r").attrs
    assert about["proj:code"] == "EPSG:32613"
    assert about["spatial:transform"] == [1.0, 0.0, 517000.0, 0.0, -1.0, 4526000.0]
    assert about["spatial:dimensions"] == ["y", "x"]


def check_layers(whole: Path, store: Path, lines: np.ndarray) -> None:
    """The store has NEON's layers and angles as the file has them, and hides the same pixels."""
    raw = xr.open_zarr(store, group="reflectance", mask_and_scale=False)
    with h5py.File(whole) as file:
        about = file["CPER/Reflectance/Metadata"]
        stored = {name.lower(): name for name in (*about, *about["Ancillary_Imagery"])}
        for name in LAYERS[:6]:
            image = about.get(stored[name.lower()], about["Ancillary_Imagery"].get(name))
            np.testing.assert_array_equal(raw[name], image[...], err_msg=name)
            assert raw[name].dtype == image.dtype, name
        flown = about["Ancillary_Imagery/Data_Selection_Index"].attrs["Data_Files"].split(",")
        for name in SUN_LAYERS:
            of_log = {key: float(log[name][()]) for key, log in about["Logs"].items()}
            of_line = [next(v for key, v in of_log.items() if key in file) for file in flown]
            expected = np.where(lines < 0, -9999, np.array(of_line, np.float32)[lines])
            np.testing.assert_array_equal(raw[name], expected, err_msg=name)
    angles = xr.open_zarr(store, group="reflectance")["to-sensor_Zenith_Angle"]
    window = slice(0, 150), slice(0, 130)
    np.testing.assert_array_equal(angles, open_scene(whole).read_zenith(*window))
    np.testing.assert_array_equal(angles, open_scene(store).read_zenith(*window))
    masks = "weather", "shadow", "water,cloud", "terrain-shadow,haze_cloud_water_map=5"
    for words in masks:
        options = SceneOptions(mask=words)  # type: ignore[arg-type]
        one, two = (open_scene(path, options=options) for path in (whole, store))
        np.testing.assert_array_equal(whole_of(one), whole_of(two), err_msg=words)
        assert one.notes[-2:] == two.notes[-2:]
        for row, col, dn in two.blocks(slice(3, 140), slice(60, 130)):
            there = slice(row, row + dn.shape[0]), slice(col, col + dn.shape[1])
            np.testing.assert_array_equal(dn, one.read(*there), err_msg=words)


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_ingest__of_a_run_changes_no_bit(tmp_path: Path) -> None:
    """Masked by the files' own layers, or by those that the store has kept."""
    simulate(tmp_path / "tiles", 120, 130, bands=60, layout="neon", tiles=(2, 2), seed=2)
    ingest(tmp_path / "tiles", tmp_path / "site.zarr")
    nm = open_scene(tmp_path / "site.zarr").wavelength_nm
    index = f"x=R({nm[20]:.1f})-R({nm[9]:.1f})"
    words = ["--indices", "", "--formula", index, "--clusters", "3", *MEMORY]
    words += ["--mask", "shadow,water"]
    for scene, out in (("tiles", "one"), ("site.zarr", "two")):
        outcome = call("run", tmp_path / scene, tmp_path / out, *words)
        assert outcome.code == 0, outcome.err
    assert_same_results(tmp_path / "one", tmp_path / "two")
    notes = json.loads((tmp_path / "two" / "run.json").read_text("utf-8"))["scene"]["notes"]
    assert not any(note.startswith("0 pixels are left out") for note in notes)


@pytest.mark.e2e
def test_ingest__gives_the_same_files_with_any_workers(whole: Path, tmp_path: Path) -> None:
    ingest(whole, tmp_path / "a" / "s.zarr", "--workers", "1")
    ingest(whole, tmp_path / "b" / "s.zarr", "--workers", "2", "--threads-per-worker", "2")
    assert files_in(tmp_path / "a" / "s.zarr") == files_in(tmp_path / "b" / "s.zarr")


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_ingest__keeps_what_an_envi_file_says(tmp_path: Path) -> None:
    dn = np.random.default_rng(1).random((40, 50, 6), dtype=np.float32)
    dn[3:9, 4:8] = -1
    nm = np.array([500.0, 620.0, 610.0, 900.0, 1000.0, 2200.0])
    source = write_envi(
        tmp_path / "s.bil", dn, "bil", wavelength=listed(nm), bbl="{1, 1, 0, 1, 1, 0}",
        data_ignore_value=-1,
        map_info="{Geographic Lat/Lon, 1, 1, 12.5, 52.5, 0.001, 0.002, WGS-84, units=Degrees}",
    )  # fmt: skip
    ingest(source, tmp_path / "s.zarr")
    before, after = open_scene(source), open_scene(tmp_path / "s.zarr")
    assert after.bad_bands == before.bad_bands == (2, 5)
    assert after.grid.epsg == before.grid.epsg == 4326
    np.testing.assert_allclose(after.bounds, before.bounds, rtol=1e-12)
    assert after.wavelength_nm.tolist() == nm.tolist()
    assert (after.scale_factor, after.nodata) == (before.scale_factor, before.nodata)
    np.testing.assert_array_equal(whole_of(after), dn)


@pytest.mark.smoke
@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_ingest__of_a_part_of_a_masked_scene(whole: Path, tmp_path: Path) -> None:
    xmin, _, _, ymax = open_scene(whole).bounds
    box = f"{xmin + 10},{ymax - 90},{xmin + 75},{ymax - 21}"
    ingest(whole, tmp_path / "s.zarr", "--bbox", box, "--mask", "shadow")
    masked = open_scene(whole, options=SceneOptions(mask=("shadow",)))
    store = open_scene(tmp_path / "s.zarr")
    assert store.shape == (69, 65, 20)
    assert store.grid.xmin == xmin + 10
    expected = masked.read(slice(21, 90), slice(10, 75))
    np.testing.assert_array_equal(whole_of(store), expected)


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_ingest__has_scenes_without_a_place(tmp_path: Path) -> None:
    dn = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3)
    source = write_envi(tmp_path / "s.bsq", dn, "bsq", wavelength="{500, 600, 700}")
    ingest(source, tmp_path / "s.zarr")
    before, after = open_scene(source), open_scene(tmp_path / "s.zarr")
    assert after.grid == before.grid
    assert after.nodata == before.nodata
    np.testing.assert_array_equal(whole_of(after), dn)


# --- stopped, and gone on with --------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A scene of 3 x 4 shards, and the store of it."""
    home = tmp_path_factory.mktemp("large")
    simulate(home / "scene.h5", 1300, 1700, bands=12, layout="neon", neon_chunks="band")
    ingest(home / "scene.h5", home / "s.zarr")
    return home / "scene.h5", files_in(home / "s.zarr")


def kills(count: int) -> Iterator[float]:
    chance = random.Random(11)
    for _ in range(count):
        yield chance.uniform(0.0, 0.15)


@pytest.mark.e2e
def test_ingest__resumes_after_kills(large: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    scene, expected = large
    out, part = tmp_path / "s.zarr", tmp_path / "s.zarr.part"
    found = killed = 0
    for pause in kills(4):
        with Program(
            program("ingest", scene, out, *SLOWLY), stderr=subprocess.PIPE, start_new_session=True
        ) as process:
            deadline = time.monotonic() + 60
            while len(list(part.glob("work/*/[0b]*.json"))) <= found and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            time.sleep(pause)
            if process.poll() is not None:  # the rest was little: it came to its end
                assert process.returncode == 0, process.communicate()
                break
            os.killpg(process.pid, signal.SIGKILL)
        killed += 1
        found = len(list(part.glob("work/*/[0b]*.json")))
        if not out.exists():  # killed after the last step, before it reported its end
            check_refused(call("info", part), 4)
    assert killed >= 1
    if not out.exists():
        ingest(scene, out)
    assert files_in(out) == expected
    assert not part.exists()


@pytest.mark.e2e
def test_ingest__killed_in_its_last_moment_is_tidied_up_by_the_next_call(
    large: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    scene, expected = large
    out, part, kept = (tmp_path / name for name in ("s.zarr", "s.zarr.part", "kept"))
    with Program(
        program("ingest", scene, out, *SLOWLY), stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        while not list(part.glob("work/ingest/*.json")):
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    shutil.copytree(part, kept, ignore=shutil.ignore_patterns("store"))
    (part / "store" / ".checksums.json.part-77").touch()  # was not renamed yet
    ingest(scene, out)
    assert files_in(out) == expected
    kept.rename(part)
    check_refused(call("ingest", scene, out, "--mask", "cloud", *MEMORY), 3, "mask was")
    check_refused(call("ingest", scene, out, "--restart", *MEMORY), 3, f"{out} exists")
    assert call("ingest", scene, out, *MEMORY).code == 0
    assert files_in(out) == expected
    assert not part.exists()
    (part / "work").mkdir(parents=True)  # killed while it was removed, after its plan
    again = call("ingest", scene, out, *MEMORY)
    assert again.code == 0
    assert f"{out} is complete; nothing was changed" in again.err
    assert again.out.startswith(f"store: {out}, ")
    assert not part.exists()
    check_refused(call("ingest", scene, out, "--mask", "cloud", *MEMORY), 3, "mask was")
    check_refused(call("ingest", scene, out, "--restart", *MEMORY), 3, f"{out} exists")
    assert files_in(out) == expected
    os.truncate(next(out.rglob("c/0/0/0")), 10)
    check_refused(call("ingest", scene, out, *MEMORY), 7, "another length", "c/0/0/0")


@pytest.mark.e2e
def test_ingest__warns_of_a_lost_worker(
    large: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    scene, expected = large
    out = tmp_path / "s.zarr"
    with Program(
        program("ingest", scene, out, *SLOWLY), stderr=subprocess.PIPE, text=True
    ) as process:
        while not list((tmp_path / "s.zarr.part").glob("work/ingest/*.json")):
            assert process.poll() is None
            time.sleep(0.005)
        for child in psutil.Process(process.pid).children(recursive=True):
            if "spawn_main" in command_of(child):
                child.kill()
        _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "warning: a worker on 127.0.0.1 was lost; its tiles are processed again" in said
    assert files_in(out) == expected


@pytest.mark.e2e
def test_ingest__says_how_to_resume(large: tuple[Path, dict[str, bytes]], tmp_path: Path) -> None:
    scene, expected = large
    out = tmp_path / "s.zarr"
    with Program(
        program("ingest", scene, out, *SLOWLY), stderr=subprocess.PIPE, text=True
    ) as process:
        while not list((tmp_path / "s.zarr.part").glob("work/ingest/*.json")):
            assert process.poll() is None
            time.sleep(0.005)
        status = json.loads(call("status", out, "--json").out)
        assert (status["state"], status["process"]) == ("running", str(process.pid))
        assert status["stage"] == "writing the store"
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    status = json.loads(call("status", out, "--json").out)
    assert status["state"] == "stopped"
    assert "writing the store" in status["error"]
    assert f"To resume: hyperhpc ingest {scene} {out}" in said
    ingest(scene, out)
    assert files_in(out) == expected
    assert json.loads(call("status", out, "--json").out) == {"state": "complete"}


@pytest.mark.e2e
def test_ingest__refuses_another_scene_or_options(
    large: tuple[Path, dict[str, bytes]], tmp_path: Path
) -> None:
    scene = tmp_path / "scene.h5"
    scene.write_bytes(large[0].read_bytes())
    out, part = tmp_path / "s.zarr", tmp_path / "s.zarr.part"
    with Program(
        program("ingest", scene, out, *SLOWLY), stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        while not list(part.glob("work/ingest/*.json")):
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    xmin, ymin, _, _ = open_scene(scene).bounds
    box = f"{xmin},{ymin},{xmin + 600},{ymin + 600}"
    other = spawn("ingest", scene, out, "--bbox", box, *MEMORY)
    check_refused(other, 3, "bbox was unset", str(part))
    assert "--restart" in other.hint
    os.utime(scene, (1, 1))
    check_refused(
        spawn("ingest", scene, out, *MEMORY), 3, "the scene is another one or has changed"
    )
    ingest(scene, out, "--bbox", box, "--restart")
    assert open_scene(out).shape == (600, 600, 12)
    check_refused(call("ingest", scene, out), 3, "bbox was", str(out))
    (out / "ingest.json").unlink()  # as version 0.1 wrote it
    check_refused(call("ingest", scene, out, "--bbox", box), 3, f"{out} exists")


def test_ingest__refuses_what_it_cannot_do(whole: Path, tmp_path: Path) -> None:
    check_refused(call("ingest", tmp_path / "none.h5", tmp_path / "s.zarr"), 4, "does not exist")
    check_refused(call("ingest", tmp_path, tmp_path / "s.zarr"), 4, "without Zarr metadata")
    store = tmp_path / "store.zarr"
    simulate(store, 20, 20, bands=4)
    check_refused(call("ingest", store, store / "s.zarr", *MEMORY), 3, "lies inside the scene")
    small = call("ingest", whole, tmp_path / "s.zarr", "--memory-per-worker", "300MiB")
    assert small.code == 5, small.err
    assert not (tmp_path / "s.zarr").exists()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_ingest__of_a_truncated_tile_names_it(tmp_path: Path) -> None:
    tiles = simulate(tmp_path / "tiles", 150, 130, bands=8, layout="neon", tiles=(2, 2)).path
    victim = sorted(tiles.iterdir())[2]
    with victim.open("r+b") as file:
        file.truncate(victim.stat().st_size * 3 // 4)
    done = call("ingest", tiles, tmp_path / "s.zarr", *MEMORY)
    check_refused(done, 4, victim.name)
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_ingest__of_a_damaged_chunk_names_the_file_and_resumes(tmp_path: Path) -> None:
    tiles = simulate(tmp_path / "tiles", 100, 100, bands=8, layout="neon", tiles=(2, 2)).path
    victim = sorted(tiles.iterdir())[2]
    sound, when = victim.read_bytes(), victim.stat()
    with h5py.File(victim) as file:
        chunk = file["CPER/Reflectance/Reflectance_Data"].id.get_chunk_info(0)
    damaged = bytearray(sound)
    damaged[chunk.byte_offset + chunk.size // 2] ^= 255
    victim.write_bytes(damaged)
    os.utime(victim, ns=(when.st_atime_ns, when.st_mtime_ns))
    done = call("ingest", tiles, tmp_path / "s.zarr", *MEMORY)
    check_refused(done, 4, victim.name, "Incorrect checksum")
    assert "--skip-bad-tiles" not in done.hint  # which ingest has not got
    for path in (tmp_path / "s.zarr.part", tmp_path / "s.zarr.part" / "store"):
        left = call("info", path)
        check_refused(left, 4, "s.zarr.part is an unfinished store")
        assert "same hyperhpc ingest command" in left.hint
    assert not (tmp_path / "s.zarr").exists()
    victim.write_bytes(sound)
    os.utime(victim, ns=(when.st_atime_ns, when.st_mtime_ns))
    ingest(tiles, tmp_path / "s.zarr")
    np.testing.assert_array_equal(
        whole_of(open_scene(tmp_path / "s.zarr")), whole_of(open_scene(tiles))
    )


@pytest.mark.e2e
@pytest.mark.parametrize("command", ["ingest", "run"])
def test_ingest__and_run_say_how_the_scene_was_understood(
    command: str, whole: Path, tmp_path: Path
) -> None:
    words = ["--mask", "shadow", *MEMORY, "--workers", "1"]
    if command == "run":
        words += ["--indices", "", "--models", "lloyd", "--clusters", "2"]
    done = call(command, whole, tmp_path / "out", *words)
    assert done.code == 0, done.err
    hidden = open_scene(whole, options=SceneOptions(mask=("shadow",))).notes[-1]
    assert f"note: {hidden}" in done.err.splitlines()
    assert "pixels are left out by their quality (shadow)" in hidden


# --- verify ---------------------------------------------------------------------------


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_verify__finds_what_changed_in_a_store(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.zarr"
    ingest(whole, out)
    assert call("verify", out).code == 0
    sums = json.loads((out / "checksums.json").read_text("utf-8"))
    assert sums["algorithm"] == "crc32c"
    shard = out / "reflectance" / "reflectance" / "c" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    found = call("verify", out)
    assert found.code == 7
    assert "1 of" in found.err
    assert "reflectance/reflectance/c/0/0/0 holds other bytes" in found.out
    # the codec's own checksum sees it too
    with pytest.raises(ValueError, match=r"(?i)checksum|crc"):
        zarr.open_group(out, mode="r")["reflectance/reflectance"][...]
    shard.unlink()
    assert "reflectance/reflectance/c/0/0/0 is missing" in call("verify", out).out
    (out / "reflectance" / "extra").write_text("x")
    found = json.loads(call("verify", out, "--json").out)
    assert set(found["damaged"]) == {"reflectance/reflectance/c/0/0/0", "reflectance/extra"}
