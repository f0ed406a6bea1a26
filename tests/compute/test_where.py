"""--where: which pixels are clustered, and that the models see no other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import KMeans

from cli_case import call, check_refused
from hyperhpc.analysis.agreement import confusion_table
from hyperhpc.compute.sample import Sample, SampleJob, count_valid, sample_tile
from hyperhpc.compute.selection import bind_conditions, select_bands
from hyperhpc.config import RunConfig
from hyperhpc.rundir.plan import Area, Tile
from hyperhpc.scene import open_scene
from run_case import CONDITIONS, MASKED_OPTIONS, RunCase, assert_same_results


def which_hold(case: RunCase) -> np.ndarray:
    """Bool (condition, y, x), by numpy over the whole array."""

    def r(nm: float) -> np.ndarray:
        return case.dn[:, :, np.argmin(np.abs(case.wavelength_nm - nm))] / 10000.0

    nir, red = r(858.6), r(648.2)
    with np.errstate(all="ignore"):
        first = ((nir - red) / (nir + red) > 0.6) & (r(860) > 0.2)
        second = ~(r(2470) > 0.09) | (r(1680) - r(860) < 0)
    return np.stack([first, second]) & case.is_valid


@pytest.mark.e2e
def test_where__labels_exactly_the_pixels_that_meet_it(masked_run: RunCase) -> None:
    holds = which_hold(masked_run)
    meets = holds.all(axis=0)
    assert 0.2 < meets.mean() < 0.8
    labels = masked_run.results["cluster"].values
    for layer in labels:
        np.testing.assert_array_equal(layer < 4, meets)
        np.testing.assert_array_equal(layer == 255, ~masked_run.is_valid)
        np.testing.assert_array_equal(layer == 254, masked_run.is_valid & ~meets)
    assert np.isfinite(masked_run.results["indices"].values[0][masked_run.is_valid]).mean() > 0.99
    clusters = masked_run.json("clusters")
    assert clusters["where"] == {
        "valid": masked_run.is_valid.sum(),
        "clustered": meets.sum(),
        "conditions": [
            {"condition": text, "pixels": n.sum()}
            for text, n in zip(CONDITIONS, holds, strict=True)
        ],
    }
    for m, entry in enumerate(clusters["models"].values()):
        assert entry["pixels"] == np.bincount(labels[m][meets], minlength=4).tolist()
    (pair,) = clusters["agreement"]
    expected = confusion_table(labels[0][meets], labels[1][meets], 4, 4)
    assert pair["confusion"] == expected.tolist()
    assert any(
        "(NDVI > 0.6 and R(860) > 0.2) and (" in c for c in masked_run.json("run")["choices"]
    )


@pytest.mark.e2e
def test_where__fits_the_models_to_those_pixels_only(masked_run: RunCase) -> None:
    stride = masked_run.json("run")["options"]["stride"]
    every = slice(None, None, stride)
    used = which_hold(masked_run).all(axis=0)[every, every]
    sample = masked_run.dn[every, every][used][:, masked_run.good] / 10000.0
    model = masked_run.model
    assert model["n_pixels_fit"] == len(sample)
    np.testing.assert_allclose(model["mean"], sample.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(model["scale"], sample.std(axis=0), rtol=1e-9)
    scaled = masked_run.scaled(sample * 10000.0)
    centres = np.array(model["models"]["lloyd"]["centers"])
    start = masked_run.scaled(centres * 10000.0)
    again = KMeans(4, init=start, n_init=1, tol=0, algorithm="lloyd").fit(scaled)
    np.testing.assert_allclose(again.cluster_centers_, start, atol=1e-6)
    np.testing.assert_allclose(model["models"]["lloyd"]["inertia"], again.inertia_, rtol=1e-9)


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers", "no_report")
def test_where__same_bits_with_other_tiles_and_applied(
    masked_run: RunCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hyperhpc.rundir.plan.TARGET_TILES", 1)
    applied = ("--apply-model", masked_run.out / "model.json")
    assert call("run", masked_run.scene, tmp_path / "out", *MASKED_OPTIONS, *applied).code == 0
    shapes = [json.loads((o / "plan.json").read_text())["tile_shape"]
              for o in (masked_run.out, tmp_path / "out")]  # fmt: skip
    assert shapes[0] != shapes[1]
    assert_same_results(masked_run.out, tmp_path / "out")
    assert RunCase(masked_run.scene, tmp_path / "out").json("clusters") == masked_run.json(
        "clusters"
    )


@pytest.mark.e2e
def test_where__another_one_is_another_run(masked_run: RunCase) -> None:
    options = ["NDVI > 0.5" if word == CONDITIONS[0] else word for word in MASKED_OPTIONS]
    check_refused(call("run", masked_run.scene, masked_run.out, *options), 3, "where was")


@pytest.mark.workers
@pytest.mark.usefixtures("shared_workers", "no_report")
@pytest.mark.parametrize(
    ("condition", "problem", "hint"),
    [
        ("NDVI > 0.99", "meets --where: 'NDVI > 0.99' in 0", "Give other limits: NDVI is from "),
        ("R(860) > 0.51", "valid sampled pixels that meet --where are too few", "a --where"),
    ],
)
def test_where__too_few_pixels(
    small_scene: Path, tmp_path: Path, condition: str, problem: str, hint: str
) -> None:
    done = call("run", small_scene, tmp_path / "out", "--where", condition)
    assert done.code == 3
    assert problem in done.error
    assert hint in done.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("stride", [1, 3])
def test_sample_tile__the_same_mask_from_any_tiles(
    small_scene: Path, tmp_path: Path, stride: int
) -> None:
    scene = open_scene(small_scene)
    config = RunConfig(
        scene=small_scene, out=tmp_path, where=CONDITIONS, formula={"own": "R(1680)-R(860)"}
    )
    selection = select_bands(scene)
    conditions = bind_conditions(scene, config, selection)
    area = Area(0, 90, 5, 112)
    masks = []
    for name, side in (("large", 200), ("small", 37)):
        (tmp_path / name).mkdir()
        bands = selection.bands[:3]
        sample = Sample.at(tmp_path / name, area, stride, 3, scene.dtype)
        sample.values.create()
        sample.mask.create()
        job = SampleJob(scene, area, stride, bands, sample, conditions)
        for y in range(0, 90, side):
            for x in range(0, 107, side):
                sample_tile(job, Tile("t", y, min(y + side, 90), x, min(x + side, 107)))
        masks.append(sample.is_valid())
        sampled = sample.is_valid().sum()
    np.testing.assert_array_equal(*masks)
    case = RunCase(small_scene, tmp_path)
    expected = which_hold(case).all(axis=0)[0:90:stride, 5:112:stride]
    np.testing.assert_array_equal(masks[0].reshape(expected.shape), expected)
    if stride == 1:
        counted = count_valid(job, Tile("all", 0, 90, 0, 107))
        assert counted["clustered"] == sampled
        assert counted["valid"] == case.is_valid[:90, 5:].sum()
        assert counted["holding"] == which_hold(case)[:, :90, 5:].sum(axis=(1, 2)).tolist()
