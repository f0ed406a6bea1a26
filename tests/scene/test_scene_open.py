"""The door: dispatch by what is on disk, the xarray view, the description."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

from hyperhpc.errors import SceneError
from hyperhpc.scene import Grid, Scene, describe, open_scene, to_xarray
from hyperhpc.scene.lazy import dask_chunks

ALL = slice(None)
CUBE = np.arange(12 * 10 * 6, dtype="int16").reshape(12, 10, 6)
WL = np.array([400.0, 500.0, 1000.0, 905.0, 1500.0, 2000.0])  # not monotonic, as EnMAP's
INFO_KEYS = {
    "format", "shape", "dtype", "wavelength_nm", "scale_factor", "nodata", "epsg", "bounds",
    "bad_band_windows_nm", "n_bands",
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = zarr.open_group(tmp_path / "ugly ü name", mode="w", zarr_format=3)
    group = root.create_group("reflectance")
    group.create_array(
        "reflectance", data=CUBE, chunks=(4, 5, 6), dimension_names=("y", "x", "wl")
    ).attrs.update({"epsg": 32611, "Data_Ignore_Value": -9999, "Scale_Factor": 10000.0})
    for name, values in (("y", 99.5 - np.arange(12)), ("x", 7.5 + np.arange(10)), ("wl", WL)):
        group.create_array(name, data=values, dimension_names=(name,))
    return tmp_path / "ugly ü name"


@pytest.fixture
def neon(tmp_path: Path) -> Path:
    path = tmp_path / "without_suffix"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["SITE/Reflectance/Reflectance_Data"] = CUBE
        file["SITE/Reflectance/Metadata/Spectral_Data/Wavelength"] = WL
        file["SITE/Reflectance/Metadata/Coordinate_System/Map_Info"] = (
            "UTM, 1, 1, 7.0, 100.0, 1, 1, 11, North, WGS-84, units=Meters, 0"
        )
    return path


def test_open_scene__goes_by_content(store: Path, neon: Path) -> None:
    for path, kind in ((store, "zarr3"), (neon, "neon-hdf5"), (store / "reflectance", "zarr3")):
        scene = open_scene(path)
        assert scene.format == kind
        assert Path(scene.path).is_absolute()
        np.testing.assert_array_equal(scene.read(ALL, ALL), CUBE)
    assert open_scene(str(store), group="reflectance").group == "reflectance"


def test_open_scene__relative_path(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(store.parent)
    scene = open_scene(store.name)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(scene.read(ALL, ALL), CUBE)


def test_open_scene__missing_path(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="does not exist") as caught:
        open_scene(tmp_path / "no" / "such" / "scene.zarr")
    assert caught.value.exit_code == 4
    assert str(caught.value.hint).endswith(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty file"),
        (b"PK\x03\x04 zip", "not of a known format .*HDF5, GeoTIFF, ENVI"),
        (b"\x89HDF", "not of a known format .*HDF5, GeoTIFF, ENVI"),
    ],
)
def test_open_scene__unknown_kind(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "scene.h5"
    path.write_bytes(content)
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(path)
    assert caught.value.hint


def test_open_scene__empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="without Zarr metadata"):
        open_scene(tmp_path)


def test_read__from_many_threads(store: Path, neon: Path) -> None:
    scenes = [open_scene(store), open_scene(neon)]

    def check(n: int) -> bool:
        rows = slice(n % 6, 12)
        return bool(np.array_equal(scenes[n % 2].read(rows, ALL), CUBE[rows]))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(64)))


def test_describe__is_what_info_prints(store: Path) -> None:
    info = describe(open_scene(store))
    assert info.keys() >= INFO_KEYS
    again = json.loads(json.dumps(info, allow_nan=False))
    assert {key: again[key] for key in INFO_KEYS} == {
        "format": "zarr3",
        "shape": [12, 10, 6],
        "dtype": "int16",
        "wavelength_nm": [400.0, 2000.0],
        "scale_factor": 10000,
        "nodata": [-9999],
        "epsg": 32611,
        "bounds": [7.0, 88.0, 17.0, 100.0],
        "bad_band_windows_nm": [],
        "n_bands": 6,
    }


@pytest.mark.parametrize("kind", ["store", "neon"])
def test_to_xarray__is_lazy_and_equal(kind: str, request: pytest.FixtureRequest) -> None:
    scene = open_scene(request.getfixturevalue(kind))
    array = to_xarray(scene)
    assert array.name == "dn"
    assert array.dims == ("y", "x", "wavelength")
    assert array.dtype == np.int16
    assert array.chunks is not None
    np.testing.assert_array_equal(array["wavelength"], WL)
    np.testing.assert_array_equal(array["y"], 99.5 - np.arange(12))
    np.testing.assert_array_equal(array["x"], 7.5 + np.arange(10))
    assert array.attrs["scale_factor"] == 0.0001
    assert array.attrs["_FillValue"] == -9999
    assert array.attrs["epsg"] == 32611
    assert array.attrs["format"] == scene.format
    for key in (
        np.s_[:],
        np.s_[3],
        np.s_[3, 4],
        np.s_[::-2, 1:9:3, [1, 4]],
        np.s_[..., -1],
        np.s_[0:0],
    ):
        np.testing.assert_array_equal(array[key].compute(scheduler="synchronous"), CUBE[key])
    copy = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(copy.compute(scheduler="threads"), CUBE)
    assert to_xarray(open_scene(scene.path)).data.name == array.data.name


def test_to_xarray__rioxarray_reads_the_georeference(store: Path) -> None:
    pytest.importorskip("rioxarray")
    array = to_xarray(open_scene(store))
    assert array.rio.crs.to_epsg() == 32611
    assert array.rio.bounds() == (7.0, 88.0, 17.0, 100.0)
    assert array["spatial_ref"].attrs["GeoTransform"] == "7.0 1.0 0.0 100.0 0.0 -1.0"


class NoScene(Scene):
    """A scene of any shape, without pixels."""

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        raise AssertionError("no pixel is needed")


def scene_of(
    shape: tuple[int, int, int],
    chunks: tuple[int, int, int],
    shards: tuple[int, int, int] | None = None,
) -> Scene:
    return NoScene(
        path="/nowhere",
        format="zarr3",
        shape=shape,
        dtype="int16",
        stored_dtype="int16",
        wavelength_nm=np.linspace(400, 2500, shape[2]),
        scale_factor=10000.0,
        nodata=(-9999.0,),
        grid=Grid(0.0, 0.0, 1.0, 1.0),
        chunks=chunks,
        shards=shards,
    )


@pytest.mark.parametrize(
    ("shape", "chunks", "shards"),
    [
        ((1000, 1000, 426), (32, 63, 27), None),
        ((10000, 9000, 426), (100, 100, 426), None),
        ((10000, 9000, 426), (64, 64, 426), (512, 512, 426)),
        ((10000, 9000, 426), (64, 64, 426), (256, 256, 426)),
        ((20000, 300, 426), (1, 300, 426), None),
        ((5, 4, 426), (5, 4, 426), None),
    ],
)
def test_dask_chunks__whole_stored_chunks_of_all_bands(
    shape: tuple[int, int, int], chunks: tuple[int, int, int], shards: tuple | None
) -> None:
    got = dask_chunks(scene_of(shape, chunks, shards))
    assert got[2] == shape[2]
    for axis in (0, 1):
        assert got[axis] % chunks[axis] == 0 or got[axis] == shape[axis]
        if shards is not None:
            assert shards[axis] % got[axis] == 0 or got[axis] % shards[axis] == 0
    size = 2 * got[0] * got[1] * got[2]
    assert size <= 128 << 20
    assert size >= min(32 << 20, 2 * shape[0] * shape[1] * shape[2])


def test_dask_chunks__one_band_per_chunk_is_split_by_band() -> None:
    got = dask_chunks(scene_of((10852, 1106, 426), (10852, 1106, 1)))
    assert got[:2] == (10852, 1106)
    assert 64 << 20 <= 2 * got[0] * got[1] * got[2] <= 128 << 20
