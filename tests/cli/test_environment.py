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
from hyperhpc.report.style import RC, use_style
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

    with mpl.rc_context({"text.usetex": True, "lines.linestyle": ":", "axes.grid": True}):
        with use_style():
            for name in ("text.usetex", "lines.linestyle", "axes.grid"):
                assert mpl.rcParams[name] == mpl.rcParamsDefault[name]
            assert mpl.rcParams["axes.labelsize"] == RC["axes.labelsize"]
        assert mpl.rcParams["text.usetex"]


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
