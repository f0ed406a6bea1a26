"""Zarr scenes: every layout gives the same canonical cube, every defect one clear error."""

from __future__ import annotations

import base64
import itertools
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from pyproj import CRS
from zarr.codecs import BloscCodec, Crc32cCodec

from hyperhpc.errors import SceneError
from hyperhpc.scene import describe, open_scene
from hyperhpc.scene.zarr import open_zarr_scene

NY, NX, NB = 11, 9, 14
ALL = slice(None)
#: Distinct values, so that any mix-up of axes shows; (y, x, band), north up.
CUBE = np.arange(NY * NX * NB, dtype=np.int16).reshape(NY, NX, NB)
X = 500000.5 + np.arange(NX)
Y = 4100010.5 - np.arange(NY)
WL = np.linspace(400.0, 2400.0, NB)
DIMS = ("y", "x", "wl")


def write(
    path: Path,
    data: np.ndarray = CUBE,
    *,
    version: int = 3,
    group: str = "reflectance",
    name: str = "reflectance",
    dims: tuple[str, ...] | None = DIMS,
    coords: dict[str, np.ndarray] | None = None,
    coord_attrs: dict[str, dict[str, Any]] | None = None,
    attrs: dict[str, Any] | None = None,
    group_attrs: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Write a store in the tutorial's layout with the zarr package itself."""
    root = zarr.open_group(path, mode="a", zarr_format=version)
    node = root.require_group(group) if group else root
    node.attrs.update(group_attrs or {})

    def create(
        key: str, values: np.ndarray, names: tuple[str, ...] | None, **more: Any
    ) -> zarr.Array:
        if names is not None and version == 3:
            more["dimension_names"] = names
        more.setdefault("chunks", values.shape)
        array = node.create_array(key, shape=values.shape, dtype=values.dtype, **more)
        if names is not None and version == 2:
            array.attrs["_ARRAY_DIMENSIONS"] = list(names)
        array[...] = values
        return array

    create(name, data, dims, **options).attrs.update(attrs or {})
    for key, values in ({"x": X, "y": Y, "wl": WL} if coords is None else coords).items():
        if key not in node:
            array = create(key, np.asarray(values), None if dims is None else (key,))
            array.attrs.update((coord_attrs or {}).get(key, {}))
    return path


def read_all(path: Path, **options: Any) -> np.ndarray:
    return open_zarr_scene(str(path), **options).read(ALL, ALL)


@pytest.mark.parametrize("version", [2, 3])
def test_open_zarr__reads_the_tutorial_layout(tmp_path: Path, version: int) -> None:
    wkt = CRS.from_epsg(32611).to_wkt()
    path = write(tmp_path / "s.zarr", version=version, chunks=(4, 5, NB))
    zarr.open_group(path, mode="a")["reflectance"].create_array(
        "spatial_ref", shape=(), dtype="int64"
    ).attrs["crs_wkt"] = wkt
    scene = open_zarr_scene(str(path))
    assert scene.format == f"zarr{version}"
    assert scene.shape == (NY, NX, NB)
    assert (scene.dtype, scene.stored_dtype) == ("int16", "int16")
    assert scene.group == "reflectance"
    assert scene.chunks == (4, 5, NB)
    assert scene.shards is None
    assert scene.scale_factor == 10000
    assert scene.nodata == (-9999,)
    assert scene.grid.epsg == 32611
    assert scene.bounds == [500000.0, 4100000.0, 500009.0, 4100011.0]
    np.testing.assert_allclose(scene.wavelength_nm, WL)
    np.testing.assert_allclose(scene.grid.x_centres(0, NX), X)
    np.testing.assert_allclose(scene.grid.y_centres(0, NY), Y)
    assert any("10000 is assumed" in note for note in scene.notes)
    assert any("-9999 is assumed" in note for note in scene.notes)
    block = scene.read(ALL, ALL)
    assert block.dtype == np.int16
    assert block.flags.c_contiguous
    np.testing.assert_array_equal(block, CUBE)


@pytest.mark.parametrize(
    ("version", "named"), [(2, True), (3, True), (3, False)], ids=["v2", "v3", "v3-unnamed"]
)
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_open_zarr__any_dimension_order(
    tmp_path: Path, version: int, order: tuple[int, int, int], named: bool
) -> None:
    chunk = (4, 5, 6)
    path = write(
        tmp_path / "s.zarr",
        CUBE.transpose(order),
        version=version,
        dims=tuple(DIMS[axis] for axis in order) if named else None,
        chunks=tuple(chunk[axis] for axis in order),
    )
    scene = open_zarr_scene(str(path))
    assert scene.chunks == chunk
    np.testing.assert_array_equal(scene.read(ALL, ALL), CUBE)
    window = np.s_[2:10:3, 1:8, 3:9]
    np.testing.assert_array_equal(scene.read(*window), CUBE[window])


def test_open_zarr__sharded_strided_and_chosen_bands(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.zarr",
        CUBE.transpose(2, 0, 1),
        dims=("wl", "y", "x"),
        chunks=(7, 2, 3),
        shards=(14, 4, 6),
        compressors=[BloscCodec(cname="lz4", shuffle="bitshuffle"), Crc32cCodec()],
    )
    scene = open_zarr_scene(str(path))
    assert scene.chunks == (2, 3, 7)
    assert scene.shards == (4, 6, 14)
    assert describe(scene)["shards"] == [4, 6, 14]
    np.testing.assert_array_equal(scene.read(ALL, ALL), CUBE)
    for window in (np.s_[0:11:4, 0:9:4, :], np.s_[3:4, 8:9, 2:13:5], np.s_[1:1, 0:9, :]):
        np.testing.assert_array_equal(scene.read(*window), CUBE[window])
    for bands in ([0], [1, 2, 12], [0, 7, 13], list(range(NB)), []):
        got = scene.read(slice(1, 9, 2), slice(0, 4), np.array(bands, dtype=int))
        np.testing.assert_array_equal(got, CUBE[1:9:2, 0:4][..., np.array(bands, dtype=int)])
        assert got.flags.c_contiguous
    with pytest.raises(IndexError, match="ascend"):
        scene.read(ALL, ALL, np.array([3, 1]))
    with pytest.raises(IndexError, match="0-13"):
        scene.read(ALL, ALL, np.array([14]))


@pytest.mark.parametrize("version", [2, 3])
def test_read__south_up_is_flipped(tmp_path: Path, version: int) -> None:
    path = write(
        tmp_path / "s.zarr",
        CUBE[::-1],
        version=version,
        coords={"x": X, "y": Y[::-1], "wl": WL},
        chunks=(4, 4, 5),
    )
    scene = open_zarr_scene(str(path))
    assert scene.bounds == [500000.0, 4100000.0, 500009.0, 4100011.0]
    assert any("south to north" in note for note in scene.notes)
    for window in (np.s_[:, :, :], np.s_[0:11:4, 2:3, :], np.s_[1:10:3, :, 2:9:2]):
        got = scene.read(*window)
        np.testing.assert_array_equal(got, CUBE[window])
        assert got.flags.c_contiguous


@pytest.mark.parametrize(
    "coords",
    [
        {"easting": X, "northing": Y, "wavelength": WL},
        {"lon": X, "lat": Y, "wavelengths": WL},
        {"X": X, "Y": Y, "wavelength_nm": WL},
        {"x": X, "y": Y, "band_center": WL},
    ],
    ids=lambda coords: "-".join(coords),
)
def test_open_zarr__coordinate_names(tmp_path: Path, coords: dict[str, np.ndarray]) -> None:
    x, y, wl = coords
    scene = open_zarr_scene(
        str(write(tmp_path / "s.zarr", dims=(y, x, wl), coords=coords, version=2))
    )
    np.testing.assert_allclose(scene.wavelength_nm, WL)
    assert scene.bounds == [500000.0, 4100000.0, 500009.0, 4100011.0]


def test_open_zarr__band_dimension_with_a_wavelength_beside(tmp_path: Path) -> None:
    coords = {"x": X, "y": Y, "band": np.arange(1, NB + 1), "wavelength": WL, "fwhm": WL / 100}
    scene = open_zarr_scene(
        str(write(tmp_path / "s.zarr", dims=("y", "x", "band"), coords=coords))
    )
    np.testing.assert_allclose(scene.wavelength_nm, WL)
    assert scene.fwhm_nm is not None
    np.testing.assert_allclose(scene.fwhm_nm, WL / 100)


@pytest.mark.parametrize("units", ["um", "µm", "micrometers", "Micrometres", "nm", None])
def test_open_zarr__micrometres(tmp_path: Path, units: str | None) -> None:
    path = write(
        tmp_path / "s.zarr",
        coords={"x": X, "y": Y, "wl": WL / 1000},
        coord_attrs={"wl": {"units": units}} if units else None,
    )
    scene = open_zarr_scene(str(path))
    np.testing.assert_allclose(scene.wavelength_nm, WL)
    assert any("micrometres" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("version", "stored", "canonical"),
    [
        (3, "int8", "int16"),
        (2, "uint8", "int16"),
        (2, ">i2", "int16"),
        (3, ">i2", "int16"),
        (2, "<i4", "int16"),
        (3, "<i4", "int16"),
        (3, "<u4", "int16"),
        (3, "<i8", "int16"),
        (3, "<u2", "uint16"),
        (2, ">u2", "uint16"),
        (2, "<f4", "float32"),
        (2, ">f4", "float32"),
        (3, ">f4", "float32"),
        (3, "<f8", "float32"),
    ],
)
def test_read__dtypes(tmp_path: Path, version: int, stored: str, canonical: str) -> None:
    data = (CUBE % 120).astype(stored)
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", data, version=version)))
    assert scene.dtype == canonical
    block = scene.read(ALL, ALL)
    assert block.dtype == np.dtype(canonical)
    assert block.dtype.isnative
    np.testing.assert_array_equal(block, CUBE % 120)
    assert scene.scale_factor == (1 if canonical == "float32" else 10000)
    assert scene.nodata == ((-9999,) if canonical == "int16" else ())
    changed = np.dtype(stored).name != canonical
    assert any("are stored as" in note for note in scene.notes) == changed


def test_read__nan_stays_and_is_not_listed(tmp_path: Path) -> None:
    data = (CUBE / 10000).astype("float32")
    data[3, 4] = np.nan
    scene = open_zarr_scene(
        str(write(tmp_path / "s.zarr", data, attrs={"_FillValue": "NaN"}, fill_value=np.nan))
    )
    assert scene.nodata == ()
    np.testing.assert_array_equal(scene.read(ALL, ALL), data)


@pytest.mark.parametrize("value", [32768, -40000, 2**31 - 1])
def test_read__wide_value_is_an_error(tmp_path: Path, value: int) -> None:
    data = CUBE.astype("int32")
    data[5, 5, 5] = value
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", data)))
    with pytest.raises(SceneError, match=rf"value {value};.*int16, -32768 to 32767") as caught:
        scene.read(ALL, ALL)
    assert caught.value.exit_code == 4
    np.testing.assert_array_equal(scene.read(slice(0, 5), ALL), CUBE[:5])


def test_read__wide_nodata_becomes_the_smallest_int16(tmp_path: Path) -> None:
    data = CUBE.astype("int32")
    data[2, 3] = -99999
    path = write(tmp_path / "s.zarr", data, attrs={"_FillValue": -99999})
    scene = open_zarr_scene(str(path))
    assert scene.nodata == (-32768,)
    assert any("-99999 is read as -32768" in note for note in scene.notes)
    expected = CUBE.copy()
    expected[2, 3] = -32768
    np.testing.assert_array_equal(scene.read(ALL, ALL), expected)


def test_read__wide_float_nodata_becomes_nan(tmp_path: Path) -> None:
    data = CUBE.astype("float64")
    data[2, 3] = np.finfo("float64").min
    path = write(tmp_path / "s.zarr", data, attrs={"_FillValue": float(data[2, 3, 0])})
    scene = open_zarr_scene(str(path))
    assert scene.nodata == ()
    block = scene.read(ALL, ALL)
    assert np.isnan(block[2, 3]).all()
    assert np.isnan(block).sum() == NB


@pytest.mark.parametrize(
    ("attrs", "divisor"),
    [
        ({"Scale_Factor": 10000}, 10000),
        ({"Scale_Factor": [10000.0]}, 10000),
        ({"Scale_Factor": "10000.0"}, 10000),
        ({"scale_factor": 0.0001}, 10000),
        ({"scale_factor": float(np.float32(0.0001))}, 10000),
        ({"scale_factor": 1.0}, 1),
        ({"scale_factor": 50000, "add_offset": 0.0}, 50000),
        ({"reflectance_scale_factor": 2500}, 2500),
    ],
)
@pytest.mark.parametrize("on_group", [False, True], ids=["array", "group"])
def test_open_zarr__scale(
    tmp_path: Path, attrs: dict[str, Any], divisor: float, on_group: bool
) -> None:
    where = "group_attrs" if on_group else "attrs"
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", **{where: attrs})))
    assert scene.scale_factor == pytest.approx(divisor, rel=1e-12)
    assert not any("is assumed for integers" in note for note in scene.notes)


def test_open_zarr__scale_of_the_array_beats_the_group(tmp_path: Path) -> None:
    path = write(
        tmp_path / "s.zarr", attrs={"Scale_Factor": 100}, group_attrs={"Scale_Factor": 7}
    )
    assert open_zarr_scene(str(path)).scale_factor == 100


@pytest.mark.parametrize("scale", [0, -1, "many", float("inf")])
def test_open_zarr__impossible_scale(tmp_path: Path, scale: Any) -> None:
    path = write(tmp_path / "s.zarr", attrs={"Scale_Factor": scale})
    with pytest.raises(SceneError, match=r"Scale_Factor .* positive number"):
        open_zarr_scene(str(path))


def test_open_zarr__offset_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", attrs={"scale_factor": 0.0001, "add_offset": 0.5})
    with pytest.raises(SceneError, match=r"add_offset 0\.5"):
        open_zarr_scene(str(path))


def b64(value: float) -> str:
    return base64.standard_b64encode(struct.pack("<d", value)).decode()


@pytest.mark.parametrize(
    ("dtype", "attrs", "fill", "nodata"),
    [
        ("int16", {"Data_Ignore_Value": -9999}, 0, (-9999,)),
        ("int16", {"Data_Ignore_Value": [-9999.0]}, 0, (-9999,)),
        ("int16", {"data_ignore_value": -1}, 0, (-1,)),
        ("int16", {"_FillValue": -3000}, 0, (-3000,)),
        ("int16", {"missing_value": [-3000, -3001]}, 0, (-3000, -3001)),
        ("int16", {"Data_Ignore_Value": -9999, "_FillValue": -32768}, 0, (-9999, -32768)),
        ("int16", {"Data_Ignore_Value": -9999, "_FillValue": 0}, 0, (-9999,)),
        ("int16", {"_FillValue": 0}, 0, (0,)),
        ("int16", {}, -32768, (-32768,)),
        ("int16", {"_FillValue": "NaN"}, 0, (-9999,)),
        ("uint16", {}, 0, ()),
        ("uint16", {"_FillValue": 65535}, 0, (65535,)),
        ("uint16", {"_FillValue": -9999}, 0, ()),
        ("float32", {}, 0.0, ()),
        ("float32", {"_FillValue": b64(float("nan"))}, np.nan, ()),
        ("float32", {"_FillValue": b64(-9999.0)}, 0.0, (-9999,)),
        ("float32", {"_FillValue": "-9999"}, np.nan, (-9999,)),
        ("float32", {}, -0.01, (float(np.float32(-0.01)),)),
        ("float64", {"_FillValue": -9999.9}, 0.0, (float(np.float32(-9999.9)),)),
    ],
)
def test_open_zarr__nodata(
    tmp_path: Path, dtype: str, attrs: dict[str, Any], fill: float, nodata: tuple[float, ...]
) -> None:
    path = write(tmp_path / "s.zarr", CUBE.astype(dtype), attrs=attrs, fill_value=fill)
    assert open_zarr_scene(str(path)).nodata == nodata


@pytest.mark.parametrize("version", [2, 3])
def test_open_zarr__written_by_xarray(tmp_path: Path, version: int) -> None:
    xarray = pytest.importorskip("xarray")
    data = CUBE.astype("float32")
    dataset = xarray.Dataset(
        {"reflectance": (DIMS, data, {"grid_mapping": "crs_here"})},
        coords={"y": Y, "x": X, "wl": WL, "crs_here": ((), 0, {"crs_wkt": "EPSG:32618"})},
    )
    dataset.to_zarr(
        tmp_path / "s.zarr", group="reflectance", zarr_format=version, consolidated=False
    )
    scene = open_zarr_scene(str(tmp_path / "s.zarr"))
    assert scene.nodata == ()
    assert scene.grid.epsg == 32618
    np.testing.assert_array_equal(scene.read(ALL, ALL), data)


@pytest.mark.parametrize(
    "attrs",
    [
        {"epsg": 32611},
        {"crs": "EPSG:32611"},
        {"crs": "+init=epsg:32611"},
        {"proj:code": "EPSG:32611"},
        {"_CRS": {"wkt": CRS.from_epsg(32611).to_wkt("WKT1_GDAL")}},
        {"_CRS": {"projjson": CRS.from_epsg(32611).to_json_dict()}},
    ],
    ids=lambda attrs: next(iter(attrs)),
)
def test_open_zarr__crs_in_attributes(tmp_path: Path, attrs: dict[str, Any]) -> None:
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", attrs=attrs)))
    assert scene.grid.epsg == 32611
    assert scene.grid.wkt is not None
    assert CRS.from_wkt(scene.grid.wkt).utm_zone == "11N"


@pytest.mark.parametrize("attrs", [{}, {"crs": "the moon"}])
def test_open_zarr__no_crs_is_noted(tmp_path: Path, attrs: dict[str, Any]) -> None:
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", attrs=attrs)))
    assert scene.grid.epsg is None
    assert any("No coordinate reference system" in note for note in scene.notes)


@pytest.mark.parametrize(
    ("attrs", "windows"),
    [
        ({}, ()),
        ({"bad_band_windows_nm": []}, ()),
        ({"bad_band_windows_nm": [[1340, 1445]]}, ((1340, 1445),)),
        ({"bad_band_windows_nm": [[1340, 1445], [1790, 1955]]}, ((1340, 1445), (1790, 1955))),
        (
            {
                "Band_Window_2_Nanometers": [1790, 1955],
                "Band_Window_1_Nanometers": [1340, 1445],
            },
            ((1340, 1445), (1790, 1955)),
        ),
    ],
)
def test_open_zarr__windows(tmp_path: Path, attrs: dict[str, Any], windows: tuple) -> None:
    attrs = {**attrs, "window_nodata": -100}
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", group_attrs=attrs)))
    assert scene.bad_band_windows_nm == windows
    assert scene.window_nodata == (-100,)
    assert describe(scene)["nodata"] == [-9999, -100]


@pytest.mark.parametrize("windows", [[[1445, 1340]], [[1, 2], [3]], ["a", "b"]])
def test_open_zarr__bad_windows(tmp_path: Path, windows: list) -> None:
    path = write(tmp_path / "s.zarr", attrs={"bad_band_windows_nm": windows})
    with pytest.raises(SceneError, match="bad-band window"):
        open_zarr_scene(str(path))


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
    assert caught.value.hint == "Groups with cubes: reflectance."


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
        ("wl", WL[:-1], "wl has 13 values, the cube 14 bands"),
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
    with pytest.raises(SceneError, match="2 orders fit"):
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
    with pytest.raises(SceneError, match="is bool"):
        open_zarr_scene(str(path))


def test_open_zarr__plain_folder_names_the_stores_in_it(tmp_path: Path) -> None:
    write(tmp_path / "s.zarr")
    with pytest.raises(SceneError, match="without Zarr metadata") as caught:
        open_zarr_scene(str(tmp_path))
    assert caught.value.hint == "It holds s.zarr: give one of these."


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
