"""Scenes whose numbers give k-means nothing to work with: a defined result, and a warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cli_case import Outcome, call
from zarr_case import write

NM = np.linspace(400.0, 2400.0, 40)
SHAPE = (24, 20)


def run(tmp_path: Path, dn: np.ndarray, *options: str) -> tuple[Outcome, Path]:
    """Run the scene of these DN (y, x, band), whole, on one worker."""
    y, x = 0.5 + np.arange(dn.shape[0])[::-1], 0.5 + np.arange(dn.shape[1])
    missing = -9999 if np.issubdtype(dn.dtype, np.integer) else np.nan
    scene = write(
        tmp_path / "scene.zarr",
        dn,
        coords={"x": x, "y": y, "wl": NM},
        coord_attrs={"wl": {"units": "nm"}},
        attrs={"Scale_Factor": 10000.0 if missing == -9999 else 1.0},
        fill_value=missing,
        chunks=(12, 10, 40),
    )
    out = tmp_path / "out"
    return call("run", scene, out, "--stride", "1", "--workers", "1", *options), out


def read(out: Path) -> tuple[dict[str, Any], dict[str, Any], xr.Dataset]:
    names = ("run", "model")
    first, second = (json.loads((out / f"{name}.json").read_text()) for name in names)
    assert (out / "report.html").stat().st_size > 10_000
    return first, second, xr.open_zarr(out / "results.zarr", mask_and_scale=False).load()


def random_dn() -> np.ndarray:
    return np.random.default_rng(0).integers(100, 6000, (*SHAPE, 40)).astype(np.int16)


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
@pytest.mark.parametrize(("stride", "is_warned"), [("4", True), ("1", False)])
def test_few_sampled_pixels_cause_a_warning(tmp_path: Path, stride: str, is_warned: bool) -> None:
    outcome, out = run(tmp_path, random_dn(), "--clusters", "3", "--stride", stride)
    assert outcome.code == 0, outcome.err
    text = "30 sampled pixels are few for 3 clusters; --stride 4 leaves out the others"
    assert (text in outcome.err) is is_warned
    assert any(text in warning for warning in read(out)[0]["warnings"]) is is_warned


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_fewer_kinds_of_pixel_than_clusters(tmp_path: Path) -> None:
    dn = np.full((*SHAPE, 40), 1000, dtype=np.int16)
    dn[:, 7:] = 2000 + np.arange(40)
    outcome, out = run(tmp_path, dn, "--clusters", "5")
    assert outcome.code == 0, outcome.err
    run_json, model, results = read(out)
    for name, entry in model["models"].items():
        assert sorted(entry["counts"])[-2:] == [24 * 7, 24 * 13]
        assert sum(entry["counts"]) == 24 * 20
        assert entry["inertia"] == pytest.approx(0, abs=1e-9)
        assert any(
            f"{name}: 3 of 5 clusters hold no sampled pixel" in w for w in run_json["warnings"]
        )
    for labels in results.cluster.values:
        assert len(np.unique(labels)) == 2
        assert (labels[:, :7] == labels[0, 0]).all()


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_one_value_in_all_bands_and_pixels(tmp_path: Path) -> None:
    outcome, out = run(tmp_path, np.full((*SHAPE, 40), 1234, np.int16), "--clusters", "3")
    assert outcome.code == 0, outcome.err
    run_json, model, results = read(out)
    n = len(model["wavelength_nm"])
    assert any(f"{n} of {n} bands have one value" in warning for warning in run_json["warnings"])
    assert len(np.unique(results.cluster)) == 1
    np.testing.assert_allclose(model["mean"], 0.1234)


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_a_constant_band_is_left_out(tmp_path: Path) -> None:
    dn = random_dn()
    dn[:, :, 3] = 77
    outcome, out = run(tmp_path, dn, "--clusters", "3")
    assert outcome.code == 0, outcome.err
    run_json, _, _ = read(out)
    (warning,) = (text for text in run_json["warnings"] if "have one value" in text)
    assert f"1 of {run_json['bands']['n_good']} bands" in warning
    assert f"{NM[3]:.1f} nm" in warning


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_nan_in_a_float_scene_is_no_data(tmp_path: Path) -> None:
    dn = (random_dn() / 10000).astype(np.float32)
    dn[3, 4, 5] = np.nan
    dn[12:, 10:] = np.nan  # a whole chunk
    outcome, out = run(tmp_path, dn, "--clusters", "3")
    assert outcome.code == 0, outcome.err
    _, model, results = read(out)
    is_valid = np.isfinite(dn).all(axis=2)
    np.testing.assert_array_equal(results.cluster.values == 255, np.stack([~is_valid] * 2))
    assert np.isnan(results.indices.values[:, ~is_valid]).all()
    assert sum(model["models"]["lloyd"]["counts"]) == is_valid.sum()


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
@pytest.mark.parametrize("clusters", [1, 2])
def test_one_valid_pixel_in_the_whole_scene(tmp_path: Path, clusters: int) -> None:
    dn = np.full((*SHAPE, 40), -9999, dtype=np.int16)
    dn[20, 3] = 1500 + 10 * np.arange(40)
    outcome, out = run(tmp_path, dn, "--clusters", str(clusters))
    if clusters == 2:
        assert outcome.code == 3
        assert "1 valid sampled pixels are too few for 2 clusters" in outcome.error
        assert not out.exists()
        return
    assert outcome.code == 0, outcome.err
    _, model, results = read(out)
    assert model["models"]["lloyd"]["counts"] == [1]
    labels = results.cluster.values[0]
    assert labels[20, 3] == 0
    assert (np.delete(labels.ravel(), 20 * 20 + 3) == 255).all()
    assert np.isfinite(results.indices.values[:, 20, 3]).all()
