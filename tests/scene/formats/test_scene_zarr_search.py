"""Finding the cube in a Zarr store, and one clear error where there is none."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.formats.zarr import open_zarr_scene
from zarr_case import ALL, CUBE, NB, NX, NY, WL, X, Y, read_all, write

# --- finding the cube -----------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("group", ["", "a", "a/b/c"])
def test_search__finds_a_nested_cube(tmp_path: Path, version: int, group: str) -> None:
    path = write(tmp_path / "s.zarr", group=group, name="dn", version=version)
    (path / "notes.txt").write_text("no part of the store")
    (path / "folder").mkdir()
    scene = open_zarr_scene(str(path))
    assert scene.group == group
    np.testing.assert_array_equal(scene.read(ALL, ALL), CUBE)
    np.testing.assert_array_equal(read_all(path / group), CUBE)
    np.testing.assert_array_equal(read_all(path / group / "dn"), CUBE)


def test_search__coordinates_may_lie_in_a_parent_group(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", group="inner", coords={})
    root = zarr.open_group(path, mode="a")
    for name, values in {"x": X, "y": Y, "wl": WL}.items():
        root.create_array(name, data=values, dimension_names=(name,))
    np.testing.assert_array_equal(read_all(path), CUBE)


def test_search__prefers_reflectance(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", CUBE * 0, group="one", name="radiance")
    write(path, CUBE, group="two", name="reflectance")
    write(path, CUBE * 0, group="two", name="noise")
    scene = open_zarr_scene(str(path))
    assert scene.group == "two"
    np.testing.assert_array_equal(scene.read(ALL, ALL), CUBE)


def test_search__array_without_wavelength_is_no_candidate(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", name="dn")
    zarr.open_group(path, mode="a")["reflectance"].create_array(
        "weather", shape=(NY, NX, 3), dtype="u1", dimension_names=("y", "x", "rgb")
    )
    np.testing.assert_array_equal(read_all(path), CUBE)


def test_search__two_cubes_need_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", CUBE, group="one")
    write(path, CUBE + 1, group="two")
    with pytest.raises(SceneError, match="2 cubes: one, two") as caught:
        open_zarr_scene(str(path))
    assert caught.value.hint == "Choose one: --group one"
    for group, add in (("one", 0), ("two", 1), ("/two/", 1), ("two/reflectance", 1)):
        np.testing.assert_array_equal(read_all(path, group=group), CUBE + add)


def test_search__two_cubes_in_one_group_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", name="day")
    write(path, CUBE + 1, name="night")
    with pytest.raises(SceneError, match="reflectance/day, reflectance/night"):
        open_zarr_scene(str(path))
    np.testing.assert_array_equal(read_all(path, group="reflectance/night"), CUBE + 1)


def test_search__unknown_group_lists_those_there(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr")
    with pytest.raises(SceneError, match="no group 'other'") as caught:
        open_zarr_scene(str(path), group="other")
    assert caught.value.hint == "Groups with cubes: reflectance"


# --- grids ----------------------------------------------------------------------------


def test_grid__single_row_takes_the_other_pixel_size(tmp_path: Path) -> None:
    coords = {"x": 10.0 + 2 * np.arange(NX), "y": np.array([50.0]), "wl": WL}
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", CUBE[:1], coords=coords)))
    assert scene.bounds == [9.0, 49.0, 27.0, 51.0]
    coords = {"x": np.array([10.0]), "y": 50.0 - 3 * np.arange(NY), "wl": WL}
    scene = open_zarr_scene(str(write(tmp_path / "c.zarr", CUBE[:, :1], coords=coords)))
    assert scene.bounds == [8.5, 18.5, 11.5, 51.5]


def test_grid__float32_northings_are_regular_enough(tmp_path: Path) -> None:
    y = (4100010.05 - 0.1 * np.arange(NY)).astype("float32")  # spacing of float32: 0.25 m
    path = write(tmp_path / "s.zarr", coords={"x": X, "y": y, "wl": WL})
    assert open_zarr_scene(str(path)).grid.py == pytest.approx(0.1, rel=0.3)


def test_grid__without_coordinates_counts_pixels(tmp_path: Path) -> None:
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", coords={"wl": WL})))
    assert scene.bounds == [0.0, 0.0, NX, NY]
    assert any("positions are pixels" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("x", X[::-1], "x descends from 500008.5 to 500000.5"),
        ("x", np.r_[X[:-1], X[-1] + 0.5], "x is not regular"),
        ("y", np.r_[Y[0] + 3, Y[1:]], "y is not regular"),
        ("x", np.full(NX, 5.0), "x is not regular"),
        ("y", np.r_[np.nan, Y[1:]], "y holds values that are not finite"),
        ("wl", np.r_[WL[:-1], np.nan], "1 of 14 wavelengths are not finite"),
        ("wl", np.arange(1, NB + 1) * 100.0, "wavelength 100 nm is outside 300-3000 nm"),
        ("wl", np.linspace(400, 3001, NB), "wavelength 3001 nm is outside"),
        ("wl", WL[:-1], "wl has 13 values; the cube has 14 bands"),
    ],
)
def test_open_zarr__bad_coordinate(
    tmp_path: Path, name: str, values: np.ndarray, message: str
) -> None:
    path = write(tmp_path / "s.zarr", coords={"x": X, "y": Y, "wl": WL, name: values})
    with pytest.raises(SceneError, match=message):
        open_zarr_scene(str(path))


# --- what is no scene -----------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_open_zarr__no_wavelengths(tmp_path: Path, version: int) -> None:
    path = write(tmp_path / "s.zarr", coords={"x": X, "y": Y}, version=version)
    with pytest.raises(SceneError, match="no wavelength coordinate") as caught:
        open_zarr_scene(str(path))
    assert caught.value.hint is not None


def test_open_zarr__unnamed_square_is_ambiguous(tmp_path: Path) -> None:
    coords = {"x": X, "y": Y[:NX], "wl": WL}
    path = write(tmp_path / "s.zarr", CUBE[:NX], dims=None, coords=coords)
    with pytest.raises(SceneError, match="2 orders of the dimensions fit"):
        open_zarr_scene(str(path))


@pytest.mark.parametrize("version", [2, 3])
def test_open_zarr__no_cube(tmp_path: Path, version: int) -> None:
    root = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=version)
    root.create_array("flat", shape=(3, 4), dtype="int16")
    with pytest.raises(SceneError, match=r"holds no cube.*flat \(3, 4\)"):
        open_zarr_scene(str(tmp_path / "s.zarr"))


def test_open_zarr__path_of_a_coordinate(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr")
    with pytest.raises(SceneError, match=r"array of shape \(14,\)") as caught:
        open_zarr_scene(str(path / "reflectance" / "wl"))
    assert str(path / "reflectance") in str(caught.value.hint)


def test_open_zarr__not_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", CUBE > 5)
    with pytest.raises(SceneError, match="has dtype bool"):
        open_zarr_scene(str(path))


def test_open_zarr__plain_folder_names_the_stores_in_it(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    with pytest.raises(SceneError, match="without Zarr metadata") as caught:
        open_scene(tmp_path)
    assert caught.value.hint == "It holds s.zarr: give one of these"


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"zarr_format": 9}'])
def test_open_zarr__damaged_metadata(tmp_path: Path, version: int, text: str) -> None:
    path = write(tmp_path / "s.zarr", version=version)
    name = "zarr.json" if version == 3 else ".zarray"
    (path / "reflectance" / "reflectance" / name).write_text(text)
    with pytest.raises(SceneError):
        open_zarr_scene(str(path))


def chunk_files(path: Path) -> list[Path]:
    array = path / "reflectance" / "reflectance"
    return sorted(
        file
        for file in array.rglob("*")
        if file.is_file() and file.name not in ("zarr.json", ".zarray", ".zattrs")
    )


@pytest.mark.parametrize(
    ("version", "options"),
    [
        (2, {}),
        (2, {"compressors": None}),
        (3, {}),
        (3, {"compressors": [BloscCodec(cname="zstd")]}),
        (3, {"compressors": [BloscCodec(cname="lz4"), Crc32cCodec()], "shards": (12, 10, NB)}),
    ],
    ids=["v2-blosc", "v2-raw", "v3-zstd", "v3-blosc", "v3-shard"],
)
@pytest.mark.parametrize("keep", [0, 0.1, 0.6, -1])
def test_read__damaged_chunk(
    tmp_path: Path, version: int, options: dict[str, Any], keep: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 9999, CUBE.shape).astype("int16")
    path = write(tmp_path / "s.zarr", noise, version=version, chunks=(6, 5, NB), **options)
    scene = open_zarr_scene(str(path))
    file = chunk_files(path)[0]
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep >= 0 else -1])
    with pytest.raises(SceneError) as caught:
        scene.read(slice(2, 7), slice(1, 9))
    message = str(caught.value)
    assert "reflectance/reflectance of" in message
    assert "rows 2-6, columns 1-8, bands 0-13" in message
    assert "\n" not in message
    assert caught.value.__cause__ is not None
    assert type(caught.value.__cause__).__name__ in message


def test_read__shard_cut_behind_its_index(tmp_path: Path) -> None:
    """With the index first, a cut shard still lists its chunks; zarr would fill them."""
    noise = np.random.default_rng(0).integers(0, 9999, CUBE.shape).astype("int16")
    path = write(
        tmp_path / "s.zarr",
        noise,
        chunks=(6, 5, NB),
        shards={"shape": (12, 10, NB), "index_location": "start"},
        compressors=[BloscCodec(cname="lz4")],
    )
    scene = open_zarr_scene(str(path))
    (file,) = chunk_files(path)
    file.write_bytes(file.read_bytes()[:100])
    for rows in (slice(0, 6), slice(6, 11)):
        with pytest.raises(SceneError, match=r"truncated: \d+ of \d+ bytes|no bytes"):
            scene.read(rows, ALL)


# --- travelling -----------------------------------------------------------------------


def test_scene__pickles_and_reads_elsewhere(tmp_path: Path) -> None:
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr")))
    scene.read(ALL, ALL)
    copy = pickle.loads(pickle.dumps(scene))
    assert len(pickle.dumps(scene)) < 10_000
    np.testing.assert_array_equal(copy.read(ALL, ALL), CUBE)
    assert copy.fingerprint() == scene.fingerprint()


@pytest.mark.parametrize("version", [2, 3])
def test_fingerprint__same_when_moved_other_when_changed(tmp_path: Path, version: int) -> None:
    path = write(tmp_path / "s.zarr", version=version)
    scene = open_scene(path)
    first = scene.fingerprint()
    assert str(tmp_path) not in repr(first)
    path.rename(tmp_path / "moved.zarr")
    with pytest.raises(SceneError):
        scene.read(ALL, ALL)
    moved = open_scene(tmp_path / "moved.zarr")
    assert moved.fingerprint() == first
    zarr.open_array(tmp_path / "moved.zarr/reflectance/reflectance", mode="a").attrs["a"] = 1
    assert moved.fingerprint() != first


def test_read__store_is_never_written(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr")
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    open_zarr_scene(str(path)).read(ALL, ALL)
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before
