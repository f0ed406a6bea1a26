"""Endmembers that ``hyperhpc endmembers`` finds in a scene of known mixtures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from cli_case import call, check_refused
from hyperhpc.simulate.materials import BRIGHT, GREEN, WATER, endmembers
from raster_case import MAP_INFO, listed, write_envi

WAVELENGTH_NM = np.linspace(420, 2450, 204).round(2)
#: Row and column of the pure pixels of each material, and what they may be.
PURE = {(2, 6): "green vegetation", (10, 22): "bright soil", (16, 8): "water or shade"}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mixtures of three materials, pure in one pixel each, and a border of no-data."""
    spectra = endmembers(WAVELENGTH_NM)[[GREEN, BRIGHT, WATER]]
    true = np.random.default_rng(5).dirichlet([2, 2, 2], (20, 30))
    for material, place in enumerate(PURE):
        true[place] = np.eye(3)[material]
    dn = np.rint(true @ spectra).astype(np.int16)
    dn[:, :2] = -9999
    dn[0, 4] = 0  # no material
    path = tmp_path_factory.mktemp("mixed") / "mixed.img"
    fields = {"wavelength": listed(WAVELENGTH_NM), "data_ignore_value": -9999}
    return write_envi(path, dn, map_info=MAP_INFO, **fields)


@pytest.mark.parametrize(("method", "stride"), [("nfindr", 1), ("atgp", 2)])
def test_endmembers__are_the_pure_pixels(
    scene: Path, tmp_path: Path, method: str, stride: int
) -> None:
    dest = tmp_path / "pure.csv"
    words = ("--count", "3", "--method", method, "--stride", str(stride))
    done = call("endmembers", scene, dest, *words, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    found = {(e["row"], e["col"]): e["suggestion"] for e in facts["endmembers"]}
    assert found == PURE
    assert facts["pixels"] == (559 if stride == 1 else 139)
    with dest.open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head[:6] == ["name", "group", "x", "y", "row", "col"]
    assert head[6:] == [f"nm_{nm:.3f}" for nm in facts["wavelength_nm"]]
    assert [row[0] for row in rows] == ["endmember-1", "endmember-2", "endmember-3"]
    for row, entry in zip(rows, facts["endmembers"], strict=True):
        assert list(map(float, row[6:])) == entry["reflectance"]
        x, y = 500000 + 2 * (entry["col"] + 0.5), 4000100 - 2 * (entry["row"] + 0.5)
        assert [float(value) for value in row[2:4]] == [x, y]
        shown = call("spectrum", scene, "--point", f"{x},{y}", "--json")
        (spectrum,) = json.loads(shown.out)
        known = dict(zip(spectrum["wavelength_nm"], spectrum["reflectance"], strict=True))
        assert [known[nm] for nm in facts["wavelength_nm"]] == entry["reflectance"]


def test_endmembers__of_an_area_in_words(scene: Path, tmp_path: Path) -> None:
    done = call("endmembers", scene, tmp_path / "e.csv", "--count", "2", "--bbox",
                "500010,4000060,500060,4000100")  # fmt: skip
    assert done.code == 0, done.err
    assert "suggestion" in done.out.splitlines()[0]
    assert len(done.out.splitlines()) == 3
    assert "of 500 pixels" in done.err


def test_endmembers__refuses_what_cannot_be_found(scene: Path, tmp_path: Path) -> None:
    dest = tmp_path / "e.csv"
    check_refused(call("endmembers", scene, dest, "--count", "17"), 3, "2 to 16 are possible")
    box = "500012,4000090,500014,4000092"
    done = call("endmembers", scene, dest, "--count", "2", "--bbox", box)
    check_refused(done, 3, "1 valid pixels", "hold 1 endmembers", "larger area")
    check_refused(call("endmembers", scene, dest, "--stride", "0"), 3, "stride = 0")
    dest.touch()
    check_refused(call("endmembers", scene, dest), 3, "exists already")
