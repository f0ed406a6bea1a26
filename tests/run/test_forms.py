"""Odd JSON, odd bytes in paths and odd numbers: one message, or the same as ever."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_case import call, check_refused
from hyperhpc.errors import ConfigError, HyperhpcError, SceneError
from hyperhpc.forms import FORMS, find_misfit
from hyperhpc.rundir.progress import Progress, StatusFile, read_status
from hyperhpc.scene import open_scene
from hyperhpc.scene.metadata import to_divisor
from hyperhpc.scene.vectors import read_features
from hyperhpc.sealed import DamagedJsonError, read_json, read_sums, write_json, write_sealed
from raster_case import write_envi


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [None, 1, "text", True, [1], {"files": 3, "models": 3}])
def test_find_misfit__of_every_file(name: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(json.dumps(value))
    if name in ("run.json", "plan.json") and isinstance(value, dict):
        assert read_json(path) == value  # keys that it does not have
        return
    with pytest.raises(DamagedJsonError, match=f"{name} is damaged: "):
        read_json(path)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("checksums.json", {"files": {"a": 5}}, "/files/a is a number, not a list"),
        ("checksums.json", {}, "files is missing"),
        ("run.json", {"complete": "yes"}, "/complete is a text, not true or false"),
        ("run.json", {"bad_tiles": [3]}, "/bad_tiles/0 is a number, not an object"),
        ("model.json", {"models": {"lloyd": []}, "wavelength_nm": [None]},
         "/wavelength_nm/0 is null, not a number"),
        ("model.json", {"models": {"lloyd": 1}, "wavelength_nm": []},
         "/models/lloyd is a number, not an object or a list"),
        ("spectra.json", {}, "it holds an object, not a list"),
        ("run.json", {"complete": True, "indices": {"computed": [{}]}}, None),
        ("unknown.json", 5, None),
    ],
)  # fmt: skip
def test_find_misfit__says_where(name: str, value: Any, what: str | None) -> None:
    assert find_misfit(name, value) == what


def test_read_sums__of_another_form(tmp_path: Path) -> None:
    (tmp_path / "checksums.json").write_text('{"files": {"a": 5}}')
    with pytest.raises(HyperhpcError, match=r"checksums\.json is damaged"):
        read_sums(tmp_path / "checksums.json")


def test_commands__refuse_a_run_of_odd_json(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("null")
    (tmp_path / "run.json").write_text("[1]")
    assert call("verify", tmp_path).code == 7
    check_refused(call("report", tmp_path), 3, "is damaged: it holds")


# Paths that are not UTF-8.

ODD = os.fsdecode(b"caf\xe9 \xff")


def test_json__of_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    for write in (write_json, write_sealed):
        path = tmp_path / "a.json"
        write(path, {"path": ODD, "name": "café"})
        path.read_bytes().decode("utf-8")
        assert read_json(path) == {"path": ODD, "name": "café"}


def test_status__of_a_path_that_is_not_utf8(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "status.txt", Progress(), "local")
    status.end("failed", f"no {ODD}")
    assert read_status(tmp_path)["error"] == "no caf\\udce9 \\udcff"


def test_open__a_raster_or_vector_file_that_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / ODD
    folder.mkdir()
    values = np.ones((2, 2, 4), np.int16)
    write_envi(tmp_path / "s.img", values)
    for file in tmp_path.glob("s.*"):
        file.rename(folder / file.name)
    path = folder / "s.img"
    with pytest.raises(SceneError, match="not UTF-8, which GDAL does not open"):
        open_scene(path)
    (folder / "a.geojson").write_text("{}")
    with pytest.raises(ConfigError, match="not UTF-8, which GDAL does not open"):
        read_features(folder / "a.geojson", "--aoi")


@pytest.mark.parametrize("value", [1e-320, 1e31, float("nan")])
def test_to_divisor__beyond_all_scales(value: float) -> None:
    for name, kind in (("--scale", ConfigError), ("scale_factor", SceneError)):
        with pytest.raises(kind, match="a scale lies between 1e-30 and 1e\\+30"):
            to_divisor(value, name, [])
