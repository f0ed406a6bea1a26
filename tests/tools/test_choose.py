"""How many clusters: judged as scikit-learn judges, and right where the truth is known."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, davies_bouldin_score, silhouette_score

from cli_case import call, check_refused
from hyperhpc.analysis.agreement import (
    ClusterScores,
    find_elbow,
    measure_resampling_stability,
    measure_seed_stability,
    recommend_k,
    score_clustering,
)
from hyperhpc.config import load_config
from hyperhpc.tools.choose_k import MAX_COARSE_PIXELS, draw_subsamples, prepare_trial
from raster_case import write_envi

N_BANDS, N_KINDS = 30, 5


@pytest.fixture(scope="module")
def cube() -> np.ndarray:
    """Five spectra with noise, in patches, and a border of no-data; DN (y, x, band)."""
    rng = np.random.default_rng(11)
    kinds = rng.integers(500, 6000, (N_KINDS, N_BANDS))
    patches = np.repeat(np.repeat(rng.integers(0, N_KINDS, (10, 12)), 6, axis=0), 6, axis=1)
    dn = kinds[patches] + rng.normal(0, 60, (60, 72, N_BANDS))
    dn = np.rint(dn).astype(np.int16)
    dn[:, :7] = -9999
    return dn


@pytest.fixture(scope="module")
def scene(cube: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_envi(tmp_path_factory.mktemp("kinds") / "kinds.img", cube)


@pytest.fixture(scope="module")
def found(scene: Path, shared_workers: None) -> dict[str, Any]:
    done = call("choose-k", scene, "--k", "2..9", "--json")
    assert done.code == 0, done.err
    assert "choose-k: 10 fits of each k to at most 4320 pixels of 60 x 72" in done.err
    assert "MB of memory" in done.err
    return json.loads(done.out)


@pytest.mark.e2e
def test_choose_k__finds_the_number_of_kinds(found: dict[str, Any]) -> None:
    assert found["recommended"] == found["elbow"] == N_KINDS
    assert f"k = {N_KINDS} has the highest silhouette" in found["reason"]
    assert found["reason"].count(". ") == 0  # one sentence
    assert [row["k"] for row in found["table"]] == list(range(2, 10))
    assert found["pixels"] == 60 * 65


@pytest.mark.e2e
def test_choose_k__is_as_scikit_learn_has_it(found: dict[str, Any], cube: np.ndarray) -> None:
    pixels = cube[cube[..., 0] != -9999].astype(float)
    scaled = (pixels - pixels.mean(axis=0)) / pixels.std(axis=0)
    few = np.linspace(0, len(scaled) - 1, 2000).astype(int)
    for row in found["table"][:4]:  # beyond five the best fit is a matter of noise
        model = KMeans(row["k"], n_init=30, random_state=0).fit(scaled)
        assert row["inertia"] == pytest.approx(model.inertia_, rel=1e-3)
        assert row["unexplained"] == pytest.approx(model.inertia_ / scaled.size, rel=1e-3)
        mine = silhouette_score(scaled[few], model.labels_[few])
        assert row["silhouette"] == pytest.approx(mine, abs=2e-3)
        mine = davies_bouldin_score(scaled, model.labels_)
        assert row["davies_bouldin"] == pytest.approx(mine, abs=2e-3)
    inertia = [row["inertia"] for row in found["table"]]
    assert inertia == sorted(inertia, reverse=True)
    five = found["table"][N_KINDS - 2]
    assert five["seed_stability"] == five["resampling_stability"] == 1
    assert found["table"][-1]["seed_stability"] < 0.9
    assert found["table"][-1]["resampling_stability"] < 0.9


@pytest.mark.e2e
def test_choose_k__gives_the_same_again_and_writes_it(
    scene: Path, found: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "choice"
    done = call("choose-k", scene, "--k", "2..9", "--out", folder)
    assert done.code == 0, done.err
    assert "stability over  stability under" in done.out
    assert f"recommended: {N_KINDS} clusters; " in done.out
    names = {"choose-k.csv", "choose-k.png", "choose-k.json"}
    assert {path.name for path in folder.iterdir()} == names
    assert json.loads((folder / "choose-k.json").read_text()) == found
    with (folder / "choose-k.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["silhouette"]) for row in rows] == pytest.approx(
        [row["silhouette"] for row in found["table"]]
    )
    picture = imread(folder / "choose-k.png")[..., :3]
    marks = np.abs(picture - np.array([0xD5, 0x5E, 0]) / 255).max(axis=2) < 0.02
    assert marks.any(axis=0).sum() < 20  # two thin lines, one above the other, twice
    assert marks.any(axis=1).mean() > 0.3
    again = call("choose-k", scene, "--k", "2..3", "--out", folder)
    check = [line for line in again.err.splitlines() if line.startswith("error: ")]
    assert again.code == 3
    assert len(check) == 1
    assert "exists already" in check[0]
    assert json.loads((folder / "choose-k.json").read_text()) == found


@pytest.mark.e2e
@pytest.mark.usefixtures("shared_workers")
def test_choose_k__only_in_an_area(scene: Path) -> None:
    facts = json.loads(call("info", scene, "--json").out)
    xmin, ymin, _, ymax = facts["bounds"]
    box = f"{xmin + 7},{ymin},{xmin + 31},{ymax}"
    done = call("choose-k", scene, "--k", "2..3", "--bbox", box, "--json")
    found = json.loads(done.out)
    assert found["shape"] == [60, 24]
    assert found["pixels"] == 60 * 24


@pytest.mark.parametrize("side", [60, 400, 3000])
def test_trial__takes_no_more_pixels_than_it_says(tmp_path: Path, side: int) -> None:
    """Nothing is read: the file is as long as its header says, and empty."""
    path = write_envi(tmp_path / "s.img", np.zeros((4, 4, N_BANDS), np.int16))
    header = path.with_name("s.img.hdr")
    text = header.read_text().replace("samples = 4", f"samples = {side}")
    header.write_text(text.replace("lines = 4", f"lines = {side}"))
    with path.open("r+b") as file:
        file.truncate(side * side * N_BANDS * 2)
    trial = prepare_trial(load_config(path, tmp_path, {}), [2, 3])
    grid = (-(-side // trial.stride)) ** 2
    assert trial.n_pixels == min(grid, MAX_COARSE_PIXELS)
    assert grid <= 4 * 2 * MAX_COARSE_PIXELS
    assert grid >= min(side * side, MAX_COARSE_PIXELS) / 2
    assert f"of {side} x {side}" in trial.describe_cost()


@pytest.mark.parametrize("text", ["1..5", "5..2", "2-9", "a", "2..999", ""])
def test_choose_k__bad_ranges_get_one_message(scene: Path, text: str) -> None:
    check_refused(call("choose-k", scene, "--k", text), 2, "LOW..HIGH")


def test_choose_k__too_few_pixels_get_one_message(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = write_envi(tmp_path / "s.img", rng.integers(1, 99, (3, 3, 6)).astype(np.int16))
    done = call("choose-k", path, "--k", "2..20")
    assert done.code == 3
    assert "9 valid sampled pixels are too few for 20 clusters" in done.error


def test_judge__scores_are_scikit_learn_s_and_none_where_there_are_none() -> None:
    rng = np.random.default_rng(4)
    scaled, labels = rng.normal(size=(200, 4)), rng.integers(0, 3, 200)
    few = np.arange(0, 200, 2)
    assert score_clustering(scaled, labels, few) == (
        pytest.approx(silhouette_score(scaled[few], labels[few])),
        pytest.approx(davies_bouldin_score(scaled, labels)),
    )
    assert score_clustering(scaled, np.zeros(200, int), few) == (None, None)


def test_seed_stability__is_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(5)
    labels = [rng.integers(0, 4, 300) for _ in range(4)]
    labels[1] = (labels[0] + 1) % 4  # the same under other numbers
    true = np.mean([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)])
    assert measure_seed_stability(labels, 4) == pytest.approx(true)
    assert measure_seed_stability(labels[:2], 4) == 1


def test_resampling_stability__is_of_the_pixels_that_two_fits_share() -> None:
    picks = draw_subsamples(500, 7)
    assert [len(pick) for pick in picks] == [400] * 5
    assert all((np.diff(pick) > 0).all() for pick in picks)
    assert len({pick.tobytes() for pick in picks}) == 5
    for again, pick in zip(draw_subsamples(500, 7), picks, strict=True):
        np.testing.assert_array_equal(again, pick)
    rng = np.random.default_rng(6)
    labels = [rng.integers(0, 3, 500) for _ in picks]
    shared = [(np.intersect1d(picks[i], picks[j]), i, j) for i, j in combinations(range(5), 2)]
    true = np.mean([adjusted_rand_score(labels[i][both], labels[j][both]) for both, i, j in shared])
    assert measure_resampling_stability(labels, picks) == pytest.approx(true)
    one = rng.integers(0, 3, 500)
    elsewhere = [np.where(np.isin(np.arange(500), pick), one, 9) for pick in picks]
    assert measure_resampling_stability(elsewhere, picks) == 1


def test_resampling_stability__falls_where_the_seeds_still_agree() -> None:
    """Two kinds of pixels in three clusters: which of the two is cut in half is chance."""
    rng = np.random.default_rng(8)
    side = rng.integers(0, 2, 600)
    picks = draw_subsamples(600, 0)
    cuts = [np.where(side == n % 2, 2, side) * (rng.random(600) < 0.5) for n in range(5)]
    assert measure_seed_stability([cuts[0]] * 5, 3) == 1
    assert measure_resampling_stability(cuts, picks) < 0.9


def judged(
    inertia: list[float], silhouette: list[float], stability: list[float]
) -> list[ClusterScores]:
    return [
        ClusterScores(k, i, i / 100, s, 1.0, 1.0, t)
        for k, (i, s, t) in enumerate(zip(inertia, silhouette, stability, strict=True), 2)
    ]


def test_recommend__weighs_elbow_stability_and_silhouette() -> None:
    inertia = [100, 60, 20, 15, 11, 8]  # elbow at 4
    silhouette = [0.9, 0.5, 0.4, 0.6, 0.7, 0.3]
    entries = judged(inertia, silhouette, [1, 1, 1, 0.95, 0.5, 1])
    assert find_elbow(entries) == 4
    k, reason = recommend_k(entries)
    assert k == 5  # 2 is below the elbow, 6 is unstable
    assert "0.600" in reason
    seeds = [replace(e, seed_stability=e.resampling_stability, resampling_stability=1.0)
             for e in entries]  # fmt: skip
    assert recommend_k(seeds)[0] == 5  # either kind of stability decides
    k, reason = recommend_k(judged(inertia, silhouette, [1, 1, 0.2, 0.3, 0.7, 0.1]))
    assert k == 6
    assert "no fits agree" in reason
    assert recommend_k(judged([5.0], [0.1], [1]))[0] == 2
