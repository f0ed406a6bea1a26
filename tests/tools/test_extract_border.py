"""Extracting with points and areas as others write them, from scenes of our own making."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely
from rasterio import Affine

from cli_case import Outcome, call
from raster_case import write_tiff
from vector_case import write_vectors

DN = np.random.default_rng(0).integers(500, 5000, (12, 14, 6)).astype("int16")
LEFT, TOP = 500000, 4000100


def extract(
    folder: Path, *words: str | Path, **profile: Any
) -> tuple[list[dict[str, str]], Outcome]:
    write_tiff(folder / "s.tif", profile.pop("dn", DN), nodata=-9999, **profile)
    done = call("extract", folder / "s.tif", folder / "o.csv", *words)
    assert done.code == 0, done.err
    with (folder / "o.csv").open(newline="") as file:
        return list(csv.DictReader(file)), done


def box(x0: float, y0: float, x1: float, y1: float) -> shapely.Polygon:
    return shapely.box(LEFT + x0, TOP - y1, LEFT + x1, TOP - y0)


@pytest.mark.parametrize("kind", ["overlapping parts", "collection"])
def test_extract__area_of_an_odd_geometry(tmp_path: Path, kind: str) -> None:
    parts = [box(4, 4, 16, 16), box(10, 10, 24, 22)]
    others = [shapely.Point(LEFT, TOP), shapely.LineString([(LEFT, TOP), (LEFT + 9, TOP)])]
    given: Any = shapely.MultiPolygon(parts)
    if kind == "collection":
        given = shapely.GeometryCollection([*parts, *others])
    file = write_vectors(tmp_path / "a.gpkg", [given], "Unknown")
    (row,), _ = extract(tmp_path, "--points", file)
    x, y = np.meshgrid(LEFT + 1 + 2.0 * np.arange(14), TOP - 1 - 2.0 * np.arange(12))
    inside = np.logical_or.reduce([shapely.intersects_xy(part, x, y) for part in parts])
    assert int(row["pixels"]) == int(row["valid"]) == inside.sum()
    means = [float(value) for name, value in row.items() if name.startswith("mean_")]
    np.testing.assert_allclose(means, DN[inside].mean(axis=0) / 1e4, rtol=1e-9)


@pytest.mark.parametrize(("left", "longitude"), [(255, -105), (-105, 255)])
def test_extract__longitudes_may_differ_by_360_degrees(
    tmp_path: Path, left: float, longitude: float
) -> None:
    step = 1e-4
    (tmp_path / "p.csv").write_text(
        f"lon,lat\n{longitude + 2.5 * step:.6f},{40 - 1.5 * step:.6f}\n"
    )
    at = Affine(step, 0, left, 0, -step, 40)
    (row,), _ = extract(tmp_path, "--points", tmp_path / "p.csv", crs="EPSG:4326", transform=at)
    assert (row["state"], row["row"], row["col"]) == ("ok", "1", "2")


def test_extract__says_what_it_assumed(tmp_path: Path) -> None:
    """Reflectance in per cent is not given as 0-1 without a word."""
    place = f"{LEFT + 1},{TOP - 1}"
    _, done = extract(tmp_path, "--point", place)
    assert done.err == "note: No scale factor is declared: 10000 is assumed for integers.\n"
    (tmp_path / "o.csv").unlink()
    _, done = extract(tmp_path, "--point", place, dn=DN.astype("float32") / 100)
    assert "the values may be radiance, per cent or digital numbers" in done.err
    assert "is plausible" in call("spectrum", tmp_path / "s.tif", "--point", place).err
    (tmp_path / "o.csv").unlink()
    _, done = extract(tmp_path, "--point", place, "--scale", "5000")
    assert done.err == ""


def test_extract__points_in_degrees_are_noticed(tmp_path: Path) -> None:
    to_degrees = pyproj.Transformer.from_crs(32613, 4326, always_xy=True)
    lon, lat = to_degrees.transform(LEFT + 5, TOP - 5)
    (tmp_path / "p.csv").write_text(f"x,y\n{lon:.9f},{lat:.9f}\n")
    words = ("--points", tmp_path / "p.csv")
    _, done = extract(tmp_path, *words)
    assert "as longitude and latitude they lie inside: give --point-crs EPSG:4326." in done.err
    (row,), _ = extract(tmp_path, *words, "--point-crs", "EPSG:4326")
    assert row["state"] == "ok"


def test_spectrum__outside_the_polygons_is_said(tmp_path: Path) -> None:
    write_tiff(tmp_path / "s.tif", DN, nodata=-9999)
    aoi = write_vectors(tmp_path / "a.gpkg", [box(4, 4, 16, 16)], "Polygon")
    done = call("spectrum", tmp_path / "s.tif", "--point", f"{LEFT + 1},{TOP - 1}", "--aoi", aoi)
    assert done.hint == "Choose a point inside the flown area and the polygons of --aoi"
