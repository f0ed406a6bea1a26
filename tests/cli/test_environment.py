"""Settings that users made for other programs change no result and end no run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from cli_case import program
from hyperhpc.compute.stores import consolidate, create_group, create_store
from hyperhpc.report.style import RC, use_style
from hyperhpc.rundir.integrity import files_of, measure_file
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.formats.zarr_guard import own_settings
from hyperhpc.schema import CLUSTER, INDICES
from hyperhpc.simulate.scene import simulate
from raster_case import write_envi

NM = np.linspace(420.0, 2400.0, 6)
DN = np.random.default_rng(0).integers(1, 4000, (9, 7, 6)).astype(np.int16)
HOSTILE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "CPL_DEBUG": "ON",
    "PROJ_LIB": "/nowhere",
    "PROJ_DATA": "/nowhere",
    "GDAL_DATA": "/nowhere",
    "MPLBACKEND": "Qt4Agg",
    "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.0001",
    "HDF5_DRIVER": "core",
    "ZARR_ARRAY__ORDER": "F",
    "ZARR_JSON_INDENT": "7",
}


@pytest.fixture
def tiff(tmp_path: Path) -> Path:
    """With scales in scene.tif.aux.xml, which GDAL does not read if it may not look for files."""
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=9, width=7, count=6, dtype="int16", nodata=-9999,
        crs="EPSG:32613", transform=Affine(1, 0, 500000, 0, -1, 4500000), PROFILE="GeoTIFF",
    ) as file:  # fmt: skip
        file.write(np.moveaxis(DN, -1, 0))
        file.scales = [2e-4] * 6
    assert path.with_name("scene.tif.aux.xml").exists()
    (tmp_path / "nm.txt").write_text("\n".join(map(str, NM)))
    return path


def run(words: list[str], **variables: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=300, env=os.environ | variables
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tiff", "envi"])
def test_environment__gdal_reads_the_same(tiff: Path, tmp_path: Path, kind: str) -> None:
    scene = tiff if kind == "tiff" else write_envi(tmp_path / "s.img", DN)
    factor = 2e-4 if kind == "tiff" else 1e-4
    x, y = ("500002.5", "4499995.5") if kind == "tiff" else ("2.5", "4.5")
    words = program(
        "spectrum", scene, "--x", x, "--y", y, "--json", "--wavelengths", tmp_path / "nm.txt"
    )
    (tmp_path / "nm.txt").write_text("\n".join(map(str, NM)))
    (found,) = json.loads(run(words, **HOSTILE))
    np.testing.assert_allclose(found["reflectance"], DN[4, 2] * factor, rtol=1e-6)


@pytest.mark.slow
def test_environment__a_notebook_reads_the_same(tiff: Path) -> None:
    code = f"""
import hyperhpc
cube = hyperhpc.open_scene({str(tiff)!r}, wavelengths={str(tiff.with_name("nm.txt"))!r})
print(hyperhpc.spectrum(cube, [(500002.5, 4499995.5)]).values.ravel().tolist())
"""
    few = {name: HOSTILE[name] for name in ("GDAL_DISABLE_READDIR_ON_OPEN", "GDAL_PAM_ENABLED")}
    found = json.loads(run([sys.executable, "-c", code], **few))
    np.testing.assert_allclose(found, DN[4, 2] * 2e-4, rtol=1e-6)


@pytest.mark.slow
def test_environment__doctor_names_what_is_passed_over(tmp_path: Path) -> None:
    files = tmp_path / ".config" / "dask"
    files.mkdir(parents=True)
    (files / "mine.yaml").write_text("distributed: {}\n")
    (files / "dask.yaml").write_text("# temporary-directory: null\n")
    done = subprocess.run(
        program("doctor", "--json"), capture_output=True, text=True, timeout=300,
        env=os.environ | HOSTILE | {"HOME": str(tmp_path)},
    )  # fmt: skip
    (line,) = [row for row in json.loads(done.stdout) if row["check"] == "settings"]
    assert line["status"] == "ok"
    for name in (*HOSTILE, str(files / "mine.yaml")):
        assert name in line["value"]
    assert "dask.yaml" not in line["value"]


def test_environment__pictures_do_not_follow_matplotlibrc(tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"text.usetex": True, "axes.grid": True, "image.origin": "lower"}):
        with use_style():
            for name in ("text.usetex", "axes.grid", "image.origin"):
                assert mpl.rcParams[name] == mpl.rcParamsDefault[name]
            assert mpl.rcParams["axes.labelsize"] == RC["axes.labelsize"]
        assert mpl.rcParams["text.usetex"]


SETTINGS = """
import hyperhpc.environment
hyperhpc.environment.isolate()
import matplotlib, zarr
print(zarr.config.get("array.order"), matplotlib.rcParams["image.origin"])
"""


def test_environment__files_of_zarr_and_matplotlib_are_passed_over(tmp_path: Path) -> None:
    """The one of matplotlib lies in the working folder, and is no text."""
    (tmp_path / ".config" / "zarr").mkdir(parents=True)
    (tmp_path / ".config" / "zarr" / "my.yaml").write_text("array: {order: F}")
    (tmp_path / "matplotlibrc").write_bytes(b"image.origin: lower\n\xff\n")
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS], capture_output=True, text=True, timeout=300,
        cwd=tmp_path, env=os.environ | HOSTILE | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.stdout.split() == ["C", "upper"], done.stderr
    assert not done.stderr


def test_own_settings__stored_bytes_do_not_follow_zarr_config(tmp_path: Path) -> None:
    import zarr

    grid = Grid(xmin=0, ymax=9, px=1, py=1)
    sums = []
    for number, settings in enumerate(({}, {"array.order": "F", "json_indent": 7})):
        path = tmp_path / str(number)
        with zarr.config.set(settings), own_settings():
            root = create_store(path)
            create_group(root, {INDICES: ["a"], CLUSTER: ["b"]}, grid, (9, 9), (9, 9), {})
            consolidate(path)
        sums.append({name: measure_file(path / name) for name in files_of(path)})
    assert sums[0] == sums[1]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "content", ["distributed: {worker: {memory: {terminate: 0.0001}}}", "a: [b"]
)
def test_environment__a_run_passes_over_files_of_the_user(tmp_path: Path, content: str) -> None:
    """The YAML is one that would end every worker, and one that is malformed."""
    home = tmp_path / "home"
    (home / ".config" / "dask").mkdir(parents=True)
    (home / ".config" / "dask" / "my.yaml").write_text(content)
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    scene, out = tmp_path / "s.zarr", tmp_path / "out"
    simulate(scene, 40, 40, bands=60)
    rc = str(tmp_path / "matplotlibrc")
    options = ["--clusters", "3", "--stride", "1", "--workers", "2", "--models", "lloyd"]
    run(program("run", scene, out, *options), **HOSTILE, HOME=str(home), MATPLOTLIBRC=rc)
    assert (out / "report.html").exists()
