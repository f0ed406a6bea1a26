"""Maps and tables for other programs, read back with rasterio, rio-cogeo and csv alone."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
import xarray as xr
from pyarrow import parquet
from pyproj import CRS
from rasterio.shutil import copy
from rio_cogeo import cog_validate

from cli_case import Outcome, call, check_refused, spawn
from hyperhpc.compute.stores import create_group, create_store
from hyperhpc.report.style import cluster_colours
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.georef import pixel_area_m2
from hyperhpc.schema import CLUSTER, INDICES
from raster_case import write_envi
from run_case import RunCase

INDEX_NAMES = "ndvi cai ndli mrendvi sipi ndni cri1 cri2".split()


def export(out: Path, dest: Path, *words: str) -> Path:
    done = call("export", out, dest, *words)
    assert done.code == 0, done.err
    assert done.err == ""
    for line in done.out.splitlines():
        assert Path(line).stat().st_size
    assert done.out.splitlines()[0] == str(dest)
    assert not list(dest.parent.glob(".*"))
    return dest


def as_gdal_sees(path: Path) -> list[ET.Element]:
    """The bands of a file with all that GDAL knows of them, as VRT."""
    described = path.with_suffix(".vrt")
    copy(path, described, driver="VRT")
    return ET.parse(described).findall("VRTRasterBand")


def hexes(n: int) -> list[str]:
    return ["#" + "".join(f"{round(v * 255):02x}" for v in c) for c in cluster_colours(n)]


@pytest.mark.parametrize("kind", ["cog", "geotiff"])
@pytest.mark.parametrize("what", ["clusters", "indices", "minibatch", "sipi"])
def test_export__maps_equal_the_results(
    run_case: RunCase, tmp_path: Path, kind: str, what: str
) -> None:
    path = export(run_case.out, tmp_path / "maps.tif", "--what", what, "--format", kind)
    results = run_case.results
    names = {"clusters": ["lloyd", "minibatch"], "indices": INDEX_NAMES}.get(what, [what])
    is_cluster = what in ("clusters", "minibatch")
    with rasterio.open(path) as file:
        assert file.descriptions == tuple(names)
        assert set(file.units) == {"1"}
        assert file.crs.to_epsg() == 32613
        x, y = (results[axis].values for axis in ("x", "y"))
        assert file.xy(0, 0) == (x[0], y[0])
        assert file.xy(len(y) - 1, len(x) - 1) == (x[-1], y[-1])
        assert set(file.dtypes) == {"uint8" if is_cluster else "float32"}
        assert file.nodata == 255 if is_cluster else math.isnan(file.nodata)
        for band, name in enumerate(names, 1):
            where = {"model" if is_cluster else "index": name}
            true = results["cluster" if is_cluster else "indices"].sel(where).values
            np.testing.assert_array_equal(file.read(band), true)
            assert file.tags(band)["long_name"]
        assert (file.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG") == (kind == "cog")


def test_export__clusters_have_names_and_the_report_s_colours(
    run_case: RunCase, tmp_path: Path
) -> None:
    pixels = run_case.json("clusters")["models"]["lloyd"]["pixels"]
    path = export(run_case.out, tmp_path / "lloyd.tif", "--what", "lloyd")
    (band,) = as_gdal_sees(path)
    names = [f"C{k}" for k in range(8)]
    assert [node.text for node in band.findall("CategoryNames/Category")][:8] == names
    with rasterio.open(path) as file:
        table = file.colormap(1)
    assert ["#{:02x}{:02x}{:02x}".format(*table[k][:3]) for k in range(8)] == hexes(8)
    rows = [
        [f.text for f in row.findall("F")]
        for row in ET.parse(f"{path}.aux.xml").iterfind(".//GDALRasterAttributeTable/Row")
    ]
    assert [(int(row[0]), row[1], int(row[-1])) for row in rows] == [
        (k, f"C{k}", n) for k, n in enumerate(pixels)
    ]
    entries = ET.parse(path.with_suffix(".qml")).findall(".//paletteEntry")
    found = [(e.get("value"), e.get("color"), e.get("label")) for e in entries]
    assert found == [(str(k), c, f"C{k}") for k, c in enumerate(hexes(8))]
    # Without the .aux.xml file the colours are still there
    alone = tmp_path / "alone.tif"
    shutil.copy(path, alone)
    with rasterio.open(alone) as file:
        assert file.colormap(1)[3][:3] == table[3][:3]


def test_export__several_models_have_names_each_and_a_style_each(
    run_case: RunCase, tmp_path: Path
) -> None:
    path = export(run_case.out, tmp_path / "both.tif")
    for band in as_gdal_sees(path):
        assert [node.text for node in band.findall("CategoryNames/Category")][7] == "C7"
    for number, name in (("1", "both.qml"), ("2", "both.minibatch.qml")):
        render = ET.parse(tmp_path / name).find(".//rasterrenderer")
        assert render is not None
        assert (render.get("band"), render.get("type")) == (number, "paletted")


def test_export__styles_of_indices_have_the_report_s_limits(
    run_case: RunCase, tmp_path: Path
) -> None:
    export(run_case.out, tmp_path / "i.tif", "--what", "indices")
    entries = {entry["name"]: entry for entry in run_case.json("run")["indices"]["computed"]}
    overview = xr.open_zarr(run_case.out / "overview.zarr", group="1", mask_and_scale=False)
    red, near = (overview["quicklook"].isel(color=band).values for band in (0, 3))
    is_land = (near >= red) & (near >= 0.05)
    for number, name in enumerate(INDEX_NAMES, 1):
        style = tmp_path / ("i.qml" if number == 1 else f"i.{name}.qml")
        render = ET.parse(style).find(".//rasterrenderer")
        assert render is not None
        assert render.get("band") == str(number)
        values = overview["indices"].sel(index=name).values[is_land]
        low, median, high = np.nanpercentile(values, (2, 50, 98))
        least, most = entries[name]["range"]
        if least <= median <= most:
            low, high = max(low, least), min(high, most)
        if entries[name]["diverging"]:  # two-sided about zero
            low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
        stops = [float(item.get("value", "")) for item in render.iter("item")]
        np.testing.assert_allclose(stops, np.linspace(low, high, 17), rtol=1e-5, atol=1e-7)


@pytest.fixture(scope="module")
def wide(run_case: RunCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, its maps made larger than one block, with ragged no-data."""
    out = tmp_path_factory.mktemp("wide") / "out"
    shutil.copytree(run_case.out, out)
    shutil.rmtree(out / "results.zarr")
    (out / "checksums.json").unlink()
    wkt = run_case.results["spatial_ref"].attrs["crs_wkt"]
    group = create_store(out / "results.zarr")
    variables = {INDICES: ["ndvi"], CLUSTER: ["lloyd"]}
    shape = (1100, 1300)
    create_group(group, variables, Grid(517000, 4526000, 1, 1, wkt, 32613), shape, (300, 300), {})
    source = run_case.results
    labels = np.resize(source["cluster"].values[0], shape)
    values = np.resize(source["indices"].values[0], shape)
    labels[:70, :333], values[:70, :333] = 255, np.nan
    group["cluster"][0], group["indices"][0] = labels, values  # type: ignore[index]
    return out


@pytest.mark.parametrize("what", ["clusters", "indices"])
def test_export__larger_than_a_block_is_a_valid_cog(wide: Path, tmp_path: Path, what: str) -> None:
    path = export(wide, tmp_path / "wide.tif", "--what", what)
    is_valid, errors, warned = cog_validate(path, strict=True)
    assert is_valid, (errors, warned)
    with rasterio.open(path) as file:
        full = file.read(1)
        assert file.overviews(1) == [2, 4]
        half = file.read(1, out_shape=(550, 650))
    blocks = full.reshape(550, 2, 650, 2).swapaxes(1, 2).reshape(550, 650, 4)
    if what == "indices":
        n = np.isfinite(blocks).sum(axis=2)
        mean = np.nansum(blocks, axis=2, dtype=np.float64) / np.where(n, n, np.nan)
        np.testing.assert_allclose(half, mean, rtol=1e-5)
        return
    # Where three of four pixels agree, they win; no-data does not count
    counts = np.stack([(blocks == k).sum(axis=2) for k in range(8)])
    is_clear = counts.max(axis=0) >= 3
    assert is_clear.sum() > 1000
    np.testing.assert_array_equal(half[is_clear], counts.argmax(axis=0)[is_clear])
    np.testing.assert_array_equal(half == 255, (blocks == 255).all(axis=2))


@pytest.mark.parametrize("what", [pytest.param("clusters", marks=pytest.mark.slow), "points"])
def test_export__parquet_has_the_columns_of_csv(
    run_case: RunCase, tmp_path: Path, what: str
) -> None:
    rows = read_csv(export(run_case.out, tmp_path / "t.csv", "--what", what))
    table = parquet.read_table(export(run_case.out, tmp_path / "t.parquet", "--what", what))
    assert table.column_names == list(rows[0])
    for name in table.column_names:
        for value, text in zip(table[name].to_pylist(), [r[name] for r in rows], strict=True):
            if isinstance(value, float):
                assert value == pytest.approx(float(text), rel=1e-11)
            else:
                assert ("" if value is None else str(value)) == text


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_export__table_of_clusters_is_as_computed_from_the_arrays(
    run_case: RunCase, tmp_path: Path
) -> None:
    rows = read_csv(export(run_case.out, tmp_path / "c.csv"))
    assert [(r["model"], r["cluster"]) for r in rows] == [
        (model, str(k)) for model in ("lloyd", "minibatch") for k in range(8)
    ]
    results = run_case.results
    n_valid = run_case.is_valid.sum()
    sample = run_case.dn[run_case.every][run_case.is_valid[run_case.every]] / 10000.0
    for row in rows:
        labels = results["cluster"].sel(model=row["model"]).values
        mine = labels == int(row["cluster"])
        assert int(row["pixels"]) == mine.sum()
        assert float(row["share"]) == pytest.approx(mine.sum() / n_valid)
        assert float(row["area_m2"]) == pytest.approx(mine.sum())
        assert float(row["area_ha"]) == pytest.approx(mine.sum() / 1e4)
        for name in INDEX_NAMES:
            values = results["indices"].sel(index=name).values[mine].astype(float)
            assert float(row[f"mean_{name}"]) == pytest.approx(np.nanmean(values), rel=1e-9)
            shown = [float(row[f"{what}_{name}"]) for what in ("q25", "median", "q75")]
            np.testing.assert_allclose(shown, np.nanquantile(values, (0.25, 0.5, 0.75)), 1e-9)
        fitted = sample[mine[run_case.every][run_case.is_valid[run_case.every]]]
        if row["model"] == "lloyd":  # of mini-batch the sample's labels are those of the fit
            assert int(row["spectrum_pixels"]) == len(fitted)
            for band in np.flatnonzero(run_case.good)[::50]:
                nm = f"{run_case.wavelength_nm[band]:.3f}"
                assert float(row[f"mean_{nm}"]) == pytest.approx(fitted[:, band].mean())
                assert float(row[f"sd_{nm}"]) == pytest.approx(fitted[:, band].std(), rel=1e-6)


@pytest.mark.parametrize(
    ("epsg", "area"), [(32613, 6.0), (4326, None), (2225, 6 * (1200 / 3937) ** 2), (None, None)]
)
def test_pixel_area_m2__only_of_lengths(epsg: int | None, area: float | None) -> None:
    """Metres, degrees, US survey feet, and no reference system at all."""
    wkt = CRS.from_epsg(epsg).to_wkt() if epsg else None
    found = pixel_area_m2(Grid(0, 0, 2, 3, wkt, epsg))
    assert found == (None if area is None else pytest.approx(area))


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_export__table_without_lengths_has_no_areas(tmp_path: Path) -> None:
    dn = np.random.default_rng(0).integers(1, 9000, (20, 24, 60)).astype(np.int16)
    scene = write_envi(tmp_path / "s.img", dn)
    words = "--models lloyd --clusters 2".split()
    assert call("run", scene, tmp_path / "out", *words).code == 0
    rows = read_csv(export(tmp_path / "out", tmp_path / "c.csv"))
    assert sum(int(row["pixels"]) for row in rows) == 480
    assert [(row["area_m2"], row["area_ha"]) for row in rows] == [("", "")] * 2
    path = export(tmp_path / "out", tmp_path / "c.tif")
    with rasterio.open(path) as file:
        assert file.crs is None
        assert file.bounds == (0, 0, 24, 20)


def test_export__table_of_points_holds_results_and_spectrum(
    run_case: RunCase, tmp_path: Path
) -> None:
    (row,) = read_csv(export(run_case.out, tmp_path / "p.csv", "--what", "points"))
    y, x = 80, 100
    assert (float(row["x"]), float(row["y"])) == (517100.5, 4525919.5)
    for model in ("lloyd", "minibatch"):
        label = run_case.results["cluster"].sel(model=model).values[y, x]
        assert int(row[f"cluster_{model}"]) == label
    for name in INDEX_NAMES:
        value = float(run_case.results["indices"].sel(index=name).values[y, x])
        assert float(row[name]) == pytest.approx(value, rel=1e-9)
    spectrum = [float(value) for name, value in row.items() if name.startswith("nm_")]
    np.testing.assert_allclose(spectrum, run_case.dn[y, x] / 10000.0)


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["x.tif", "--what", "water"], 3, ["'water'", "clusters indices lloyd minibatch ndvi"]),
        (["x.csv", "--what", "ndvi"], 3, ["'ndvi'", "clusters points lloyd minibatch"]),
        (["x.png"], 3, ["x.png", ".tif"]),
        (["x.csv", "--format", "cog"], 3, ["x.csv", ".tif"]),
        (["no/x.tif"], 3, ["no folder", "mkdir -p"]),
    ],
)
def test_export__refuses_in_one_message(
    run_case: RunCase, tmp_path: Path, words: list[str], code: int, parts: list[str]
) -> None:
    done = call("export", run_case.out, tmp_path / words[0], *words[1:])
    check_refused(done, code, *parts)
    assert not list(tmp_path.iterdir())


def test_export__never_overwrites(run_case: RunCase, tmp_path: Path) -> None:
    for name in ("a.tif", "b.qml", "c.tif.aux.xml"):
        (tmp_path / name).write_text("mine")
        dest = tmp_path / f"{name[0]}.tif"
        check_refused(call("export", run_case.out, dest), 3, name, "exists already")
        assert (tmp_path / name).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 3


def test_export__of_an_unfinished_run_says_how_to_go_on(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    run = json.loads((out / "run.json").read_text("utf-8"))
    run |= {"complete": False, "command": "hyperhpc run a b --restart"}
    (out / "run.json").write_text(json.dumps(run))
    done = call("export", out, tmp_path / "x.tif")
    check_refused(done, 7, "is not finished", "hyperhpc run a b")
    assert "--restart" not in done.hint
    assert not (tmp_path / "x.tif").exists()


#: Exports as the command does, and is killed when it has moved one file to its place.
_KILLED = """
import os, pathlib, signal, sys
from hyperhpc.cli.main import main
move = pathlib.Path.replace
def move_once(path, target):
    move(path, target)
    if pathlib.Path(target).name == "c.qml":
        os.kill(os.getpid(), signal.SIGKILL)
pathlib.Path.replace = move_once
main(["export", *sys.argv[1:]])
"""


@pytest.mark.slow
def test_export__removes_what_a_killed_one_has_left(run_case: RunCase, tmp_path: Path) -> None:
    (tmp_path / "d.qml").write_text("mine")
    words = [sys.executable, "-c", _KILLED, str(run_case.out), str(tmp_path / "c.tif")]
    assert subprocess.run(words).returncode == -signal.SIGKILL
    left = {path.name.partition(".part-")[0] for path in tmp_path.iterdir()}
    assert left == {"d.qml", "c.qml", ".c.tif"}
    export(run_case.out, tmp_path / "c.tif", "--what", "ndvi")  # which has no .aux.xml
    assert {path.name for path in tmp_path.iterdir()} == {"d.qml", "c.qml", "c.tif"}
    assert (tmp_path / "d.qml").read_text() == "mine"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here: run the tests as root, outside a container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.e2e
@pytest.mark.parametrize("kib", [4, 200, 700])
@pytest.mark.parametrize("words", [("i.tif",), ("i.tif", "--format", "geotiff"), ("i.csv",)])
def test_export__on_a_full_disk_says_so_once_and_leaves_nothing(
    run_case: RunCase, tiny_disk: Path, kib: int, words: tuple[str, ...]
) -> None:
    is_small = words[0] == "i.csv" and kib > 4  # the table
    filler = os.urandom((kib - 60) * 1024) if is_small else b""
    what = "clusters" if words[0] == "i.csv" else "indices"
    subprocess.run(["mount", "-o", f"remount,size={kib}k", tiny_disk], check=True)
    (tiny_disk / "filler").write_bytes(filler)
    done: Outcome = spawn("export", run_case.out, tiny_disk / words[0], "--what", what, *words[1:])
    check_refused(done, 5, "i.", "cannot be written", "MB are free", "room")
    assert len(done.err.splitlines()) == 2, done.err
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]
