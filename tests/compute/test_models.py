"""The other models: dask-ml's own k-means, any estimator, float scenes, the tutorial's way."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

from hyperhpc.cli.main import main
from hyperhpc.compute.fit import fitting
from hyperhpc.compute.fit.models import Labeller
from hyperhpc.simulate.scene import Painter, simulate

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("shared_workers", "no_report")]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """96 x 128 pixels of 426 bands."""
    path = tmp_path_factory.mktemp("models") / "scene.zarr"
    simulate(path, 96, 128, seed=5)
    return path


def run(scene: Path, out: Path, *options: str) -> tuple[dict[str, Any], xr.Dataset]:
    with pytest.raises(SystemExit) as stop:
        main(["run", str(scene), str(out), "--stride", "2", *options])
    assert stop.value.code == 0
    return json.loads((out / "model.json").read_text()), xr.open_zarr(
        out / "results.zarr", mask_and_scale=False
    ).load()


def test_dask_ml_and_an_estimator__label_every_valid_pixel(scene: Path, tmp_path: Path) -> None:
    options = "--engine dask-ml --models lloyd --estimator sklearn.cluster:Birch --clusters 5"
    model, results = run(scene, tmp_path / "out", *options.split())
    assert list(results.model.values) == ["lloyd", "Birch"] == list(model["models"])
    is_valid = results.cluster.values[0] != 255
    dn = xr.open_zarr(scene, group="reflectance", mask_and_scale=False)["reflectance"].values
    np.testing.assert_array_equal(is_valid, dn[:, :, 50] != -9999)
    nm = np.array(model["wavelength_nm"])
    for m, (name, entry) in enumerate(model["models"].items()):
        labels = results.cluster.values[m]
        assert set(np.unique(labels[is_valid])) == set(range(5)), name
        sampled = labels[::2, ::2][is_valid[::2, ::2]]
        np.testing.assert_array_equal(np.bincount(sampled, minlength=5), entry["counts"])
    centres = np.array(model["models"]["lloyd"]["centers"])
    assert (np.diff(centres[:, (nm >= 780) & (nm <= 900)].mean(axis=1)) > 0).all()
    # Two ways to cluster the same land agree to a fair degree, and name it alike
    first, second = (results.cluster.values[m][is_valid] for m in (0, 1))
    assert adjusted_rand_score(first, second) > 0.4
    first, second = (results.cluster.values[m][::2, ::2][is_valid[::2, ::2]] for m in (0, 1))
    shared = np.bincount(first.astype(int) * 5 + second, minlength=25).reshape(5, 5)
    assert np.trace(shared) == shared[linear_sum_assignment(shared, maximize=True)].sum()


def test_number_alike__of_fewer_clusters_leaves_them_and_says_so() -> None:
    said: list[str] = []
    labellers = [Labeller(None, n) for n in (5, 3)]  # type: ignore[arg-type]
    job = SimpleNamespace(warn=said.append)
    assert fitting._number_alike(job, ["lloyd", "Birch"], labellers) == labellers
    assert said == [
        "Birch has 3 clusters and lloyd 5, so that their numbers and colours do not mean the same"
    ]


def test_minibatch__is_what_dask_ml_makes_of_the_same_batches(scene: Path, tmp_path: Path) -> None:
    options = "--models minibatch --clusters 5".split()
    own, results = run(scene, tmp_path / "own", *options)
    theirs, same = run(scene, tmp_path / "theirs", *options, "--engine", "dask-ml")
    entries = [model["models"]["minibatch"] for model in (own, theirs)]
    np.testing.assert_allclose(*(entry["centers"] for entry in entries), rtol=1e-12)
    for key in ("n_iter", "counts"):
        assert entries[0][key] == entries[1][key]
    xr.testing.assert_identical(results.cluster, same.cluster)


def test_float_scene__with_an_estimator_without_partial_fit(tmp_path: Path) -> None:
    dn, _ = Painter(64, 80, 426, 9, 0.2).window(0, 0, 64, 80)
    nm = 381.5 + 5.0085 * np.arange(426)
    reflectance = np.where(dn == -9999, np.nan, dn / np.float32(10000)).astype(np.float32)
    path = tmp_path / "float.zarr"
    xr.Dataset(
        {"reflectance": (("wl", "y", "x"), reflectance.transpose(2, 0, 1))},
        coords={"wl": nm, "y": 99.5 - np.arange(64), "x": 0.5 + np.arange(80)},
    ).to_zarr(path, zarr_format=2)
    options = "--clusters 4 --models lloyd --estimator sklearn.mixture:GaussianMixture"
    model, results = run(path, tmp_path / "out", *options.split())
    good = np.isin(np.round(nm, 3), np.round(model["wavelength_nm"], 3))
    is_valid = np.isfinite(reflectance[:, :, good]).all(axis=2)
    np.testing.assert_array_equal(results.cluster.values == 255, np.stack([~is_valid] * 2))
    pixels = reflectance[:, :, good].astype(np.float64)
    sample = pixels[::2, ::2][is_valid[::2, ::2]]
    np.testing.assert_allclose(model["mean"], sample.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(model["scale"], sample.std(axis=0), rtol=1e-6)
    mean, scale = np.array(model["mean"]), np.array(model["scale"])
    z = (pixels[is_valid] - mean) / scale
    centres = (np.array(model["models"]["lloyd"]["centers"]) - mean) / scale
    distances = np.stack([((z - centre) ** 2).sum(axis=1) for centre in centres], axis=1)
    found = results.cluster.values[0][is_valid]
    assert (found == distances.argmin(axis=1)).mean() > 0.9999
    ndvi_bands = [np.argmin(np.abs(nm - wanted)) for wanted in (858.6, 648.2)]
    nir, red = (reflectance[:, :, b][is_valid].astype(np.float64) for b in ndvi_bands)
    np.testing.assert_allclose(
        results.indices.sel(index="ndvi").values[is_valid], (nir - red) / (nir + red), rtol=1e-6
    )


def test_seed_compat__takes_the_tutorials_bands_and_ndli(scene: Path, tmp_path: Path) -> None:
    options = "--seed-compat --models minibatch --clusters 3 --indices ndvi,ndli".split()
    model, results = run(scene, tmp_path / "out", *options)
    wl = xr.open_zarr(scene, group="reflectance")["wl"].values
    kept = np.r_[0:189, 211:270, 316:426]
    assert len(kept) == 358
    np.testing.assert_array_equal(model["wavelength_nm"], wl[kept])
    dn = xr.open_zarr(scene, group="reflectance", mask_and_scale=False)["reflectance"].values
    near = kept[np.argmin(np.abs(wl[kept] - 1754))]
    assert 1728 < wl[near] < 1734
    r1, r2 = (dn[:, :, band] / 10000 for band in (near, np.argmin(np.abs(wl - 1680))))
    is_valid = results.cluster.values[0] != 255
    with np.errstate(all="ignore"):
        expected = (np.log(1 / r1) - np.log(1 / r2)) / (np.log(r1) + np.log(r2))
    found = results.indices.sel(index="ndli").values
    np.testing.assert_allclose(found[is_valid], expected[is_valid], rtol=1e-5, atol=1e-7)
    assert np.nanmedian(found) < 0  # as in the tutorial's figure
