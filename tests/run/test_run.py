"""A whole run on a simulated scene, against computations written here a second time."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from hyperhpc.cli.main import main
from hyperhpc.report import write_report
from run_case import RunCase

INDEX_NAMES = ["ndvi", "cai", "ndli", "mrendvi", "sipi", "ndni", "cri1", "cri2"]


def independent_indices(case: RunCase) -> dict[str, np.ndarray]:
    """The eight indices from the papers' formulas, float64, all bands."""

    def r(nm: float) -> np.ndarray:
        return case.dn[:, :, np.argmin(np.abs(case.wavelength_nm - nm))] / 10000.0

    def normalized(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a - b) / (a + b)

    with np.errstate(all="ignore"):
        return {
            "ndvi": normalized(r(858.6), r(648.2)),
            "cai": 0.5 * (r(2000) + r(2200)) - r(2100),
            "ndli": normalized(np.log(1 / r(1754)), np.log(1 / r(1680))),
            "mrendvi": (r(750) - r(705)) / (r(750) + r(705) - 2 * r(445)),
            "sipi": (r(800) - r(445)) / (r(800) - r(680)),
            "ndni": normalized(np.log(1 / r(1510)), np.log(1 / r(1680))),
            "cri1": 1 / r(510) - 1 / r(550),
            "cri2": 1 / r(510) - 1 / r(700),
        }


def denominators(case: RunCase) -> dict[str, tuple[np.ndarray, int]]:
    """Sums of DN by which indices divide, and the least that is told from zero."""

    def dn(nm: float) -> np.ndarray:
        return case.dn[:, :, np.argmin(np.abs(case.wavelength_nm - nm))].astype(int)

    return {
        "ndvi": (abs(dn(858.6) + dn(648.2)), 2),
        "mrendvi": (abs(dn(750) + dn(705) - 2 * dn(445)), 3),
        "sipi": (abs(dn(800) - dn(680)), 2),
        "cri1": (np.minimum(dn(510), dn(550)), 1),
        "cri2": (np.minimum(dn(510), dn(700)), 1),
    }


def test_indices__equal_an_independent_computation(run_case: RunCase) -> None:
    assert list(run_case.results.index.values) == INDEX_NAMES
    assert run_case.results.indices.dtype == np.float32
    below, undefined = denominators(run_case), run_case.json("run")["pixels"]["undefined"]
    for name, expected in independent_indices(run_case).items():
        found = run_case.results.indices.sel(index=name).values
        is_expected = run_case.is_valid & np.isfinite(expected)
        if name in below:
            is_expected &= below[name][0] >= below[name][1]
        np.testing.assert_array_equal(np.isfinite(found), is_expected, err_msg=name)
        np.testing.assert_allclose(
            found[is_expected], expected[is_expected], rtol=1e-6, atol=1e-12, err_msg=name
        )
        n_undefined = int((run_case.is_valid & np.isnan(found)).sum())
        assert sum(undefined[name].values()) == n_undefined, name


def test_nodata__is_never_an_index_nor_a_cluster(run_case: RunCase) -> None:
    missing = ~run_case.is_valid
    assert 0.1 < missing.mean() < 0.2
    assert np.isnan(run_case.results.indices.values[:, missing]).all()
    cluster = run_case.results.cluster
    assert cluster.dtype == np.uint8
    assert (cluster.values[:, missing] == 255).all()
    assert (cluster.values[:, ~missing] < 8).all()


@pytest.mark.parametrize("model", ["lloyd", "minibatch"])
def test_labels__are_the_nearest_centres_of_model_json(run_case: RunCase, model: str) -> None:
    pixels = run_case.dn[run_case.is_valid][:, run_case.good]
    distances = run_case.distances(pixels, model)
    found = run_case.results.cluster.sel(model=model).values[run_case.is_valid]
    best = distances.min(axis=1)
    excess = distances[np.arange(len(found)), found] - best
    assert (excess <= 1e-5 * best).all(), f"worst {np.max(excess / best)}"
    assert (found == distances.argmin(axis=1)).mean() > 0.9999


def test_model__is_fitted_to_every_third_valid_pixel(run_case: RunCase) -> None:
    """Of every fourth, fewer than 2,000 are valid."""
    model, sample = run_case.model, run_case.sample
    assert run_case.is_valid[::4, ::4].size >= 2000 > run_case.is_valid[::4, ::4].sum()
    run = run_case.json("run")
    assert run["options"]["stride"] == run_case.every[0].step == 3
    why = "every third row and column (those of every 4th are fewer than 2,000)"
    assert any(why in choice for choice in run["choices"])
    assert run_case.json("plan")["options"]["stride"] is None
    assert model["n_pixels_fit"] == len(sample)
    np.testing.assert_array_equal(model["wavelength_nm"], run_case.wavelength_nm[run_case.good])
    np.testing.assert_allclose(model["mean"], sample.mean(axis=0) / 10000, rtol=1e-12)
    np.testing.assert_allclose(model["scale"], sample.std(axis=0) / 10000, rtol=1e-9)
    for name, entry in model["models"].items():
        distances = run_case.distances(sample, name)
        counts = np.bincount(distances.argmin(axis=1), minlength=8)
        np.testing.assert_array_equal(entry["counts"], counts)
        assert entry["inertia"] == pytest.approx(distances.min(axis=1).sum(), rel=1e-9)


@pytest.mark.slow
def test_lloyd__is_as_good_as_scikit_learn(run_case: RunCase) -> None:
    scaled = run_case.scaled(run_case.sample)
    expected = KMeans(8, n_init=10, random_state=0).fit(scaled).inertia_
    assert run_case.model["models"]["lloyd"]["inertia"] <= expected * 1.001


def test_lloyd__finds_the_true_classes(run_case: RunCase) -> None:
    for model in run_case.results.model.values:
        found = run_case.results.cluster.sel(model=model).values[run_case.is_valid]
        score = adjusted_rand_score(run_case.truth[run_case.is_valid], found)
        print(f"adjusted Rand index of {model} with the true classes: {score:.3f}")
        assert score > 0.7


def test_clusters__are_numbered_by_near_infrared(run_case: RunCase) -> None:
    nm = np.array(run_case.model["wavelength_nm"])
    centres = np.array(run_case.model["models"]["lloyd"]["centers"])
    nir = centres[:, (nm >= 780) & (nm <= 900)].mean(axis=1)
    assert (np.diff(nir) >= 0).all()


def test_clusters__of_the_second_model_have_the_numbers_of_the_first(run_case: RunCase) -> None:
    """No other assignment of numbers would have the models agree on more sampled pixels."""
    first, second = (
        run_case.distances(run_case.sample, name).argmin(axis=1) for name in ("lloyd", "minibatch")
    )
    shared = np.bincount(first * 8 + second, minlength=64).reshape(8, 8)
    assert np.trace(shared) == shared[linear_sum_assignment(shared, maximize=True)].sum()


def test_clusters_json__spectra_of_the_sample_areas_of_the_domain(run_case: RunCase) -> None:
    tables = run_case.json("clusters")
    labels = {
        name: run_case.distances(run_case.sample, name).argmin(axis=1)
        for name in ("lloyd", "minibatch")
    }
    for name, entry in tables["models"].items():
        whole = run_case.results.cluster.sel(model=name).values
        np.testing.assert_array_equal(
            entry["pixels"], np.bincount(whole[run_case.is_valid], minlength=8)
        )
        for k in range(8):
            members = run_case.sample[labels[name] == k] / 10000
            np.testing.assert_allclose(entry["mean"][k], members.mean(axis=0), rtol=1e-9)
            np.testing.assert_allclose(entry["sd"][k], members.std(axis=0), rtol=1e-6, atol=1e-9)
    pair = tables["agreement"][0]
    a, b = (run_case.results.cluster.sel(model=m).values[run_case.is_valid] for m in pair["models"])
    assert pair["adjusted_rand_index"] == pytest.approx(adjusted_rand_score(a, b), abs=1e-12)
    np.testing.assert_array_equal(
        pair["confusion"], np.bincount(a.astype(int) * 8 + b, minlength=64).reshape(8, 8)
    )


def test_results__open_in_xarray_and_rioxarray(run_case: RunCase) -> None:
    import rioxarray  # noqa: F401 - gives xarray its .rio

    results = xr.open_zarr(run_case.out / "results.zarr", mask_and_scale=False)
    assert results.indices.dims == ("index", "y", "x")
    assert results.cluster.dims == ("model", "y", "x")
    assert set(results.coords) == {"index", "model", "y", "x", "spatial_ref"}
    assert results.rio.crs.to_epsg() == 32613
    assert results.rio.bounds() == pytest.approx((517000, 4525840, 517200, 4526000))
    scene = xr.open_zarr(run_case.scene, group="reflectance")
    np.testing.assert_array_equal(results.x, scene.x)
    np.testing.assert_array_equal(results.y, scene.y)


def test_results__open_in_gdal(run_case: RunCase) -> None:
    with rasterio.open(f'ZARR:"{run_case.out / "results.zarr"}":/indices') as source:
        assert source.count == 8
        assert source.crs.to_epsg() == 32613
        assert tuple(source.transform)[:6] == (1, 0, 517000, 0, -1, 4526000)
        np.testing.assert_array_equal(source.read(1), run_case.results.indices.values[0])
    with rasterio.open(f'ZARR:"{run_case.out / "results.zarr"}":/cluster') as source:
        np.testing.assert_array_equal(source.read(2), run_case.results.cluster.values[1])
        assert source.nodata == 255


def test_overview__is_every_nth_pixel_of_the_results(run_case: RunCase) -> None:
    root = xr.open_zarr(run_case.out / "overview.zarr", mask_and_scale=False)
    assert root.attrs["levels"] == [1, 4]
    finest = xr.open_zarr(run_case.out / "overview.zarr", group="1", mask_and_scale=False).load()
    np.testing.assert_array_equal(finest.indices, run_case.results.indices)
    np.testing.assert_array_equal(finest.cluster, run_case.results.cluster)
    red = run_case.dn[:, :, np.argmin(np.abs(run_case.wavelength_nm - 650))] / 10000
    np.testing.assert_allclose(
        finest.quicklook.sel(color="red").values[run_case.is_valid],
        red[run_case.is_valid],
        rtol=1e-6,
    )
    coarse = xr.open_zarr(run_case.out / "overview.zarr", group="4", mask_and_scale=False).load()
    with np.errstate(invalid="ignore"):
        blocks = finest.indices.values[0].reshape(40, 4, 50, 4).swapaxes(1, 2).reshape(40, 50, 16)
        has_any = np.isfinite(blocks).any(axis=2)
        medians = np.nanmedian(blocks[has_any], axis=1)
    np.testing.assert_allclose(coarse.indices.values[0][has_any], medians, rtol=1e-6)
    assert np.isnan(coarse.indices.values[0][~has_any]).all()
    np.testing.assert_allclose(coarse.x[:2], [517002, 517006])
    labels = finest.cluster.values[0].reshape(40, 4, 50, 4).swapaxes(1, 2).reshape(2000, 16)
    counts = np.stack([(labels == k).sum(axis=1) for k in range(8)], axis=1)
    expected = np.where(counts.any(axis=1), counts.argmax(axis=1), 255)  # the lowest of a tie
    np.testing.assert_array_equal(coarse.cluster.values[0].ravel(), expected)
    causes = finest.nodata_cause
    np.testing.assert_array_equal(causes.values, ~run_case.is_valid)
    assert causes.flag_meanings.split()[:2] == ["has_data", "no_data_in_the_file"]
    n_missing = causes.values.reshape(40, 4, 50, 4).sum(axis=(1, 3))
    np.testing.assert_array_equal(coarse.nodata_cause.values, n_missing > 8)  # most of the 16


def test_spectra_json__is_what_spectrum_prints(run_case: RunCase) -> None:
    (spectrum,) = run_case.json("spectra")
    assert (spectrum["row"], spectrum["col"]) == (80, 100)
    np.testing.assert_allclose(
        np.array(spectrum["reflectance"], dtype=float), run_case.dn[80, 100] / 10000
    )


def test_run_json__records_what_was_done(run_case: RunCase) -> None:
    run = run_case.json("run")
    assert run["complete"] is True
    assert [stage["name"] for stage in run["stages"]] == [
        "sample",
        "fit",
        "classify",
        "overview",
        "report",
    ]
    assert all(stage["seconds"] > 0 for stage in run["stages"])
    assert run["pixels"]["valid"] == int(run_case.is_valid.sum())
    assert run["pixels"]["total"] == run_case.is_valid.size
    assert set(run["peak_memory_mib"]) == {"client", "worker-0", "worker-1"}
    limit = 2048  # MiB, as --memory-per-worker said
    assert all(0 < mib < limit for mib in run["peak_memory_mib"].values())
    assert run["scene"]["n_good_bands"] == int(run_case.good.sum())
    assert run["versions"]["numpy"] == np.__version__


def test_run_json__has_the_noise_of_each_good_band(run_case: RunCase) -> None:
    quality = run_case.json("run")["band_quality"]
    assert quality["wavelength_nm"] == run_case.model["wavelength_nm"]
    np.testing.assert_allclose(
        quality["signal"], np.median(run_case.sample / 10000, axis=0), rtol=1e-12
    )
    noise = np.array(quality["noise"], dtype=np.float64)  # None is NaN
    assert np.isnan(noise).sum() == 2 * 3  # at the ends of three rows of bands
    assert 0 < np.nanmin(noise) < np.nanmax(noise) < 0.05
    assert quality["interpolated_nm"] == []


def test_model_json__holds_nothing_of_the_day(run_case: RunCase) -> None:
    assert set(run_case.model) == {"wavelength_nm", "mean", "scale", "n_pixels_fit", "models"}
    for entry in run_case.model["models"].values():
        assert set(entry) == {"centers", "inertia", "n_iter", "counts"}
    text = json.dumps(run_case.model)
    assert not re.search(r"/|20\d\d-", text)


def test_out__holds_no_leftovers(run_case: RunCase) -> None:
    assert sorted(path.name for path in run_case.out.iterdir()) == [
        "checksums.json",
        "clusters.json",
        "figures",
        "model.json",
        "overview.zarr",
        "plan.json",
        "report.html",
        "results.zarr",
        "run.json",
        "spectra.json",
        "status.txt",
    ]


@pytest.mark.e2e
def test_report__of_the_run_equals_one_drawn_later(run_case: RunCase, tmp_path: Path) -> None:
    later = tmp_path / "out"
    shutil.copytree(run_case.out, later)
    write_report(later)
    pages = [(out / "report.html").read_text("utf-8") for out in (run_case.out, later)]
    for pattern in (r"<dt>(.*?)</dt>", r"<th\b[^>]*>(.*?)</th>", r"<li>(.*?)</li>"):
        first, second = (re.findall(pattern, page, re.DOTALL) for page in pages)
        assert first == second
    n_valid = int(run_case.is_valid.sum())
    assert "Valid pixels" in pages[0]
    assert f"{n_valid // 1000}\u202f{n_valid % 1000:03d} pixels" in pages[0]


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_run__rounds_index_maps_if_asked(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    flags = ["--index-bits", "11", "--workers", "2", "--memory-per-worker", "2GiB"]
    with pytest.raises(SystemExit) as stop:
        main(["run", str(run_case.scene), str(out), *flags])
    assert stop.value.code == 0
    whole, rounded = (
        xr.open_zarr(path / "results.zarr", mask_and_scale=False).load()
        for path in (run_case.out, out)
    )
    np.testing.assert_array_equal(rounded.cluster, whole.cluster)
    is_missing = np.isnan(whole.indices.values)
    np.testing.assert_array_equal(np.isnan(rounded.indices.values), is_missing)
    a, b = (data.indices.values[~is_missing] for data in (whole, rounded))
    assert not (b.view(np.uint32) & 0xFFF).any()
    assert (a != b).mean() > 0.9
    np.testing.assert_allclose(b, a, rtol=2.0**-12, atol=0)
    assert "rounded to 11 bits" in (out / "report.html").read_text("utf-8")
