"""Chunk files that are not there: empty, or lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

from cli_case import call
from hyperhpc.errors import SceneError
from hyperhpc.scene import describe, open_scene
from hyperhpc.scene.formats.zarr_chunks import EMPTY_CHUNKS
from hyperhpc.simulate.scene import simulate
from zarr_case import write

CUBE = Path("reflectance") / "reflectance"
NAMES = {2: "1.2.0", 3: "c/0/0/0"}


@pytest.fixture(params=[2, 3])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A scene, and the name of a chunk file that holds data."""
    path = tmp_path / "scene.zarr"
    simulate(path, 300, 400, bands=30, seed=1, zarr_format=request.param)
    return path, NAMES[request.param]


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_store__of_ours_knows_a_lost_file(scene: tuple[Path, str], tmp_path: Path) -> None:
    path, name = scene
    assert not describe(open_scene(path))["notes"]
    (path / CUBE / name).unlink()
    assert f"Lost: 1 chunk files, {name} for one." in call("info", path).out
    with pytest.raises(SceneError, match=f"{name} is missing, and {EMPTY_CHUNKS} in"):
        list(open_scene(path).blocks(slice(0, 300), slice(0, 400)))
    outcome = call("run", path, tmp_path / "out", "--workers", "1")
    assert outcome.code == 4
    assert name in outcome.error
    assert "--skip-bad-tiles" in outcome.hint


@pytest.mark.slow
def test_store__of_ours_lists_what_holds_no_data(tmp_path: Path) -> None:
    path = tmp_path / "scene.zarr"
    simulate(path, 260, 700, bands=8, seed=1, zarr_format=2, nodata_fraction=0.6)
    array = zarr.open_array(path / CUBE)
    empty = str(array.attrs[EMPTY_CHUNKS]).split()
    assert empty, "no empty chunk in this scene: choose another seed"
    files = {file.name for file in (path / CUBE).iterdir() if file.name[0] != "."}
    assert not files & set(empty)
    assert len(files) + len(empty) == 3 * 6
    assert not describe(open_scene(path))["notes"]
    assert xr.open_zarr(path, group="reflectance").reflectance.shape == (260, 700, 8)
    dn = np.concatenate(
        [block.ravel() for _, _, block in open_scene(path).blocks(slice(0, 260), slice(0, 700))]
    )
    assert dn.size == 260 * 700 * 8


def test_store__of_others_is_told_how_many_are_absent(tmp_path: Path) -> None:
    path = write(tmp_path / "scene.zarr", version=2, chunks=(4, 9, 14))
    assert not any("absent" in note for note in describe(open_scene(path))["notes"])
    (path / CUBE / "1.0.0").unlink()
    (note_on_files,) = (note for note in describe(open_scene(path))["notes"] if "absent" in note)
    assert note_on_files.startswith("1 of 3 chunk files are absent (1.0.0 for one)")
