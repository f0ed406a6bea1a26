"""``hyperhpc run --unmix``: the fractions of a whole run, its tiles, and its repair."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from scipy.optimize import nnls

from cli_case import call, check_refused
from hyperhpc.report.mixtures import fraction_note, fraction_table
from hyperhpc.report.plots.fractions import measure_fraction
from hyperhpc.results import open_results
from hyperhpc.simulate.materials import BRIGHT, DRY, GREEN, SHADOW, SHRUB, endmembers
from hyperhpc.tools.csv_table import band_columns, write_table
from hyperhpc.view.layers import MapLayers
from hyperhpc.view.markup import index_legend
from hyperhpc.view.viewed_run import open_viewed_run
from run_case import RunCase, flip
from vector_case import geojson

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("shared_workers")]

OPTIONS = "--models lloyd --clusters 3 --indices ndvi --memory-per-worker 1GiB".split()
NAMES = {"grass": GREEN, "shrub": SHRUB, "dry vegetation": DRY, "soil": BRIGHT, "shade": SHADOW}
GROUPS = {"grass": "green vegetation", "shrub": "green vegetation"}


def point_of(scene: Path) -> list[str]:
    """A point on data, as options."""
    opened = xr.open_zarr(scene, group="reflectance")
    row, col = np.argwhere(RunCase(scene, Path()).is_valid)[2000]
    return ["--point", f"{float(opened.x[col])},{float(opened.y[row])}"]


@pytest.fixture(scope="module")
def table(small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true spectra of five classes."""
    case, path = RunCase(small_scene, Path()), tmp_path_factory.mktemp("table") / "true.csv"
    spectra = endmembers(case.wavelength_nm)[:, case.good] / 10000.0
    head = ["name", "group", *band_columns("nm", case.wavelength_nm[case.good])]
    rows = [[n, GROUPS.get(n, ""), *spectra[k].astype(float).tolist()] for n, k in NAMES.items()]
    write_table(path, head, rows)
    return path


@pytest.fixture(scope="module")
def run(
    small_scene: Path, table: Path, shared_workers: None, tmp_path_factory: pytest.TempPathFactory
) -> RunCase:
    out = tmp_path_factory.mktemp("unmix") / "out"
    done = call("run", small_scene, out, "--unmix", table, *OPTIONS, *point_of(small_scene))
    assert done.code == 0, done.err
    return RunCase(small_scene, out)


def test_unmix__is_the_constrained_minimum_of_each_pixel(run: RunCase, table: Path) -> None:
    fraction, rmse = run.results["fraction"], run.results["unmixing_rmse"]
    assert list(fraction.endmember.values) == list(NAMES)
    assert fraction.dtype == rmse.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(fraction.values), [~run.is_valid] * len(NAMES))
    np.testing.assert_array_equal(np.isnan(rmse.values), ~run.is_valid)
    np.testing.assert_allclose(fraction.values[:, run.is_valid].sum(axis=0), 1, atol=1e-6)
    spectra = np.genfromtxt(table, delimiter=",", skip_header=1)[:, 2:]
    weighted = np.vstack([spectra.T, np.full(len(spectra), 1e4)])
    for row, col in np.argwhere(run.is_valid)[::211]:
        pixel = run.dn[row, col, run.good] / 10000.0
        wanted = nnls(weighted, [*pixel, 1e4])[0]
        np.testing.assert_allclose(fraction.values[:, row, col], wanted, atol=1e-5)
        residual = float(np.sqrt(((pixel - wanted @ spectra) ** 2).mean()))
        assert float(rmse[row, col]) == pytest.approx(residual, abs=1e-6)


def test_unmix__its_overview_and_record(run: RunCase) -> None:
    level = xr.open_zarr(run.out / "overview.zarr", group="1", mask_and_scale=False)
    for name in ("fraction", "unmixing_rmse"):
        np.testing.assert_array_equal(level[name].values, run.results[name].values)
    coarse = xr.open_zarr(run.out / "overview.zarr", group="4", mask_and_scale=False)
    blocks = run.results["fraction"].values.reshape(5, 24, 4, 28, 4).transpose(0, 1, 3, 2, 4)
    is_whole = run.is_valid.reshape(24, 4, 28, 4).all(axis=(1, 3))
    means = blocks.reshape(5, 24, 28, 16).mean(axis=3, dtype=np.float64)
    np.testing.assert_allclose(coarse["fraction"].values[:, is_whole], means[:, is_whole], 1e-6)
    about = run.json("run")["unmixing"]
    assert about["by"] == "reflectance"
    assert [g["name"] for g in about["groups"]] == [
        "green vegetation", "dry vegetation", "soil", "shade",
    ]  # fmt: skip
    assert about["pixels"] == run.is_valid.sum()
    assert about["groups"][2]["mean"] == pytest.approx(
        float(np.nanmean(run.results["fraction"].sel(endmember="soil"))), abs=1e-6
    )


@pytest.mark.usefixtures("no_report")
def test_unmix__same_bits_with_other_tiles(
    run: RunCase, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperhpc.rundir.plan.TARGET_TILES", 1)
    out = tmp_path / "out"
    words = ("--unmix", table, "--apply-model", run.out / "model.json", "--models", "lloyd")
    done = call("run", run.scene, out, *words, "--indices", "ndvi")
    assert done.code == 0, done.err
    shapes = [json.loads((o / "plan.json").read_text())["tile_shape"] for o in (run.out, out)]
    assert shapes[0] != shapes[1]
    again = RunCase(run.scene, out)
    for name in ("fraction", "unmixing_rmse", "indices", "cluster"):
        assert again.results[name].values.tobytes() == run.results[name].values.tobytes()
    assert again.json("run")["unmixing"] == run.json("run")["unmixing"]


def test_unmix__is_repaired_and_belongs_to_its_table(
    run: RunCase, table: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(run.out, out)
    names = ("results.zarr/fraction/2.0.0", "results.zarr/unmixing_rmse/0.0")
    before = [(out / name).read_bytes() for name in names]
    flip(out / names[0])
    (out / names[1]).unlink()
    done = call("verify", out)
    assert done.code == 7
    assert all(name in done.out + done.err for name in names)
    point = point_of(run.scene)
    done = call("run", run.scene, out, "--unmix", table, *OPTIONS, *point)
    assert done.code == 0, done.err
    assert [(out / name).read_bytes() for name in names] == before
    check_refused(call("run", run.scene, out, *OPTIONS, *point), 3, "unmix was", "is unset")
    words = ("--unmix", table, "--unmix-by", "shape")
    check_refused(call("run", run.scene, out, *words, *OPTIONS, *point), 3, "unmix was")


def test_unmix__its_report_and_groups(run: RunCase) -> None:
    results = open_results(run.out, complete=True)
    assert results.fraction_groups == {
        "green vegetation": (0, 1), "dry vegetation": (2,), "soil": (3,), "shade": (4,),
    }  # fmt: skip
    fraction = run.results["fraction"].values
    green = results.fractions("green vegetation", slice(None))
    np.testing.assert_allclose(green, fraction[0] + fraction[1], rtol=1e-6)
    np.testing.assert_array_equal(results.fractions("shrub", slice(3, 40)), fraction[1, 3:40])
    maps = [measure_fraction(results, name) for name in (*results.fraction_groups, "shrub")]
    assert [found.limits for found in maps if found] == [(0.0, 1.0)] * 5
    assert maps[0]
    assert maps[0].mean == pytest.approx(float(np.nanmean(green)), abs=1e-6)
    table = fraction_table(results)
    assert table is not None
    assert [row[0].text for row in table.rows] == list(results.fraction_groups)
    assert [row[1].text for row in table.rows] == ["grass, shrub", "", "", ""]
    shares = [row[2].value for row in table.rows]
    assert sum(value or 0 for value in shares) == pytest.approx(1, abs=1e-6)
    n_hectares = sum(row[3].value or 0 for row in table.rows)
    assert n_hectares == pytest.approx(run.is_valid.sum() / 1e4, rel=1e-6)
    page = (run.out / "report.html").read_text("utf-8")
    assert 'id="fractions"' in page
    assert "Heinz D. C., Chang C.-I. (2001)" in page
    assert (run.out / "figures" / "fractions.png").is_file()


def test_unmix__a_high_residual_is_called_so(run: RunCase) -> None:
    results = open_results(run.out)
    note, is_high = fraction_note(results) or ("", True)
    assert not is_high
    assert "The mean residual (RMSE) is 0.0" in note
    worse = results.run | {"unmixing": results.unmixing | {"rmse": 0.1}}
    note, is_high = fraction_note(replace(results, run=worse)) or ("", False)
    assert is_high
    assert "--unmix-by shape" in note


def test_unmix__its_maps_and_points_are_exported(run: RunCase, tmp_path: Path) -> None:
    done = call("export", run.out, tmp_path / "f.tif", "--what", "fractions")
    assert done.code == 0, done.err
    fraction, every = run.results["fraction"].values, slice(None)
    results = open_results(run.out, complete=True)
    with rasterio.open(tmp_path / "f.tif") as file:
        assert file.descriptions == tuple(results.fraction_groups)
        assert file.tags(1)["description"] == "Endmembers: grass, shrub"
        for number, name in enumerate(results.fraction_groups, 1):
            np.testing.assert_array_equal(file.read(number), results.fractions(name, every))
    assert 'classificationMax="1"' in (tmp_path / "f.qml").read_text("utf-8")
    for what, wanted in (("unmixing_rmse", run.results["unmixing_rmse"]), ("shrub", fraction[1])):
        assert call("export", run.out, tmp_path / f"{what}.tif", "--what", what).code == 0
        with rasterio.open(tmp_path / f"{what}.tif") as file:
            np.testing.assert_array_equal(file.read(1), wanted)
    done = call("export", run.out, tmp_path / "g.tif", "--what", "wood")
    check_refused(done, 3, "fractions unmixing_rmse 'green vegetation' 'dry vegetation' soil")
    assert call("export", run.out, tmp_path / "p.csv", "--what", "points").code == 0
    (row,) = csv.DictReader((tmp_path / "p.csv").read_text("utf-8").splitlines())
    y, x = int(row["row"]), int(row["col"])
    assert float(row["fraction_soil"]) == pytest.approx(float(fraction[3, y, x]))


def test_unmix__its_layers_in_the_viewer(run: RunCase, tmp_path: Path) -> None:
    layers = MapLayers(open_viewed_run(run.out, run.scene, tmp_path))
    green = layers.all["fraction:green vegetation"]
    assert green.positions == (0, 1)
    values = run.results["fraction"].values[[0, 1]]
    painted = layers.paint(green, values)
    np.testing.assert_array_equal(painted[..., 3] > 0, run.is_valid)
    shown = layers.fraction_map("green vegetation")
    best = np.unravel_index(np.nanargmax(values.sum(axis=0)), run.is_valid.shape)
    wanted = np.round(np.array(shown.colours(1.0)) * 255)
    assert np.abs(painted[best] - wanted).max() <= 3
    assert "green vegetation" in index_legend(shown)


def test_extract__has_the_fractions_of_a_plot(run: RunCase, tmp_path: Path) -> None:
    results = open_results(run.out)
    xmin, ymin, xmax, ymax = results.grid.bounds((0, results.shape[0]), (0, results.shape[1]))
    crs = {"crs": {"properties": {"name": "EPSG:32613"}}}
    plot = geojson(tmp_path / "plot.geojson", shapely.box(xmin, ymin, xmax, ymax), **crs)
    done = call("extract", run.out, tmp_path / "t.csv", "--polygons", plot)
    assert done.code == 0, done.err
    with (tmp_path / "t.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    fraction = run.results["fraction"]
    green = fraction.sel(endmember=list(GROUPS)).values.sum(axis=0)[run.is_valid]
    assert float(row["mean_fraction_green vegetation"]) == pytest.approx(green.mean(), rel=1e-5)
    assert float(row["sd_fraction_green vegetation"]) == pytest.approx(green.std(), rel=1e-4)
    assert int(row["n_fraction_soil"]) == int(row["clustered"]) == run.is_valid.sum()
    rmse = run.results["unmixing_rmse"].values[run.is_valid]
    assert float(row["max_unmixing_rmse"]) == pytest.approx(rmse.max(), rel=1e-6)
