"""Two runs against each other: tables, matches and indices computed again from the arrays."""

from __future__ import annotations

import json
import shutil
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.cluster import contingency_matrix

from cli_case import call, check_refused
from hyperhpc.analysis.agreement import confusion_table, count_agreeing_pixels, match_labels
from hyperhpc.compute.stores import create_group, create_store
from hyperhpc.scene.cube import Grid
from hyperhpc.schema import CLUSTER, INDICES
from hyperhpc.tools.compare import _block_sums
from run_case import RunCase

X0, Y0 = 517000.0, 4526000.0


def other_run(case: RunCase, out: Path, labels: np.ndarray, *, n: int = 8,
              corner: tuple[float, float] = (X0, Y0), pixel: float = 1.0,
              model: str = "lloyd", epsg: int = 32613) -> Path:  # fmt: skip
    """A run with one model of these labels."""
    from pyproj import CRS

    out.mkdir()
    for name in ("plan.json", "model.json"):
        shutil.copy(case.out / name, out / name)
    run = case.json("run")
    run["scene"]["epsg"] = epsg
    (out / "run.json").write_text(json.dumps(run), "utf-8")
    group = create_store(out / "results.zarr")
    grid = Grid(*corner, pixel, pixel, CRS.from_epsg(epsg).to_wkt(), epsg)
    create_group(group, {INDICES: [], CLUSTER: [model]}, grid, labels.shape, (64, 64), {})
    group["cluster"][0] = labels  # type: ignore[index]
    pixels = np.bincount(labels[labels != 255], minlength=n).tolist()
    (out / "clusters.json").write_text(json.dumps({"models": {model: {"pixels": pixels}}}))
    return out


@pytest.fixture
def lloyd(run_case: RunCase) -> np.ndarray:
    return run_case.results["cluster"].sel(model="lloyd").values


def compare(*words: str | Path) -> dict[str, Any]:
    done = call("compare", *words, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_compare__a_run_with_itself_agrees_wholly(run_case: RunCase) -> None:
    facts = compare(run_case.out, run_case.out)
    assert facts["same_area"]
    assert facts["shape"] == [160, 200]
    n_valid = int(run_case.is_valid.sum())
    assert facts["pixels"] == {
        "both": n_valid, "only_first": 0, "only_second": 0, "neither": 32000 - n_valid,
    }  # fmt: skip
    assert [pair["models"] for pair in facts["pairs"]] == [
        [a, b] for a in ("lloyd", "minibatch") for b in ("lloyd", "minibatch")
    ]
    same, crossed = facts["pairs"][0], facts["pairs"][1]
    assert same["adjusted_rand_index"] == same["share_agreeing"] == 1
    assert same["matched"] == [[k, k] for k in range(8)]
    assert same["largest_disagreements"] == []
    (stored,) = run_case.json("clusters")["agreement"]  # what the run itself says
    assert crossed["confusion"] == stored["confusion"]
    assert crossed["adjusted_rand_index"] == stored["adjusted_rand_index"]


def test_compare__is_as_computed_from_the_arrays(
    run_case: RunCase, lloyd: np.ndarray, tmp_path: Path
) -> None:
    rng = np.random.default_rng(7)
    renamed = rng.permutation(11).astype(np.uint8)[:8]  # of 11 clusters, three are new
    true = {int(a): int(b) for a, b in enumerate(renamed)}
    second = np.where(lloyd == 255, 255, renamed[np.minimum(lloyd, 7)]).astype(np.uint8)
    noisy = (rng.random(lloyd.shape) < 0.1) & (lloyd != 255)
    second[noisy] = rng.integers(0, 11, noisy.sum())
    second[:30] = 255
    out = other_run(run_case, tmp_path / "other", second, n=11)
    facts = compare(run_case.out, out)
    both = (lloyd != 255) & (second != 255)
    assert facts["pixels"]["both"] == both.sum()
    assert facts["pixels"]["only_first"] == ((lloyd != 255) & (second == 255)).sum()
    pair = facts["pairs"][0]
    a, b = lloyd[both], second[both]
    table = np.zeros((8, 11), int)
    np.add.at(table, (a, b), 1)
    assert pair["confusion"] == table.tolist()
    np.testing.assert_array_equal(table[:, table.any(axis=0)], contingency_matrix(a, b))
    assert pair["adjusted_rand_index"] == pytest.approx(adjusted_rand_score(a, b), rel=1e-12)
    assert dict(pair["matched"]) == true
    agree = np.array([true[k] for k in range(8)])[a] == b
    assert pair["agreeing"] == agree.sum()
    assert pair["share_agreeing"] == pytest.approx(agree.mean())
    cells: dict[tuple[int, int], int] = {}
    for cell in zip(a[~agree].tolist(), b[~agree].tolist(), strict=True):
        cells[cell] = cells.get(cell, 0) + 1
    largest = sorted(cells.values(), reverse=True)[:5]
    assert [entry["pixels"] for entry in pair["largest_disagreements"]] == largest
    for entry in pair["largest_disagreements"]:
        assert cells[tuple(entry["clusters"])] == entry["pixels"]


def test_compare__takes_what_two_areas_have_in_common(
    run_case: RunCase, lloyd: np.ndarray, tmp_path: Path
) -> None:
    shifted = np.full((700, 90), 255, np.uint8)  # more than one strip, mostly outside
    shifted[600:700] = lloyd[:100, 60:150]
    out = other_run(run_case, tmp_path / "o", shifted, corner=(X0 + 60, Y0 + 600))
    for first, second in ((run_case.out, out), (out, run_case.out)):
        facts = compare(first, second)
        assert facts["shape"] == [100, 90]
        assert not facts["same_area"]
        assert facts["bounds"] == [X0 + 60, Y0 - 100, X0 + 150, Y0]
        assert facts["pairs"][0]["share_agreeing"] == 1
        assert facts["pixels"]["both"] == (lloyd[:100, 60:150] != 255).sum()


@pytest.mark.parametrize(
    ("how", "parts"),
    [
        ({"corner": (X0 + 0.4, Y0)}, ["different grids", "517000.4"]),
        ({"pixel": 2.0}, ["different grids", "2 x 2"]),
        ({"corner": (X0 + 200, Y0)}, ["no pixel in common", "517200"]),
        ({"epsg": 32610}, ["reference systems", "zone 13N", "zone 10N"]),
    ],
)
def test_compare__refuses_other_grids_in_one_message(
    run_case: RunCase, lloyd: np.ndarray, tmp_path: Path, how: dict[str, Any], parts: list[str]
) -> None:
    out = other_run(run_case, tmp_path / "o", lloyd, **how)
    check_refused(call("compare", run_case.out, out), 3, *parts)


def test_compare__refuses_what_is_no_finished_run(run_case: RunCase, tmp_path: Path) -> None:
    check_refused(call("compare", run_case.out, tmp_path), 3, "holds no run")
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    run = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(run | {"complete": False, "command": "hyperhpc run"}))
    check_refused(call("compare", run_case.out, out), 7, "is not finished", "hyperhpc run")
    figure = tmp_path / "x.gif"
    check_refused(call("compare", out, out, "--figure", figure), 3, ".gif")


@pytest.mark.slow
def test_compare__tells_it_in_words_and_draws_it(
    run_case: RunCase, lloyd: np.ndarray, tmp_path: Path
) -> None:
    second = lloyd.copy()
    second[130:, 160:][lloyd[130:, 160:] != 255] = 8  # a small cluster of its own
    out = other_run(run_case, tmp_path / "other", second, n=9)
    figure = tmp_path / "f.png"
    done = call("compare", run_case.out, out, "--figure", figure)
    assert done.code == 0, done.err
    assert "compared: 160 x 200 pixels, the whole area" in done.out
    share = (lloyd == second)[lloyd != 255].mean()
    assert f"lloyd / lloyd: {share:.2%} of pixels agree" in done.out
    picture = imread(figure)[..., :3]
    assert min(picture.shape[:2]) > 500
    dark = np.array([0x7F, 0, 0]) / 255  # all differ, in the ramp of differences
    found = (np.abs(picture - dark).max(axis=2) < 0.02).mean()
    assert found > 0.002
    assert not list(tmp_path.glob(".*"))
    same = tmp_path / "same.png"
    call("compare", run_case.out, run_case.out, "--figure", same)
    found = (np.abs(imread(same)[..., :3] - dark).max(axis=2) < 0.02).mean()
    assert found < 0.001  # but for the end of the bar


@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (6, 4), (1, 3)])
def test_match_labels__no_other_match_has_more_pixels(shape: tuple[int, int]) -> None:
    table = np.random.default_rng(sum(shape)).integers(0, 50, shape)
    matched = match_labels(table)
    assert len(matched) == min(shape)
    small = table if shape[0] <= shape[1] else table.T
    best = max(
        sum(small[i, j] for i, j in enumerate(order))
        for order in permutations(range(small.shape[1]), small.shape[0])
    )
    assert count_agreeing_pixels(table, matched) == best


def test_confusion_table__counts_pairs() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.integers(0, 250, 5000).astype(np.uint8), rng.integers(0, 7, 5000).astype(np.uint8))
    table = confusion_table(a, b, 250, 7)
    assert table[3, 4] == ((a == 3) & (b == 4)).sum()
    np.testing.assert_array_equal(table.sum(axis=1), np.bincount(a, minlength=250))
    np.testing.assert_array_equal(table.sum(axis=0), np.bincount(b, minlength=7))


def test_block_sums__count_in_blocks_and_at_edges() -> None:
    mask = np.random.default_rng(3).random((7, 11)) < 0.5
    sums = _block_sums(mask, 3)
    assert sums.shape == (3, 4)
    for i in range(3):
        for j in range(4):
            assert sums[i, j] == mask[3 * i : 3 * i + 3, 3 * j : 3 * j + 3].sum()


def test_compare__reads_what_the_run_has_written(run_case: RunCase) -> None:
    """The labels compared are those plain xarray reads."""
    labels = (
        xr.open_zarr(run_case.out / "results.zarr", mask_and_scale=False)["cluster"]
        .sel(model="lloyd")
        .values
    )
    counts = np.bincount(labels[labels != 255], minlength=8)
    table = np.array(compare(run_case.out, run_case.out)["pairs"][0]["confusion"])
    np.testing.assert_array_equal(np.diag(table), counts)
