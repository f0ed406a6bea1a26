"""Indices and classes of a run in plots, against rasterio's mask and numpy on the whole array."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely
import zarr
from affine import Affine
from pyarrow import parquet
from rasterio.features import geometry_mask

from cli_case import call, check_refused
from hyperhpc.errors import ConfigError
from hyperhpc.scene.cube import Grid
from hyperhpc.tools import plots
from hyperhpc.tools.areas import buffer_in_units
from report_case import write_case
from vector_case import geojson, write_vectors

SHAPE, LEFT, TOP = (44, 52), 515_000.0, 4_526_000.0
NAMES = ["low", "low", "C2", "the high", "the high"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of pixels of 2 m, two of whose models' classes have names."""
    out = tmp_path_factory.mktemp("plots") / "out"
    write_case(out, shape=SHAPE, clusters=5, points=0, indices=("ndvi", "cai"), pixel=2.0)
    store: Any = zarr.open_group(out / "results.zarr", mode="r+", zarr_format=2)
    labels, indices = store["cluster"][:], store["indices"][:]
    labels[:, 2:8, 2:8], indices[:, 2:8, 2:8] = 255, np.nan
    labels[:, 20:24, 20:24] = 254  # has data, and no cluster
    indices[1, 30:34, 30:34] = np.nan
    store["cluster"][:], store["indices"][:] = labels, indices
    members = {name: [k for k in range(5) if NAMES[k] == name] for name in dict.fromkeys(NAMES)}
    classes = [{"name": n, "clusters": k, "color": None} for n, k in members.items()]
    (out / "classes.json").write_text(json.dumps({"models": {"lloyd": classes}}))
    return out


def box(row0: float, col0: float, row1: float, col1: float) -> Any:
    return shapely.box(LEFT + 2 * col0, TOP - 2 * row1, LEFT + 2 * col1, TOP - 2 * row0)


PLOTS = [
    box(10.2, 10.3, 30.4, 33.9),
    shapely.Point(LEFT + 41, TOP - 61).buffer(17.3),
    shapely.union(box(1.2, 30.2, 5.3, 40.1), box(9.2, 38.2, 11.3, 49.1)),
    box(-10.3, 30.2, 6.3, 70.2),
    box(3.2, 3.2, 6.4, 6.3),
    box(20.2, 20.2, 23.3, 23.3),
    box(12.6, 12.6, 12.9, 12.9),
    box(200, 200, 210, 210),
]
STATES = ["ok", "ok", "ok", "partly outside", "no-data", "ok", "no pixel centre", "outside"]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def numbers(row: dict[str, str]) -> dict[str, float]:
    return {
        name: float(text) if text else np.nan
        for name, text in row.items()
        if name.startswith(("share", *(f"{what}_" for what in plots.STATISTICS)))
    }


def expected(run: Path, geometry: Any) -> tuple[int, int, int, dict[str, float]]:
    """Pixels inside, with data, with a cluster; the numbers of a plot, from the whole arrays."""
    store: Any = zarr.open_group(run / "results.zarr", mode="r", zarr_format=2)
    transform = Affine(2, 0, LEFT, 0, -2, TOP)
    inside = geometry_mask([geometry], SHAPE, transform, all_touched=False, invert=True)
    labels = store["cluster"][:][:, inside]
    valid = int((labels[0] != 255).sum())
    found: dict[str, float] = {}
    for model, own in zip(("lloyd", "minibatch"), labels, strict=True):
        names = NAMES if model == "lloyd" else [f"C{k}" for k in range(5)]
        n = (own < 5).sum()
        for name in dict.fromkeys(names):
            has_name = np.isin(own, [k for k in range(5) if names[k] == name]).sum()
            found[f"share_{model}_{name}"] = has_name / n if n else np.nan
    for name, values in zip(("ndvi", "cai"), store["indices"][:][:, inside], strict=True):
        kept = values[np.isfinite(values)].astype(np.float64)
        found[f"n_{name}"] = len(kept) if valid else np.nan
        for what in ("mean", "std", "min", "max", "median"):
            value = getattr(np, what)(kept) if len(kept) else np.nan
            found[f"{what.replace('std', 'sd')}_{name}"] = value
    return int(inside.sum()), valid, int((labels[0] < 5).sum()), found


@pytest.mark.parametrize("kind", ["shp", "degrees"])
def test_extract__from_a_run_is_as_computed_from_the_whole_arrays(
    run: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "_SIDE", 25)  # many windows a plot
    if kind == "shp":
        file = write_vectors(tmp_path / "plots.shp", PLOTS, "MultiPolygon", promote_to_multi=True)
    else:
        to_degrees = pyproj.Transformer.from_crs(32613, 4326, always_xy=True).transform
        moved = [
            shapely.transform(one, lambda points: np.column_stack(to_degrees(*points.T)))
            for one in PLOTS
        ]
        file = geojson(tmp_path / "plots.geojson", *moved)
    dest = tmp_path / "table.csv"
    done = call("extract", run, dest, "--polygons", file)
    assert (done.code, done.out) == (0, f"{dest}\n"), done.err
    assert "of 8: 1 no-data, 1 no pixel centre, 1 outside" in done.err
    rows = read(dest)
    assert [row["state"] for row in rows] == STATES
    if kind == "shp":
        assert [row["plot"] for row in rows] == [f"p{n}" for n in range(1, 9)]
    for row, geometry in zip(rows, PLOTS, strict=True):
        pixels, valid, clustered, found = expected(run, geometry)
        counts = [int(row[name]) for name in ("pixels", "valid", "clustered")]
        assert counts == [pixels, valid, clustered]
        own = numbers(row)
        assert list(own) == list(found)
        assert own == pytest.approx(found, nan_ok=True, rel=1e-9)
        assert (float(row["x"]), float(row["y"])) == pytest.approx(
            (geometry.centroid.x, geometry.centroid.y), abs=1e-3
        )
        shares = {name: own[f"share_lloyd_{name}"] for name in dict.fromkeys(NAMES)}
        if np.isfinite(own["share_lloyd_low"]):
            assert row["class_lloyd"] == max(shares, key=lambda name: shares[name])
        else:
            assert row["class_lloyd"] == ""
    again = call("extract", run, dest, "--polygons", file)
    assert "is now called table.old-1.csv" in again.err
    assert (tmp_path / "table.old-1.csv").read_bytes() == dest.read_bytes()


def test_buffer__is_in_metres() -> None:
    for epsg, unit in ((32613, 1.0), (2227, 1200 / 3937)):
        grid = Grid(0, 0, 1, 1, pyproj.CRS.from_epsg(epsg).to_wkt(), epsg)
        assert buffer_in_units(5.0, grid) == pytest.approx(5 / unit)
    with pytest.raises(ConfigError, match="degrees"):
        buffer_in_units(5.0, Grid(0, 0, 1, 1, pyproj.CRS.from_epsg(4326).to_wkt(), 4326))


def test_extract__from_a_run_takes_points_and_buffers(run: Path, tmp_path: Path) -> None:
    store: Any = zarr.open_group(run / "results.zarr", mode="r", zarr_format=2)
    pixel = f"{LEFT + 2 * 40 + 0.3},{TOP - 2 * 35 - 1.9}"
    outside = f"{LEFT - 1},{TOP}"
    dest = tmp_path / "points.csv"
    done = call("extract", run, dest, "--point", pixel, "--point", outside)
    assert done.code == 0, done.err
    first, second = read(dest)
    assert (first["state"], first["pixels"], first["sd_ndvi"]) == ("ok", "1", "0")
    assert float(first["mean_ndvi"]) == pytest.approx(float(store["indices"][0, 35, 40]))
    assert first["class_lloyd"] == NAMES[store["cluster"][0, 35, 40]]
    assert (second["state"], second["pixels"], second["median_cai"]) == ("outside", "0", "")
    assert call("extract", run, dest, "--point", pixel, "--buffer", "9").code == 0
    (row,) = read(dest)
    centre = shapely.Point(*map(float, pixel.split(",")))
    pixels, valid, _, found = expected(run, centre.buffer(9, quad_segs=90))
    assert (int(row["pixels"]), int(row["valid"])) == (pixels, valid)
    assert numbers(row) == pytest.approx(found, nan_ok=True, rel=1e-9)


def test_extract__from_a_run_into_parquet_and_a_geopackage(run: Path, tmp_path: Path) -> None:
    file = write_vectors(tmp_path / "plots.gpkg", [*PLOTS, None], "Unknown")
    for ending in ("csv", "parquet", "gpkg"):
        done = call("extract", run, tmp_path / f"out.{ending}", "--polygons", file)
        assert done.code == 0, done.err
    rows = read(tmp_path / "out.csv")
    assert rows[-1]["state"] == "no geometry"
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    meta, _, wkb, columns = pyogrio.raw.read(tmp_path / "out.gpkg", layer="plots")
    layer = dict(zip(meta["fields"].tolist(), columns, strict=True))
    assert meta["crs"] == "EPSG:32613"
    assert [one and shapely.from_wkb(one).wkt for one in wkb] == [*(p.wkt for p in PLOTS), None]
    for number, row in enumerate(rows):
        for name, text in row.items():
            values = table[number][name], layer[{"fid": "file_fid"}.get(name, name)][number]
            for value in values:
                if text == "" or not isinstance(value, str):
                    value = np.nan if value is None else value
                    assert value == pytest.approx(float(text or "nan"), nan_ok=True, rel=1e-9)
                else:
                    assert value == text
    check_refused(
        call("extract", run, tmp_path / "out.gpkg", "--polygons", file), 3, "exists already"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("table.txt", "--point", "1,1"), "does not end in .csv, .parquet, .gpkg"),
        (("t.csv", "--point", "1,1", "--scale", "100"), "is a run, which is not read with --scale"),
        (("t.csv", "--point", "1,1", "--buffer", "0"), "--buffer 0 is not a distance"),
        (("t.csv", "--points", "lines.geojson"), "holds lines"),
    ],
)
def test_extract__from_a_run_refuses_what_makes_no_sense(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    geojson(Path("lines.geojson"), shapely.LineString([(-105, 40), (-104, 41)]))
    check_refused(call("extract", run, *words), 3, says)
    assert [path.name for path in tmp_path.iterdir()] == ["lines.geojson"]


def test_extract__from_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_case(out, shape=(9, 9), points=0, indices=("ndvi",), models=("lloyd",), complete=False)
    check_refused(call("extract", out, tmp_path / "t.csv", "--point", "1,1"), 7, "not finished")


def test_extract__names_of_columns_differ_in_more_than_case() -> None:
    assert plots._distinct(["a", "A", "b", "a_2"]) == ["a", "A_2", "b", "a_2_2"]
