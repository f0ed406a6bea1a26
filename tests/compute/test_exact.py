"""The same bits whatever the workers, threads, tiles and formats; and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from hyperhpc.cli.main import main
from hyperhpc.simulate.scene import simulate
from run_case import RunCase, assert_same_results

POINT = ["--point", "517100.5,4525919.5"]


def run(scene: Path, out: Path, *options: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["run", str(scene), str(out), *POINT, *options])
    assert stop.value.code == 0


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_run__same_bits_with_other_workers_and_tiles(
    run_case: RunCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperhpc.rundir.plan.TARGET_TILES", 2)
    options = "--workers 1 --threads-per-worker 3 --memory-per-worker 700MiB".split()
    run(run_case.scene, tmp_path / "out", *options)
    plans = [json.loads((o / "plan.json").read_text()) for o in (run_case.out, tmp_path / "out")]
    assert plans[0]["tile_shape"] != plans[1]["tile_shape"]
    assert_same_results(run_case.out, tmp_path / "out")


@pytest.mark.e2e
@pytest.mark.parametrize("chunks", [pytest.param("old", marks=pytest.mark.smoke), "band"])
@pytest.mark.usefixtures("no_report")
def test_run__same_bits_from_neon_hdf5(
    run_case: RunCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunks: str
) -> None:
    scene = tmp_path / "NEON_D10_CPER_DP3_517000_4525000_reflectance.h5"
    simulate(scene, 160, 200, seed=3, layout="neon", neon_chunks=chunks)  # type: ignore[arg-type]
    # As if all bands of the scene did not fit at once: the band chunks must be transposed
    monkeypatch.setattr("hyperhpc.rundir.memory.TILE_FACTOR", 12.0)
    run(scene, tmp_path / "out", "--workers", "2", "--memory-per-worker", "700MiB")
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["tiles"]["transposed"] is (chunks == "band")
    peaks = record["peak_memory_mib"]
    assert max(mib for name, mib in peaks.items() if name != "client") < 700, peaks
    wavelengths = [
        json.loads((out / "model.json").read_text())["wavelength_nm"]
        for out in (run_case.out, tmp_path / "out")
    ]
    np.testing.assert_allclose(*wavelengths, atol=1e-3)  # the HDF5 file holds float32
    a, b = (
        xr.open_zarr(out / "results.zarr", mask_and_scale=False)
        for out in (run_case.out, tmp_path / "out")
    )
    np.testing.assert_array_equal(a.cluster.values, b.cluster.values)
    np.testing.assert_array_equal(a.indices.values.view("u4"), b.indices.values.view("u4"))


@pytest.mark.smoke
@pytest.mark.e2e
def test_run__resumes_after_a_kill(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = "--workers 1 --memory-per-worker 700MiB --threads-per-worker 3".split()
    command = [sys.executable, "-m", "hyperhpc", "run", str(run_case.scene), str(out), *POINT]
    for stage in ("sample", "classify"):
        process = subprocess.Popen(
            [*command, *options], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        records = out / "work" / stage
        deadline = time.monotonic() + 120
        while len(list(records.glob("0*.json"))) < 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, f"no record of {stage} after 120 s"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not json.loads((out / "run.json").read_text())["complete"]
        if stage == "classify":  # an interrupted run can be looked at, and says it is one
            with pytest.raises(SystemExit) as stop:
                main(["report", str(out)])
            assert stop.value.code == 0
    run(run_case.scene, out, "--workers", "2")
    record = json.loads((out / "run.json").read_text())
    resumed = {stage["name"]: stage["tiles_resumed"] for stage in record["stages"]}
    assert resumed["sample"] == len(list_tiles(record))
    assert resumed["classify"] >= 2
    assert_same_results(run_case.out, out)


def list_tiles(record: dict) -> list[int]:
    height, width = record["area"]["shape"]
    tile = record["tiles"]["shape"]
    return list(range(-(-height // tile[0]) * -(-width // tile[1])))


def test_run__of_a_finished_run_does_nothing(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    run(run_case.scene, out)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_run__bbox_equals_a_cut_of_the_whole(run_case: RunCase, tmp_path: Path) -> None:
    # Columns 30-129, rows 20-139; stride counts from the first row and column of the box
    options = "--bbox 517030,4525860,517130,4525980 --models minibatch --clusters 3".split()
    options += ["--formula", "red=R(650)", "--indices", "ndvi"]
    run(run_case.scene, tmp_path / "out", *options)
    results = xr.open_zarr(tmp_path / "out" / "results.zarr", mask_and_scale=False).load()
    assert results.sizes == {"index": 2, "model": 1, "y": 120, "x": 100}
    whole = run_case.results.indices.sel(index="ndvi")[20:140, 30:130]
    np.testing.assert_array_equal(results.indices.sel(index="ndvi").values, whole.values)
    np.testing.assert_array_equal(results.x, whole.x)
    np.testing.assert_array_equal(results.y, whole.y)
    model = json.loads((tmp_path / "out" / "model.json").read_text())
    every = slice(20, 140, 2), slice(30, 130, 2)  # of every third, fewer than 2,000
    picked = run_case.dn[every][run_case.is_valid[every]]
    assert model["n_pixels_fit"] == len(picked)
    np.testing.assert_allclose(model["mean"], picked[:, run_case.good].mean(axis=0) / 10000)
