"""The toy format of docs/add-a-format.md, added to a copy of the package as the page says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import numpy as np
import pytest
import zarr

import hyperhpc
from docs_case import blocks
from hyperhpc.scene.formats import FORMATS
from hyperhpc.simulate.scene import Painter


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a copy of the package that has the format."""
    folder = tmp_path_factory.mktemp("source")
    _, module, row = blocks("add-a-format.md", "python")
    package = Path(str(hyperhpc.__file__)).parent
    copy = shutil.copytree(
        package, folder / "hyperhpc", ignore=shutil.ignore_patterns("__pycache__")
    )
    formats = copy / "scene" / "formats"
    (formats / "flat.py").write_text(module, "utf-8")
    table = (formats / "__init__.py").read_text("utf-8")
    start = "FORMATS = (\n"
    added, _, line = row.partition("\n\n")
    assert table.count(start) == 1
    table = table.replace(start, f"{added}\n{start}{line}")
    (formats / "__init__.py").write_text(table, "utf-8")
    return folder


def call(source: Path, *words: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "hyperhpc", *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


@pytest.mark.e2e
def test_add_a_format__info_and_run(source: Path, tmp_path: Path) -> None:
    painter = Painter(40, 44, bands=426, seed=2, nodata_fraction=0.0)
    dn, _ = painter.window(0, 0, 40, 44)
    names: dict = {}
    exec(blocks("add-a-format.md", "python")[0], names)
    path = tmp_path / "scene.flat"
    names["write_flat"](path, dn, painter.wavelength_nm)

    about = json.loads(call(source, "info", path, "--json"))
    assert (about["format"], about["shape"], about["epsg"]) == ("flat", [40, 44, 426], 32613)
    assert about["bounds"] == [517000.0, 4525960.0, 517044.0, 4526000.0]

    out = tmp_path / "out"
    options = ["--clusters", 3, "--stride", 1, "--workers", 1, "--indices", "ndvi"]
    call(source, "run", path, out, *options)
    nm, reflectance = painter.wavelength_nm, dn / 10000.0
    red, nir = (reflectance[..., np.abs(nm - wanted).argmin()] for wanted in (670, 800))
    results = zarr.open_group(out / "results.zarr", mode="r")
    found = np.asarray(results["indices"])[0]
    assert found.shape == (40, 44)
    assert np.corrcoef(found.ravel(), ((nir - red) / (nir + red)).ravel())[0, 1] > 0.99


@pytest.mark.slow
def test_add_a_format__each_band_needs_a_centre(source: Path, tmp_path: Path) -> None:
    names: dict = {}
    exec(blocks("add-a-format.md", "python")[0], names)
    dn = np.ones((5, 4, 6), np.int16)
    names["write_flat"](tmp_path / "scene.flat", dn, [500.0, 600.0, 700.0])
    error = call(source, "info", tmp_path / "scene.flat", code=4)
    assert "holds 3 band centres for 6 bands" in error


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
def test_formats__openers_exist(row) -> None:
    assert callable(resolve_name(row.opener))
