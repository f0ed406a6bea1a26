"""Polygons and merged regions, against rasterio and numpy on the whole array, read by pyogrio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
import zarr
from affine import Affine
from rasterio.features import geometry_mask, shapes, sieve

from cli_case import call, check_refused
from hyperhpc.results import open_results, reader
from hyperhpc.results.classes import plain_classes
from hyperhpc.tools.export import polygons
from hyperhpc.tools.export.regions import merge_small_regions, number_regions, sieve_sizes
from report_case import write_case

SHAPE = (32, 40)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of pixels of 2 m, with no-data, pixels in no cluster, and merged names."""
    out = tmp_path_factory.mktemp("polygons") / "out"
    write_case(out, shape=SHAPE, clusters=5, points=0, indices=("ndvi", "cai"), pixel=2.0)
    (out / "plan.json").write_text("{}")
    store: Any = zarr.open_group(out / "results.zarr", mode="r+", zarr_format=2)
    labels = store["cluster"][0]
    labels[20:30, 10:40][labels[20:30, 10:40] == 3] = 254
    store["cluster"][0] = labels
    names = ["low", "low", "C2", "high", "high"]
    entries = {name: [k for k in range(5) if names[k] == name] for name in dict.fromkeys(names)}
    classes = [{"name": n, "clusters": k, "color": None} for n, k in entries.items()]
    (out / "classes.json").write_text(json.dumps({"models": {"lloyd": classes}}))
    return out


def class_map(out: Path) -> np.ndarray:
    store: Any = zarr.open_group(out / "results.zarr", mode="r", zarr_format=2)
    labels = store["cluster"][0]
    return np.where(labels == 1, 0, np.where(labels == 4, 3, labels)).astype(np.uint8)


def sieved(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Regions below 40 m2, which are 10 pixels of 4 m2, merged in steps."""
    for size in (2, 4, 8, 10):
        values = sieve(values, size, mask=mask, connectivity=4)
    return values


@pytest.mark.parametrize("min_area", [None, 40.0])
def test_export__polygons_are_those_of_rasterio_on_the_whole_array(
    run: Path, tmp_path: Path, min_area: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "STRIP_ROWS", 16)  # many seams
    monkeypatch.setattr(polygons, "_BATCH", 100)
    path = tmp_path / "classes.gpkg"
    words = () if min_area is None else ("--min-area", str(min_area))
    done = call("export", run, path, "--what", "lloyd", *words)
    assert (done.code, done.out) == (0, f"{path}\n"), done.err
    values = class_map(run)
    mask = np.isin(values, (0, 2, 3))
    assert (values == 254).any()
    if min_area is not None:
        values = sieved(values, mask)
    transform = Affine(2, 0, 515_000, 0, -2, 4_526_000)
    expected = {
        (shapely.geometry.shape(shape).normalize().wkb, int(value))
        for shape, value in shapes(values, mask, 4, transform)
    }
    meta, _, wkb, columns = pyogrio.raw.read(path, layer="lloyd")
    found = dict(zip(meta["fields"].tolist(), columns, strict=True))
    geometries = shapely.from_wkb(wkb)
    assert shapely.is_valid(geometries).all()
    keys = zip(shapely.to_wkb(shapely.normalize(geometries)), found["class"].tolist(), strict=True)
    assert set(keys) == expected
    assert len(geometries) == len(expected)
    assert meta["crs"] == "EPSG:32613"
    names = {0: "low", 2: "C2", 3: "high"}
    assert found["name"].tolist() == [names[k] for k in found["class"].tolist()]
    np.testing.assert_allclose(found["area_m2"], shapely.area(geometries))
    np.testing.assert_allclose(found["area_ha"], shapely.area(geometries) / 1e4)
    np.testing.assert_array_equal(found["pixels"] * 4, found["area_m2"])
    assert found["pixels"].sum() == mask.sum()
    indices = open_results(run)
    for name in ("ndvi", "cai"):
        index = indices.values(name, slice(None)).astype(np.float64)
        for geometry, mean in zip(geometries[::9], found[f"mean_{name}"][::9], strict=True):
            inside = geometry_mask([geometry], SHAPE, transform, invert=True)
            inside &= np.isfinite(index)
            assert mean == pytest.approx(
                index[inside].mean() if inside.any() else np.nan, nan_ok=True
            )
    small = int((found["pixels"] < 10).sum())
    if min_area is None or not small:
        assert done.err == ""
    else:
        assert f"note: {small} of {len(expected)} polygons of lloyd are smaller" in done.err


def test_export__polygons_of_all_models_have_styles_for_qgis(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.gpkg"
    assert call("export", run, path).code == 0
    layers = dict(pyogrio.list_layers(path).tolist())
    assert layers == {"lloyd": "Polygon", "minibatch": "Polygon", "layer_styles": None}
    meta, _, _, columns = pyogrio.raw.read(path, layer="layer_styles")
    styles = dict(zip(meta["fields"].tolist(), columns, strict=True))
    assert styles["f_table_name"].tolist() == ["lloyd", "minibatch"]
    assert set(styles["f_geometry_column"]) == {"geom"}
    assert styles["useAsDefault"].all()
    tree = ET.fromstring(styles["styleQML"][0])
    categories = tree.findall(".//category")
    assert [category.get("value") for category in categories] == ["low", "C2", "high"]
    meta, _, _, columns = pyogrio.raw.read(path, layer="lloyd", read_geometry=False)
    found = dict(zip(meta["fields"].tolist(), columns, strict=True))
    colours = dict(zip(found["name"].tolist(), found["color"].tolist(), strict=True))
    for category, symbol in zip(categories, tree.findall(".//symbol"), strict=True):
        (value,) = (p.get("v") for p in symbol.iter("prop") if p.get("k") == "color")
        assert value is not None
        rgb = [int(part) for part in value.split(",")[:3]]
        assert "#" + "".join(f"{part:02x}" for part in rgb) == colours[category.get("value")]


def test_export__map_with_merged_regions_is_that_of_rasterio(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "merged.tif"
    assert call("export", run, path, "--what", "lloyd", "--min-area", "40").code == 0
    values = class_map(run)
    mask = np.isin(values, (0, 2, 3))
    merged = sieved(values, mask)
    with rasterio.open(path) as file:
        found = file.read(1)
        assert file.tags(1)["min_area_m2"] == "40"
    np.testing.assert_array_equal(found[mask], merged[mask])
    np.testing.assert_array_equal(found[~mask], values[~mask])
    rows = ET.parse(f"{path}.aux.xml").findall(".//Row")
    counts = {int(row[0].text or ""): int(row[5].text or "") for row in rows}
    assert counts == {k: int((merged[mask] == k).sum()) for k in (0, 2, 3)}


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("c.gpkg", ("--what", "ndvi"), "no map of clusters 'ndvi'"),
        ("c.gpkg", ("--min-area", "0"), "--min-area 0 is not an area"),
        ("c.gpkg", ("--min-area", "nan"), "--min-area nan is not an area"),
        ("c.tif", ("--what", "ndvi", "--min-area", "9"), "ndvi is an index"),
        ("c.csv", ("--min-area", "9"), "--min-area is for maps and polygons"),
        ("c.tif", ("--format", "gpkg"), "does not end in .gpkg"),
    ],
)
def test_export__polygons_refuse_what_makes_no_sense(
    run: Path, tmp_path: Path, name: str, words: tuple[str, ...], says: str
) -> None:
    check_refused(call("export", run, tmp_path / name, *words), 3, says)
    assert not list(tmp_path.iterdir())


def test_export__polygons_replace_no_file_and_are_limited(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.gpkg"
    path.write_text("mine")
    check_refused(call("export", run, path), 3, "exists already")
    assert path.read_text() == "mine"
    monkeypatch.setattr(polygons, "MAX_FEATURES", 3)
    check_refused(call("export", run, tmp_path / "d.gpkg"), 3, "at most 3 polygons", "--min-area")
    assert [file.name for file in tmp_path.iterdir()] == ["c.gpkg"]


def test_export__polygons_without_a_reference_system(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_case(out, shape=(9, 8), clusters=2, points=0, models=("lloyd",), epsg=None)
    path = tmp_path / "c.gpkg"
    check_refused(call("export", out, path, "--min-area", "4"), 3, "in metres is not known")
    assert call("export", out, path).code == 0
    meta, _, _, columns = pyogrio.raw.read(path, layer="lloyd")
    found = dict(zip(meta["fields"].tolist(), columns, strict=True))
    assert meta["crs"] is None or "Undefined" in meta["crs"]
    assert np.isnan(found["area_m2"]).all()
    assert found["pixels"].sum() == 72


def test_regions__sieve_clamps_and_keeps_what_is_alone() -> None:
    values = np.array([[0, 0, 1], [0, 255, 255], [254, 255, 1]], np.uint8)
    for size in (3, 1000):
        merged = merge_small_regions(values, plain_classes(2), size)
        np.testing.assert_array_equal(merged, [[0, 0, 0], [0, 255, 255], [254, 255, 1]])
    assert [sieve_sizes(n) for n in (1, 2, 3, 4, 5)] == [[], [2], [2, 3], [2, 4], [2, 4, 5]]
    regions = number_regions(values, plain_classes(2))
    assert regions.classes[1:].tolist() == [0, 1, 1]
    assert regions.pixels.tolist() == [4, 3, 1, 1]
