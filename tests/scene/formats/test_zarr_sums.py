"""A store with checksums: what is lost or changed in it is named by whoever reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.points import GivenPoints
from hyperhpc.sealed import measure_file, write_sums
from hyperhpc.simulate.scene import simulate
from hyperhpc.tools.extract import extract
from hyperhpc.tools.inspect import inspect_scene, read_spectra

GROUP = "reflectance"
SHARD = f"{GROUP}/reflectance/c/0/0/0"
SIDE, BANDS = 130, 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the file of checksums that ingest writes."""
    path = tmp_path_factory.mktemp("whole") / "store.zarr"
    simulate(path, SIDE, SIDE, bands=BANDS, seed=4)
    files = [file for file in path.rglob("*") if file.is_file()]
    sums = {str(file.relative_to(path)): measure_file(file) for file in files}
    write_sums(path / "checksums.json", sums)
    return path


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "s.zarr")
    return tmp_path / "s.zarr"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def read_all(store: Path) -> np.ndarray:
    """The cube as tools read it, and its thinned copy."""
    scene = open_scene(store)
    assert scene.thinned is not None
    scene.thinned.read(slice(0, scene.thinned.shape[0]), slice(0, scene.thinned.shape[1]))
    return scene.read(slice(0, SIDE), slice(0, SIDE))


def files_that_are_read(store: Path) -> list[str]:
    """Names of all files."""
    names = [str(file.relative_to(store)) for file in sorted(store.rglob("*")) if file.is_file()]
    return [name for name in names if name != "checksums.json"]


def test_store__that_is_whole_is_read(store: Path, whole: Path) -> None:
    np.testing.assert_array_equal(read_all(store), read_all(whole))
    assert not open_scene(store).check_files()


@pytest.mark.parametrize("harm", [flip, Path.unlink])
def test_store__each_file_is_named_once_it_is_harmed(
    store: Path, harm: Callable[[Path], None]
) -> None:
    for name in files_that_are_read(store):
        if harm is Path.unlink and name.endswith("zarr.json"):
            continue  # no node of the store any more: not found, which is said otherwise
        if "/every4th/" in name and "/c/" in name and f"/{GROUP}/c/" not in name:
            continue  # coordinates of the copy, which nobody reads
        data = (store / name).read_bytes()
        harm(store / name)
        with pytest.raises(SceneError) as caught:
            read_all(store)
        assert name in caught.value.message, name
        (store / name).write_bytes(data)
    read_all(store)


def test_store__with_damaged_checksums_is_refused(store: Path) -> None:
    flip(store / "checksums.json")
    with pytest.raises(SceneError, match=r"checksums\.json is damaged"):
        open_scene(store)


def test_store__without_checksums_is_read(store: Path) -> None:
    (store / "checksums.json").unlink()
    assert read_all(store).shape == (SIDE, SIDE, BANDS)


def test_shard__that_is_lost_is_named_by_all(store: Path, tmp_path: Path) -> None:
    scene = open_scene(store)
    x, y = scene.grid.x_centres(65, 66)[0], scene.grid.y_centres(65, 66)[0]
    given = GivenPoints(((x, y),), None, None)
    whole = read_spectra(store, SceneOptions(), given, "nearest", None)[0][0]["reflectance"]
    assert np.isfinite(np.array(whole, float)).any()
    (store / SHARD).unlink()
    with pytest.raises(SceneError, match=f"{SHARD} is missing"):
        read_spectra(store, SceneOptions(), given, "nearest", None)
    with pytest.raises(SceneError, match=f"{SHARD} is missing"):
        extract(store, None, given, tmp_path / "o.csv")
    assert not (tmp_path / "o.csv").exists()
    assert open_scene(store).check_files() == [f"Lost: 1 files of the store, {SHARD} for one."]
    assert any(SHARD in note for note in inspect_scene(store)["notes"])
