"""Spectra at the features of a file, against numbers picked by hand from the array."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely

from cli_case import call, check_refused
from hyperhpc.analysis.spectra import SpectraMoments
from raster_case import write_envi
from run_case import RunCase
from vector_case import geojson, geopackage

X0, Y0 = 517000.0, 4526000.0


@pytest.fixture
def case(run_case: RunCase) -> RunCase:
    return run_case


def place(col: float, row: float) -> tuple[float, float]:
    """Coordinates of a position in pixels."""
    return X0 + col, Y0 - row


def lon_lat(x: float, y: float) -> tuple[float, float]:
    return pyproj.Transformer.from_crs(32613, 4326, always_xy=True).transform(x, y)


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def extract(case: RunCase, file: Path, *words: str | Path) -> tuple[list[dict[str, str]], str]:
    dest = file.with_name("spectra.csv")
    done = call("extract", case.scene, dest, "--points", file, *words)
    assert done.code == 0, done.err
    assert done.out == f"{dest}\n"
    return read(dest), done.err


def numbers(row: dict[str, str], prefix: str) -> np.ndarray:
    found = [v for name, v in row.items() if name.startswith(f"{prefix}_")]
    return np.array([float(v) if v else np.nan for v in found])


#: Columns and rows of valid pixels, one of no-data, one outside.
PIXELS = [(100, 80), (30, 60), (141, 77)]


@pytest.mark.parametrize("kind", ["x,y", "lon,lat", "geojson", "gpkg"])
def test_extract__points_are_the_pixels_that_hold_them(
    case: RunCase, tmp_path: Path, kind: str
) -> None:
    hidden = np.argwhere(~case.is_valid)[0][::-1]
    pixels = [*PIXELS, tuple(hidden), (-5, 20)]
    points = [place(float(col) + 0.3, float(row) + 0.8) for col, row in pixels]
    if "," in kind:
        places = [lon_lat(*p) if kind == "lon,lat" else p for p in points]
        lines = [f"{i},{a!r},{b!r},oak" for i, (a, b) in enumerate(places)]
        file = tmp_path / "points.csv"
        file.write_text("\ufeffplot," + kind.upper() + ",species\n" + "\n".join(lines) + "\n")
    elif kind == "geojson":
        file = geojson(tmp_path / "p.geojson", *[shapely.Point(lon_lat(*p)) for p in points])
    else:
        file = geopackage(tmp_path / "p.gpkg", *map(shapely.Point, points))
    rows, found = extract(case, file)
    if kind == "gpkg":
        empty = rows.pop()
        assert (empty["state"], empty["x"], empty["fid"]) == ("no geometry", "", "99")
        assert "rows without values, of 6: 1 no-data, 1 outside, 1 no geometry" in found
        assert [row["name"] for row in rows] == ["a"] * 5
    else:
        assert "rows without values, of 5: 1 no-data, 1 outside" in found
    if "," in kind:
        assert [row["plot"] for row in rows] == list("01234")
        assert {row["species"] for row in rows} == {"oak"}
    assert [row["state"] for row in rows] == ["ok", "ok", "ok", "no-data", "outside"]
    assert [row["feature"] for row in rows] == list("12345")
    for row, (col, line), point in zip(rows, pixels, points, strict=True):
        assert (float(row["x"]), float(row["y"])) == pytest.approx(point, abs=1e-3)
        spectrum = numbers(row, "nm")
        if row["state"] == "ok":
            assert (int(row["row"]), int(row["col"])) == (line, col)
            np.testing.assert_allclose(spectrum, case.dn[line, col] / 10000.0)
        else:
            assert np.isnan(spectrum).all()
    named = [name for name in rows[0] if name.startswith("nm_")]
    assert named == [f"nm_{nm:.3f}" for nm in case.wavelength_nm]


def check_moments(case: RunCase, row: dict[str, str], is_in: np.ndarray) -> None:
    """Mean, sd and n over pixels (y, x), computed at once."""
    assert int(row["pixels"]) == is_in.sum()
    picked = case.dn[is_in & case.is_valid] / 10000.0
    assert int(row["valid"]) == len(picked)
    picked[picked == -0.9999] = np.nan
    has_value = ~np.isnan(picked)
    np.testing.assert_array_equal(numbers(row, "n"), has_value.sum(axis=0))
    full = has_value.all(axis=0) & (len(picked) > 0)
    if not full.any():
        assert not len(picked)
        return
    np.testing.assert_allclose(numbers(row, "mean")[full], picked[:, full].mean(axis=0))
    np.testing.assert_allclose(numbers(row, "sd")[full], picked[:, full].std(axis=0), atol=1e-9)


def centres(case: RunCase) -> tuple[np.ndarray, np.ndarray]:
    rows, cols = np.indices(case.is_valid.shape)
    return X0 + cols + 0.5, Y0 - rows - 0.5


@pytest.mark.parametrize("kind", ["geojson", "gpkg"])
def test_extract__polygons_give_moments_of_the_pixels_inside(
    case: RunCase, tmp_path: Path, kind: str
) -> None:
    ring = [place(*p) for p in [(20.2, 15.1), (95.7, 30.4), (101.3, 88.8), (18.4, 90.9)]]
    hole = [place(*p) for p in [(40.3, 40.2), (50.1, 41.7), (45.2, 50.6)]]
    polygon = shapely.Polygon(ring, [hole])
    edge = shapely.box(*place(-10, 160), *place(200, 100))  # most of two windows, and beyond
    tiny = shapely.box(*place(10.1, 10.3), *place(10.3, 10.1))
    far = shapely.box(*place(500, 500), *place(510, 490))
    parts = shapely.MultiPolygon([shapely.box(*place(a, 70), *place(a + 3, 60)) for a in (60, 70)])
    shapes = [polygon, edge, tiny, far, parts]
    if kind == "geojson":
        named = {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32613"}}}
        rows, found = extract(case, geojson(tmp_path / "p.geojson", *shapes, **named))
    else:
        rows, found = extract(case, geopackage(tmp_path / "p.gpkg", *shapes))
        rows.pop()
    states = ["ok", "partly outside", "no pixel centre", "outside", "ok"]
    assert [row["state"] for row in rows] == states
    assert "1 no pixel centre, 1 outside" in found
    x, y = centres(case)
    for row, shape in zip(rows, shapes, strict=True):
        check_moments(case, row, shapely.intersects_xy(shape, x, y))
        centre = shape.centroid
        assert (float(row["x"]), float(row["y"])) == pytest.approx((centre.x, centre.y))
    assert not numbers(rows[3], "n").any()
    assert np.isnan(numbers(rows[3], "mean")).all()


def test_extract__buffer_takes_the_pixels_within_a_distance(case: RunCase, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    points = [place(100.2, 80.9), place(30.5, 60.5), place(1.0, 80.0)]
    file.write_text("x,y\n" + "".join(f"{x!r},{y!r}\n" for x, y in points))
    rows, _ = extract(case, file, "--buffer", "6.5")
    assert [row["state"] for row in rows][:2] == ["ok", "ok"]
    xs, ys = centres(case)
    for row, (x, y) in zip(rows, points, strict=True):
        check_moments(case, row, np.hypot(xs - x, ys - y) <= 6.5)


def test_extract__attributes_named_as_our_columns_are_kept_apart(
    case: RunCase, tmp_path: Path
) -> None:
    x, y = place(100.5, 80.5)
    feature = {
        "type": "Feature",
        "id": 7,
        "properties": {"x": 1, "state": "CO", "tags": ["a", 1], "none": None},
        "geometry": {"type": "Point", "coordinates": lon_lat(x, y)},
    }
    file = tmp_path / "one.geojson"
    file.write_text(json.dumps(feature))
    (row,), found = extract(case, file)
    assert found == ""
    assert (row["file_x"], row["file_state"], row["state"]) == ("1", "CO", "ok")
    assert (row["id"], row["tags"], row["none"]) == ("7", '[ "a", 1 ]', "")


def test_extract__heeds_what_is_masked(case: RunCase, tmp_path: Path) -> None:
    aoi = geopackage(tmp_path / "aoi.gpkg", shapely.box(*place(90, 90), *place(110, 70)))
    file = tmp_path / "p.csv"
    file.write_text("x,y\n{},{}\n{},{}\n".format(*place(100.5, 80.5), *place(30.5, 60.5)))
    rows, _ = extract(case, file, "--aoi", aoi)
    assert [row["state"] for row in rows] == ["ok", "no-data"]


@pytest.mark.parametrize(
    ("name", "text", "parts"),
    [
        ("p.csv", "a,b\n1,2\n", ["CSV", "a, b", "x and y, easting and northing, or lon and lat"]),
        ("p.csv", "x,y\n1,2\n3,north\n", ["line 3", "'north'"]),
        ("p.csv", "", ["its columns are none"]),
        ("p.csv", "x,y\n", ["holds no feature"]),
        ("p.csv", "\x00\xff,y\n", ["CSV"]),
        ("p.csv", "lon,lat\n517000,4526000\n", ["outside WGS 84", "517000"]),
        ("p.geojson", "{", ["GeoJSON", "--points"]),
        ("p.geojson", '{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}', ["lines"]),
    ],
)
def test_extract__bad_files_get_one_message(
    case: RunCase, tmp_path: Path, name: str, text: str, parts: list[str]
) -> None:
    (tmp_path / name).write_text(text, "latin-1")
    done = call("extract", case.scene, tmp_path / "out.csv", "--points", tmp_path / name)
    check_refused(done, 3, *parts)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_extract__bad_options_get_one_message(case: RunCase, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_text("x,y\n{},{}\n".format(*place(100.5, 80.5)))
    words: list[Any] = ["extract", case.scene, tmp_path / "o.csv", "--points", file]
    check_refused(call(*words, "--buffer", "-1"), 3, "--buffer -1")
    words[2] = tmp_path / "o.txt"
    check_refused(call(*words), 3, "o.txt", ".csv")
    words[2] = file
    check_refused(call(*words), 3, "exists already")
    assert file.read_text().startswith("x,y\n")


def test_extract__keeps_the_table_of_an_earlier_call(case: RunCase, tmp_path: Path) -> None:
    file, dest = tmp_path / "p.csv", tmp_path / "o.csv"
    words: list[Any] = ["extract", case.scene, dest, "--points", file]
    tables = []
    for number, pixel in enumerate(PIXELS):
        file.write_text("x,y\n{},{}\n".format(*place(*pixel)))
        done = call(*words, *(["--buffer", "3"] if number == 1 else []))
        assert done.code == 0, done.err
        kept = f"note: o.csv of an earlier call is now called o.old-{number}.csv."
        assert done.err == (f"{kept}\n" if number else "")
        tables.append(dest.read_bytes())
    old = [tmp_path / f"o.old-{number}.csv" for number in (1, 2)]
    assert [path.read_bytes() for path in (*old, dest)] == tables
    file.write_text("x,y\n1,north\n")
    assert call(*words).code == 3  # a call that fails leaves everything
    check_refused(call(*words[:4], dest), 3, "exists already")  # it is read itself
    edited = dest.read_bytes()[len("feature,") :]
    dest.write_bytes(edited)
    file.write_text("x,y\n1,2\n")
    check_refused(call(*words), 3, "exists already")
    assert dest.read_bytes() == edited
    assert sorted(tmp_path.iterdir()) == sorted([*old, dest, file])


def test_extract__of_a_real_scene_is_what_spectrum_says(shared_data: Path, tmp_path: Path) -> None:
    scene = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    x, y = 257025.0, 4111982.0
    to_degrees = pyproj.Transformer.from_crs(32611, 4326, always_xy=True).transform
    file = geojson(tmp_path / "p.geojson", shapely.Point(to_degrees(x + 0.3, y - 0.3)))
    done = call("extract", scene, tmp_path / "o.csv", "--points", file)
    assert done.code == 0, done.err
    (row,) = read(tmp_path / "o.csv")
    found = json.loads(call("spectrum", scene, "--x", str(x), "--y", str(y), "--json").out)
    expected = [np.nan if v is None else v for v in found[0]["reflectance"]]
    np.testing.assert_allclose(numbers(row, "nm"), expected)


def test_extract__needs_no_reference_system_for_x_and_y(tmp_path: Path) -> None:
    dn = np.random.default_rng(0).integers(1, 9000, (9, 7, 6)).astype(np.int16)
    scene = write_envi(tmp_path / "s.img", dn)
    file = tmp_path / "p.csv"
    file.write_text("x,y\n3.5,2.5\n")
    done = call("extract", scene, tmp_path / "o.csv", "--points", file)
    assert done.code == 0, done.err
    (row,) = read(tmp_path / "o.csv")
    np.testing.assert_allclose(numbers(row, "nm"), dn[6, 3] / 10000)  # y grows upwards
    file.write_text("lon,lat\n3.5,2.5\n")
    done = call("extract", scene, tmp_path / "p2.csv", "--points", file)
    check_refused(done, 3, "no coordinate reference system")


def test_moments__are_those_of_all_parts_together() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(1e6, 1e-2, (1000, 7))  # squares would cancel
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 6] = np.nan
    moments = SpectraMoments(7)
    for part in np.array_split(values, [0, 1, 5, 400, 401]):
        moments.add(part)
    assert moments.count == 1000
    np.testing.assert_array_equal(moments.n, (~np.isnan(values)).sum(axis=0))
    np.testing.assert_allclose(moments.mean[:6], np.nanmean(values[:, :6], axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.sd[:6], np.nanstd(values[:, :6], axis=0), rtol=1e-6)
    assert moments.columns()[6] is None
