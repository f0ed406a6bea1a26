"""--model: the clusters of one scene, found again in another."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from cli_case import call, check_refused
from hyperhpc.simulate.scene import simulate
from run_case import RunCase, assert_same_results

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("shared_workers")]

OPTIONS = "--clusters 5 --memory-per-worker 1GiB --workers 1".split()


@pytest.fixture(scope="module")
def first(
    small_scene: Path, shared_workers: None, tmp_path_factory: pytest.TempPathFactory
) -> RunCase:
    """A run whose model is applied elsewhere."""
    out = tmp_path_factory.mktemp("applied") / "first"
    done = call("run", small_scene, out, *OPTIONS)
    assert done.code == 0, done.err
    return RunCase(small_scene, out)


@pytest.fixture(scope="module")
def other_year(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another scene of the same sensor."""
    path = tmp_path_factory.mktemp("other") / "scene.zarr"
    simulate(path, 80, 90, seed=7)
    return path


@pytest.mark.usefixtures("no_report")
def test_model__applied_to_its_own_scene_gives_the_same_bits(
    first: RunCase, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    words = ("run", first.scene, out, "--apply-model", first.out / "model.json")
    done = call(*words, "--workers", "1")
    assert done.code == 0, done.err
    assert_same_results(out, first.out)
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert [s["name"] for s in run["stages"]] == ["classify", "overview", "report"]
    before, after = (json.loads((o / "clusters.json").read_text()) for o in (first.out, out))
    assert before == after


def test_model__labels_another_scene_by_its_nearest_centres(
    first: RunCase, other_year: Path, tmp_path: Path
) -> None:
    out = tmp_path / "other"
    words = ["run", other_year, out, "--apply-model", first.out / "model.json"]
    assert call(*words, "--workers", "1").code == 0
    case = RunCase(other_year, out)
    assert case.model == first.model
    for name in ("lloyd", "minibatch"):
        labels = case.results["cluster"].sel(model=name).values
        np.testing.assert_array_equal(labels == 255, ~case.is_valid)
        distances = case.distances(case.dn[case.is_valid][:, case.good], name)
        two = np.partition(distances, 1, axis=1)
        is_clear = two[:, 1] - two[:, 0] > 1e-6
        found = labels[case.is_valid]
        np.testing.assert_array_equal(found[is_clear], distances.argmin(axis=1)[is_clear])
    page = (out / "report.html").read_text("utf-8")
    assert "was applied" in page
    assert "nearest centre of the models lloyd and minibatch of an earlier analysis" in page
    assert "We fitted" not in page
    # the same folder without it is another run
    check_refused(call("run", other_year, out), 3, "apply_model was")


def changed(first: RunCase, tmp_path: Path, change: Any) -> Path:
    model = json.loads((first.out / "model.json").read_text("utf-8"))
    change(model)
    path = tmp_path / "changed.json"
    path.write_text(json.dumps(model), "utf-8")
    return path


@pytest.mark.usefixtures("no_report")
def test_model__whose_bands_are_stored_in_another_order(first: RunCase, tmp_path: Path) -> None:
    """The bands are matched by wavelength; without clusters.json there is no spread."""

    def turn(model: dict[str, Any]) -> None:
        for name in ("wavelength_nm", "mean", "scale"):
            model[name].reverse()
        for entry in model["models"].values():
            for row in entry["centers"]:
                row.reverse()
        model["wavelength_nm"] = [nm + 2.0 for nm in model["wavelength_nm"]]

    out = tmp_path / "turned"
    words = ("run", first.scene, out, "--apply-model", changed(first, tmp_path, turn))
    done = call(*words, "--workers", "1")
    assert done.code == 0, done.err
    labels = [
        xr.open_zarr(o / "results.zarr", mask_and_scale=False)["cluster"].values
        for o in (out, first.out)
    ]
    np.testing.assert_array_equal(*labels)


@pytest.mark.parametrize("text", ["{}", "[]", '{"models": {"lloyd": {"mean": [[1]]}}}'])
def test_model__whose_spectra_are_damaged(first: RunCase, tmp_path: Path, text: str) -> None:
    model = tmp_path / "model.json"
    shutil.copy(first.out / "model.json", model)
    (tmp_path / "clusters.json").write_text(text, "utf-8")
    outcome = call("plan", first.scene, tmp_path / "out", "--apply-model", model)
    check_refused(outcome, 3, "clusters.json next to it", "Copy both again")


def test_model__that_cannot_be_applied(first: RunCase, tmp_path: Path) -> None:
    def refuse(path: Path, *parts: str, options: tuple[str, ...] = ()) -> None:
        words = ("plan", first.scene, tmp_path / "out", "--apply-model", path, *options)
        check_refused(call(*words), 3, *parts)

    model = first.out / "model.json"
    refuse(tmp_path / "no.json", "no.json")
    refuse(first.out / "run.json", "is not a model of hyperhpc", "OUT/model.json")
    far = changed(first, tmp_path, lambda m: m["wavelength_nm"].__setitem__(3, 300.0))
    refuse(far, "at 300.0 nm", "2.5 nm are allowed")
    short = changed(first, tmp_path, lambda m: m["mean"].pop())
    refuse(short, "is not a model of hyperhpc")
    flat = changed(first, tmp_path, lambda m: m["scale"].__setitem__(0, 0.0))
    refuse(flat, "is not a model of hyperhpc")
    for value in (None, "text", 10**400, [0.1], math.nan, {}):
        odd = changed(first, tmp_path, lambda m, v=value: m["mean"].__setitem__(0, v))
        refuse(odd, "is not a model of hyperhpc")
    many = changed(
        first, tmp_path, lambda m: m["models"]["lloyd"].update(centers=[m["mean"]] * 256)
    )
    refuse(many, "is not a model of hyperhpc")
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 100_000, "utf-8")
    refuse(deep, "is damaged")
    refuse(model, "model and estimator", options=("--estimator", "sklearn.cluster:Birch"))
    none = changed(first, tmp_path, lambda m: m["models"].pop("lloyd"))
    refuse(none, "none of the models lloyd; it holds minibatch", options=("--models", "lloyd"))
