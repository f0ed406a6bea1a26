"""--aoi: only what lies inside polygons counts, wherever they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely

from cli_case import call, check_refused
from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError
from hyperhpc.rundir.plan import choose_area
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.simulate.scene import simulate
from vector_case import geojson, geopackage

RING = [(20.2, 15.1), (95.7, 30.4), (101.3, 88.8), (60.1, 55.5), (18.4, 90.9)]


@pytest.fixture(scope="module")
def scene_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("aoi") / "scene.zarr"
    simulate(path, 110, 130, bands=60, seed=3, nodata_fraction=0.0)
    return path


@pytest.fixture(scope="module")
def polygon(scene_path: Path) -> shapely.Polygon:
    """In the scene's CRS, with a hole."""
    grid = open_scene(scene_path).grid

    def place(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(grid.xmin + x, grid.ymax - y) for x, y in points]

    hole = [(40.3, 40.2), (50.1, 41.7), (45.2, 50.6)]
    return shapely.Polygon(place(RING), [place(hole)])


def to_lon_lat(geometry: Any) -> Any:
    transform = pyproj.Transformer.from_crs(32613, 4326, always_xy=True).transform
    dense = shapely.segmentize(geometry, 0.5)
    return shapely.transform(dense, lambda p: np.column_stack(transform(p[:, 0], p[:, 1])))


def opened(path: Path, aoi: Path) -> Scene:
    return open_scene(path, options=SceneOptions(aoi=aoi))


def inside(scene: Scene, polygon: Any) -> np.ndarray:
    """Bool (y, x), pixel by pixel."""
    xs = scene.grid.x_centres(0, scene.shape[1])
    ys = scene.grid.y_centres(0, scene.shape[0])
    found = [[polygon.intersects(shapely.Point(x, y)) for x in xs] for y in ys]
    return np.array(found)


@pytest.mark.parametrize("kind", ["geopackage", "lon-lat", "old crs", "other crs"])
@pytest.mark.slow
def test_aoi__keeps_the_pixels_whose_centre_is_inside(
    scene_path: Path, polygon: Any, tmp_path: Path, kind: str
) -> None:
    if kind == "geopackage":
        aoi = geopackage(tmp_path / "plots ü.gpkg", polygon)
    elif kind == "lon-lat":
        aoi = geojson(tmp_path / "plots.geojson", to_lon_lat(polygon))
    elif kind == "old crs":
        named = {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32613"}}}
        aoi = geojson(tmp_path / "plots.geojson", polygon, **named)
    else:
        aoi = geopackage(tmp_path / "plots.gpkg", to_lon_lat(polygon), srs=4326, envelope=0)
    whole, scene = open_scene(scene_path), opened(scene_path, aoi)
    kept = inside(whole, polygon)
    assert 0.2 < kept.mean() < 0.6
    dn = scene.read(slice(0, 110), slice(0, 130))
    np.testing.assert_array_equal((dn != -9999).all(axis=2), kept)
    expected = whole.read(slice(0, 110), slice(0, 130))
    np.testing.assert_array_equal(dn[kept], expected[kept])
    assert (dn[~kept] == -9999).all()
    # windows, strides, pieces and the thinned copy agree
    some = scene.read(slice(7, 101, 3), slice(11, 120, 5), np.array([2, 9]))
    np.testing.assert_array_equal(some, dn[7:101:3, 11:120:5][..., [2, 9]])
    again = np.zeros_like(dn)
    for row, col, part in scene.blocks(slice(3, 110), slice(5, 130)):
        again[row : row + part.shape[0], col : col + part.shape[1]] = part
    np.testing.assert_array_equal(again[3:, 5:], dn[3:, 5:])
    assert scene.thinned is not None
    few = scene.thinned.read(slice(0, 28), slice(0, 33))
    np.testing.assert_array_equal(few, dn[::4, ::4])
    area = choose_area(scene, None)
    rows, cols = np.flatnonzero(kept.any(axis=1)), np.flatnonzero(kept.any(axis=0))
    assert area.row0 <= rows[0]
    assert area.row1 > rows[-1]
    assert area.col1 - area.col0 <= cols[-1] - cols[0] + 3


def test_aoi__takes_all_polygons_of_a_file(scene_path: Path, polygon: Any, tmp_path: Path) -> None:
    xmin, ymin, _, _ = open_scene(scene_path).bounds
    corner = shapely.box(xmin, ymin, xmin + 5, ymin + 7)
    many = shapely.MultiPolygon([polygon, corner])
    both = opened(scene_path, geopackage(tmp_path / "two.gpkg", polygon, corner))
    one = opened(scene_path, geopackage(tmp_path / "one.gpkg", many))
    window = slice(0, 110), slice(0, 130)
    np.testing.assert_array_equal(both.read(*window), one.read(*window))
    assert (both.read(slice(103, 110), slice(0, 5)) != -9999).all()


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_aoi__of_a_run(scene_path: Path, polygon: Any, tmp_path: Path) -> None:
    """Numbers of valid pixels, and the area, are those inside; another file is another run."""
    aoi = geopackage(tmp_path / "plots.gpkg", polygon)
    out = tmp_path / "out"
    options = [
        "--models",
        "lloyd",
        "--clusters",
        "3",
        "--formula",
        "x=R(887)-R(670)",
        "--indices",
        "",
        "--aoi",
        aoi,
    ]
    done = call("run", scene_path, out, *options, "--memory-per-worker", "1GiB")
    assert done.code == 0, done.err
    run = json.loads((out / "run.json").read_text())
    assert run["pixels"]["valid"] == int(inside(open_scene(scene_path), polygon).sum())
    about = json.loads(call("info", scene_path, "--aoi", aoi, "--json").out)
    assert about["shape"][:2] == run["area"]["shape"]
    aoi.unlink()
    geopackage(aoi, polygon.buffer(-3))
    check_refused(call("run", scene_path, out, *options), 3, "aoi")


def test_aoi__bad_files_get_one_message(scene_path: Path, polygon: Any, tmp_path: Path) -> None:
    def refused(path: Path, *words: str) -> None:
        with pytest.raises(ConfigError) as caught:
            opened(scene_path, path)
        for word in (path.name, *words):
            assert word in caught.value.message, caught.value.message

    refused(tmp_path / "none.gpkg", "No such file")
    refused(tmp_path, "Is a directory")
    for text in ("", "hello", "[1, 2]", '{"type": "FeatureCollection"}', '{"type": "Polygon"}',
                 '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[0]]]}}',
                 "[" * 10000):  # fmt: skip
        path = tmp_path / "bad.geojson"
        path.write_text(text)
        refused(path, "GeoJSON")
    path = tmp_path / "bad.gpkg"
    path.write_bytes(b"SQLite format 3\x00" + b"rubbish" * 100)
    refused(path, "GeoPackage")
    refused(geojson(tmp_path / "points.geojson", shapely.Point(0, 0)), "holds no polygon")
    refused(geojson(tmp_path / "far.geojson", shapely.box(10, 50, 11, 51)), "outside the scene")
    refused(geojson(tmp_path / "metres.geojson", polygon))  # not longitudes and latitudes
    refused(geopackage(tmp_path / "nowhere.gpkg", polygon, srs=-1), "no coordinate reference")
    named = {"crs": {"type": "name", "properties": {"name": "EPSG:999999"}}}
    refused(
        geojson(tmp_path / "unknown.geojson", polygon, **named),
        "unknown coordinate reference system",
    )
