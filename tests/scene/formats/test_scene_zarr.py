"""Zarr scenes: every layout gives the same canonical cube, every defect one clear error."""

from __future__ import annotations

import base64
import itertools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from pyproj import CRS
from zarr.codecs import BloscCodec, Crc32cCodec

from hyperhpc.errors import SceneError
from hyperhpc.scene import describe
from hyperhpc.scene.formats.zarr import open_zarr_scene
from zarr_case import ALL, CUBE, DIMS, NB, NX, NY, WL, X, Y, write


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
    scene = open_zarr_scene(str(write(tmp_path / "s.zarr", dims=("y", "x", "band"), coords=coords)))
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
        ({"scale_factor": 1.0, "reflectance_scale_factor": 2500}, 2500),
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
    path = write(tmp_path / "s.zarr", attrs={"Scale_Factor": 100}, group_attrs={"Scale_Factor": 7})
    assert open_zarr_scene(str(path)).scale_factor == 100


@pytest.mark.parametrize("scale", [0, -1, "many", float("inf")])
def test_open_zarr__impossible_scale(tmp_path: Path, scale: Any) -> None:
    path = write(tmp_path / "s.zarr", attrs={"Scale_Factor": scale})
    with pytest.raises(SceneError, match=r"Scale_Factor .* positive number"):
        open_zarr_scene(str(path))


def test_open_zarr__impossible_offset(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", attrs={"scale_factor": 0.0001, "add_offset": "some"})
    with pytest.raises(SceneError, match="add_offset 'some', which is not a number"):
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
            {"Band_Window_2_Nanometers": [1790, 1955], "Band_Window_1_Nanometers": [1340, 1445]},
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
