"""The lines of docs/export.md for GDAL and R, run by those of Debian 13."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from image_case import work_folder

from docs_case import ROOT
from gis_case import check_gdal, check_r, gdal_version, prepare
from run_case import RunCase

pytestmark = pytest.mark.image

work_folder()

#: The folder appears as /mnt in the root; the mount ends with the process.
_RUN = """
mount --bind "$1" "$2/mnt"
root=$2
shift 2
exec chroot "$root" env -i -C /mnt PATH=/usr/bin:/bin LC_ALL=C.UTF-8 "$@"
"""


def run(folder: Path, words: list[str]) -> str:
    """Run a program of the root folder that roots.sh has made."""
    path = ["bash", str(ROOT / "tests/image/roots.sh"), "path", "gis"]
    root = subprocess.run(path, capture_output=True, text=True, check=True).stdout.strip()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-eu", "-c", _RUN, "sh", str(folder), root, *words],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_export_page__lines_for_gdal_and_r_of_debian_13(run_case: RunCase, tmp_path: Path) -> None:
    assert gdal_version(run, tmp_path) >= (3, 8)
    prepare(run_case, tmp_path)
    check_gdal(run, tmp_path, run_case)
    check_r(run, tmp_path, run_case)
