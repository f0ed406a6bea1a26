"""The page's lines for GDAL and R, run by those that are installed here."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from gis_case import check_gdal, check_r, gdal_version, prepare
from run_case import RunCase

#: R's packages, and what brings them to a Debian.
_PACKAGES = "terra", "stars"
_HINT = "apt-get install gdal-bin r-base-core r-cran-terra r-cran-stars"


def run(folder: Path, words: list[str]) -> str:
    """Run a program of this machine, without the settings that rasterio's wheel needs."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("GDAL_", "PROJ_"))}
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def folder(run_case: RunCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run and exported maps."""
    if shutil.which("gdalinfo") is None:
        pytest.skip(f"gdalinfo is not installed ({_HINT})")
    folder = tmp_path_factory.mktemp("gis")
    if gdal_version(run, folder) < (3, 6):
        pytest.skip("GDAL is older than 3.6")
    prepare(run_case, folder)
    return folder


@pytest.mark.docs
def test_export_page__lines_for_gdal(folder: Path, run_case: RunCase) -> None:
    check_gdal(run, folder, run_case)


@pytest.mark.docs
def test_export_page__lines_for_r(folder: Path, run_case: RunCase) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip(f"Rscript is not installed ({_HINT})")
    wanted = "".join(f"stopifnot(nzchar(system.file(package='{name}')));" for name in _PACKAGES)
    if subprocess.run(["Rscript", "-e", wanted], capture_output=True).returncode:
        pytest.skip(f"R has no terra or stars ({_HINT})")
    check_r(run, folder, run_case)
