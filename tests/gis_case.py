"""The lines of docs/export.md for R and GDAL, run by a Debian's own R and GDAL."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio

from cli_case import call
from docs_case import blocks
from run_case import RunCase

#: Runs a program in a folder, and returns what it printed; an error of it fails the test.
Run = Callable[[Path, list[str]], str]
#: What R is asked after each line of the page has been run: each value becomes a line of a table.
_QUESTIONS = """
say <- function(name, values)
  cat(paste(c(name, values), collapse = ","), "\\n", sep = "", file = "said.csv", append = TRUE)
counts <- function(layer) {
  found <- freq(layer)
  found <- found[!is.na(found$value), ]
  c(found$value, found$count)
}
measure <- function(layer, what) global(layer, what, na.rm = TRUE)[1, 1]
say("layers of clusters.tif", nlyr(clusters))
say("counts", counts(clusters[[1]]))
say("missing", global(is.na(clusters[[1]]), "sum")[1, 1])
say("counts of stars", as.vector(table(labels[[1]][, , 1])))
say("zonal", mean_of_cluster[, 2])
say("lloyd", counts(lloyd))
say("lloyd missing", global(is.na(lloyd), "sum")[1, 1])
say("ndvi", c(measure(ndvi, "min"), measure(ndvi, "max")))
say("code", crs(lloyd, describe = TRUE)$code)
say("corner", as.vector(ext(lloyd)))
"""
_MORE_QUESTIONS = """
say("layers", nlyr(indices))
say("names", st_get_dimension_values(named, "index"))
"""


def gdal_version(run: Run, folder: Path) -> tuple[int, int]:
    """Major and minor version of GDAL."""
    found = re.search(r"GDAL (\d+)\.(\d+)", run(folder, ["gdalinfo", "--version"]))
    assert found
    return int(found[1]), int(found[2])


def prepare(run_case: RunCase, folder: Path) -> None:
    """A folder as the page takes it: a run in ``out``, and exported maps."""
    shutil.copytree(run_case.out, folder / "out")
    for name in ("clusters", "ndvi", "lloyd"):
        words = "--what", name
        assert call("export", run_case.out, folder / f"{name}.tif", *words).code == 0


def check_gdal(run: Run, folder: Path, run_case: RunCase) -> None:
    """GDAL knows no-data, reference system and values of the maps."""
    said = run(folder, ["sh", "-eu", "-c", "\n".join(blocks("export.md", "sh needs-gdal"))])
    assert "NoData Value=255" in said
    assert "EPSG" in said
    with rasterio.open(folder / "first-index.tif") as file:
        np.testing.assert_array_equal(file.read(1), run_case.results.indices.values[0])
        assert np.isnan(file.nodata)
    said = run(folder, ["gdalinfo", "clusters.tif"])
    assert said.count("NoData Value=255") == 2
    assert "Categories:" in said  # names of the clusters
    assert said.count("Description = ") >= 2
    assert "Color Table" in run(folder, ["gdalinfo", "lloyd.tif"])


def check_r(run: Run, folder: Path, run_case: RunCase) -> None:
    """R has the counts, means, extent and names that the run has."""
    is_new = gdal_version(run, folder) >= (3, 8)
    lines = [*blocks("export.md", "r"), _QUESTIONS]
    if is_new:
        lines += [*blocks("export.md", "r gdal-3.8"), _MORE_QUESTIONS]
    (folder / "lines.R").write_text("\n".join(lines), "utf-8")
    run(folder, ["Rscript", "--vanilla", "lines.R"])
    with (folder / "said.csv").open(encoding="utf-8", newline="") as file:
        said = {row[0]: [value for value in row[1:] if value] for row in csv.reader(file)}
    labels = run_case.results.cluster.sel(model="lloyd").values
    ndvi = run_case.results.indices.sel(index="ndvi").values.astype(np.float64)
    values, counts = np.unique(labels[labels != 255], return_counts=True)
    expected = [*values.tolist(), *counts.tolist()]
    assert [int(value) for value in said["lloyd"]] == expected
    names = [f"C{k}" for k in values]  # the file has the names of the clusters
    assert said["counts"] == [*names, *map(str, counts)]
    for name in ("missing", "lloyd missing"):
        assert [int(value) for value in said[name]] == [int((labels == 255).sum())], name
    assert [int(value) for value in said["counts of stars"]] == counts.tolist()
    means = [np.nanmean(ndvi[labels == k]) for k in values]
    np.testing.assert_allclose([float(value) for value in said["zonal"]], means, rtol=1e-5)
    limits = np.nanmin(ndvi), np.nanmax(ndvi)
    np.testing.assert_allclose([float(value) for value in said["ndvi"]], limits, rtol=1e-5)
    assert said["layers of clusters.tif"] == ["2"]
    assert said["code"] == ["32613"]
    x, y = run_case.results.x.values, run_case.results.y.values
    corners = x[0] - 0.5, x[-1] + 0.5, y[-1] - 0.5, y[0] + 0.5  # pixels of 1 m
    assert [float(value) for value in said["corner"]] == pytest.approx(corners)
    if is_new:
        assert said["layers"] == ["8"]
        assert said["names"] == run_case.results.index.values.tolist()
