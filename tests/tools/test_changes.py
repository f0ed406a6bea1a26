"""Changes between two runs on one model, computed again from the arrays."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import zarr
from pyarrow import parquet

from cli_case import call, check_refused
from hyperhpc.compute.stores import create_group, create_store
from hyperhpc.results import open_results
from hyperhpc.schema import CLUSTER, INDICES
from hyperhpc.sealed import write_sealed
from run_case import RunCase

#: The second run lacks the first rows and columns of the first.
TOP, LEFT = 20, 30
NAMES = ["ndvi", "cai"]


@pytest.fixture
def later(run_case: RunCase, tmp_path: Path) -> Path:
    """A run of a part of the area, labelled by the same models, in which much has changed."""
    out = tmp_path / "later"
    out.mkdir()
    for name in ("plan.json", "model.json"):
        shutil.copy(run_case.out / name, out / name)
    first = open_results(run_case.out)
    grid = first.grid
    maps = zarr.open_group(run_case.out / "results.zarr", mode="r")
    rng = np.random.default_rng(5)
    labels = np.asarray(maps["cluster"])[:, TOP:, LEFT:]  # type: ignore[index]
    is_moved = (rng.random(labels.shape) < 0.2) & (labels != 255)
    labels = np.where(is_moved, rng.integers(0, 8, labels.shape), labels).astype(np.uint8)
    labels[:, :5] = 255
    values = np.stack([first.values(n, slice(TOP, None), slice(LEFT, None)) for n in NAMES])
    values += rng.normal(0, 0.1, values.shape).astype(np.float32)
    run = run_case.json("run")
    computed = run["indices"]["computed"]
    run["indices"]["computed"] = [entry for entry in computed if entry["name"] in NAMES]
    (out / "run.json").write_text(json.dumps(run), "utf-8")
    group = create_store(out / "results.zarr")
    corner = {"xmin": grid.xmin + LEFT * grid.px, "ymax": grid.ymax - TOP * grid.py}
    layers = {INDICES: NAMES, CLUSTER: list(first.model_names)}
    place = type(grid)(**corner, px=grid.px, py=grid.py, wkt=grid.wkt, epsg=grid.epsg)
    create_group(group, layers, place, labels.shape[1:], (64, 64), {})
    group["cluster"][:] = labels  # type: ignore[index]
    group["indices"][:] = values  # type: ignore[index]
    clusters: dict[str, Any] = {"models": {}}
    for model, found in zip(first.model_names, labels, strict=True):
        pixels = np.bincount(found[found != 255], minlength=8).tolist()
        clusters["models"][model] = {"pixels": pixels}
    (out / "clusters.json").write_text(json.dumps(clusters))
    return out


def test_transitions__are_as_computed_from_the_arrays(
    run_case: RunCase, later: Path, tmp_path: Path
) -> None:
    done = call("compare", run_case.out, later, "--json", "--transitions", tmp_path / "t.csv")
    assert done.code == 0, done.err
    facts = json.loads(done.out)["transitions"]
    assert [change["model"] for change in facts] == ["lloyd", "minibatch"]
    a = run_case.results["cluster"].sel(model="lloyd").values[TOP:, LEFT:]
    b = np.asarray(zarr.open_group(later / "results.zarr", mode="r")["cluster"])[0]  # type: ignore[index]
    expected = np.array([[int(((a == i) & (b == j)).sum()) for j in range(8)] for i in range(8)])
    np.testing.assert_array_equal(facts[0]["pixels"], expected)
    np.testing.assert_allclose(facts[0]["hectares"], expected / 1e4, rtol=1e-12)  # pixels of 1 m2
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["model"] == "lloyd"]
    assert [int(row["pixels"]) for row in rows] == expected.ravel().tolist()
    np.testing.assert_allclose(
        [float(row["share_of_from"]) for row in rows],
        (expected / expected.sum(axis=1, keepdims=True)).ravel(),
    )
    done = call("compare", run_case.out, later)
    stayed, total = np.trace(expected) / 1e4, expected.sum() / 1e4
    assert f"lloyd, one model in both runs: {stayed:.4g} ha of {total:.4g} ha" in done.out


def test_transitions__take_names_and_merges(run_case: RunCase, later: Path, tmp_path: Path) -> None:
    classes = [
        {"name": "woods", "clusters": [0, 3], "color": None},
        {"name": "rest", "clusters": [1, 2, 4, 5, 6, 7], "color": None},
    ]
    write_sealed(later / "classes.json", {"models": {"lloyd": classes}})
    table = tmp_path / "t.parquet"
    done = call("compare", run_case.out, later, "--json", "--transitions", table)
    assert done.code == 0, done.err
    change = json.loads(done.out)["transitions"][0]
    assert change["to"] == ["woods", "rest"]
    (pair,) = [
        pair for pair in json.loads(done.out)["pairs"] if pair["models"] == ["lloyd", "lloyd"]
    ]
    confusion = np.array(pair["confusion"])
    expected = np.stack([confusion[:, [0, 3]].sum(1), confusion[:, [1, 2, 4, 5, 6, 7]].sum(1)], 1)
    np.testing.assert_array_equal(change["pixels"], expected)
    assert parquet.read_table(table).column_names[:3] == ["model", "from", "to"]


def test_transitions__need_one_model(run_case: RunCase, later: Path, tmp_path: Path) -> None:
    model = json.loads((later / "model.json").read_text("utf-8"))
    for entry in model["models"].values():
        entry["centers"][0][0] += 0.001
    model.pop("crc32c", None)
    write_sealed(later / "model.json", model)
    done = call("compare", run_case.out, later, "--json")
    assert json.loads(done.out)["transitions"] == []
    table = tmp_path / "t.csv"
    check_refused(
        call("compare", run_case.out, later, "--transitions", table), 3, "no model in common",
        "--apply-model",
    )  # fmt: skip
    assert not table.exists()
    check_refused(
        call("compare", run_case.out, later, "--transitions", tmp_path / "t.txt"), 3, ".csv"
    )


def test_difference__is_that_of_the_arrays(run_case: RunCase, later: Path, tmp_path: Path) -> None:
    path = tmp_path / "change.tif"
    done = call("compare", run_case.out, later, "--difference", path)
    assert done.code == 0, done.err
    after = np.asarray(zarr.open_group(later / "results.zarr", mode="r")["indices"])
    first = run_case.results["indices"].sel(index=NAMES).values[:, TOP:, LEFT:]
    with rasterio.open(path) as file:
        assert file.descriptions == tuple(NAMES)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        np.testing.assert_array_equal(file.read(), after - first)
        grid = open_results(later).grid
        assert (file.transform.c, file.transform.f) == (grid.xmin, grid.ymax)
        assert file.crs.to_epsg() == grid.epsg
    done = call("compare", run_case.out, later, "--difference", path)
    check_refused(done, 3, "exists")


def test_difference__refuses_another_formula(
    run_case: RunCase, later: Path, tmp_path: Path
) -> None:
    run = json.loads((later / "run.json").read_text("utf-8"))
    run["indices"]["computed"][0]["formula"] = "R(860) / R(650)"
    (later / "run.json").write_text(json.dumps(run), "utf-8")
    path = tmp_path / "change.tif"
    done = call("compare", run_case.out, later, "--difference", path)
    check_refused(done, 3, "R(860) / R(650)", "--formula")
    assert not path.exists()
