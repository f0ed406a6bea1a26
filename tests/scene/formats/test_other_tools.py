"""What other programs make of our scenes: xarray, rioxarray and rasterio, without our reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - gives xarray its .rio
import xarray as xr
import zarr
from rasterio.warp import Resampling, reproject

import hyperhpc
from hyperhpc.rundir.plan import Area
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.formats import zarr_write
from hyperhpc.scene.metadata import to_divisor
from hyperhpc.scene.thinned import THINNED_ATTRIBUTE, THINNED_GROUP
from hyperhpc.simulate.scene import simulate
from hyperhpc.tools.ingest import describe_cube

NM = np.array([450.0, 700.0, 950.0, 1200.0, 1400.0, 1700.0, 1900.0, 2300.0])
ALL = slice(0, 9), slice(0, 7)
#: What was measured, and where nothing was.
TRUE = np.random.default_rng(0).uniform(0.01, 0.6, (9, 7, 8)).round(4)
TRUE[:2, :3] = np.nan
pytestmark = [
    pytest.mark.filterwarnings("ignore:Consolidated metadata is currently not part"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),  # rioxarray
]


def source(path: Path, dtype: str, attributes: dict[str, Any], divisor: float, mark: Any) -> Scene:
    """A scene as somebody else stores it: Zarr v2 of xarray, with coordinates of UTM."""
    values = np.where(np.isnan(TRUE), mark, TRUE * divisor)
    values = values.astype(dtype) if np.dtype(dtype).kind == "f" else np.rint(values).astype(dtype)
    cube = xr.Dataset(
        {"cube": (("y", "x", "wavelength"), values, {**attributes, "epsg": 32613})},
        coords={"y": 4525990.5 - np.arange(9), "x": 517000.5 + np.arange(7), "wavelength": NM},
    )
    cube["fwhm"] = "wavelength", np.full(8, 5.5)
    cube.to_zarr(path, zarr_format=2)
    return open_scene(path)


def ingested(path: Path, scene: Scene) -> Path:
    """The store that ``ingest`` makes of a small scene."""
    zarr_write.create_cube_store(path, describe_cube(scene, Area(0, 9, 0, 7)))
    store = zarr_write.CubeStore(path)
    store.put(0, 0, scene.read(*ALL))
    store.finish()
    return path


CASES: dict[str, tuple[str, dict[str, Any], float, Any]] = {
    "neon": ("int16", {"Scale_Factor": 1e4, "Data_Ignore_Value": -9999}, 1e4, -9999),
    "windows": (
        "int16",
        {"bad_band_windows_nm": [[1340, 1445], [1790, 1955]], "bad_bands": [0],
         "window_nodata": -100},
        1e4, -9999,
    ),
    "two marks": ("int16", {"_FillValue": -32768, "missing_value": [-9999]}, 1e4, -9999),
    "unsigned": ("uint16", {"scale_factor": 2e-5, "missing_value": 65535}, 5e4, 65535),
    "per cent": ("float32", {"units": "%", "missing_value": -9999.0}, 100.0, -9999.0),
    "plain": ("float32", {}, 1.0, np.nan),
}  # fmt: skip


@pytest.fixture(params=CASES)
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    return source(tmp_path / "source.zarr", *CASES[request.param])


def assert_true(found: xr.DataArray) -> None:
    """The array holds what was measured, and NaN where nothing was."""
    np.testing.assert_allclose(found.transpose("y", "x", ...).values, TRUE, rtol=2e-6)


def through_netcdf(opened: xr.DataArray | xr.Dataset, path: Path) -> xr.Dataset:
    """What is read back from netCDF 3, which SciPy writes."""
    opened.to_netcdf(path)
    return xr.load_dataset(path)


def assert_same_scene(one: Scene, other: Scene) -> None:
    for name in (
        "dtype", "scale_factor", "window_nodata", "bad_band_windows_nm", "bad_bands", "grid",
    ):  # fmt: skip
        assert getattr(one, name) == getattr(other, name), name
    assert set(one.nodata) == set(other.nodata)
    for name in ("wavelength_nm", "fwhm_nm"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.read(*ALL), other.read(*ALL))


# --- what open_scene returns ----------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multiple fill values:xarray.SerializationWarning")
@pytest.mark.parametrize("version", [2, 3, "netcdf"])
def test_open_scene__comes_back_as_reflectance(scene: Scene, tmp_path: Path, version: Any) -> None:
    cube = hyperhpc.open_scene(scene.path)
    if version == "netcdf":
        if cube.dtype == np.uint16:
            pytest.skip("netCDF 3, which SciPy writes, has no unsigned numbers")
        found = through_netcdf(cube, tmp_path / "copy.nc")
    else:
        cube.to_zarr(tmp_path / "copy.zarr", zarr_format=version)
        found = xr.open_zarr(tmp_path / "copy.zarr")
        # flags inside the windows are the windows'; the list of positions did not travel
        assert_same_scene(open_scene(tmp_path / "copy.zarr"), scene)
    assert_true(found["dn"])
    assert {"fwhm", "is_good_band"} <= set(found.coords)
    assert found["is_good_band"].dtype == bool


def test_open_scene__flags_the_bands(tmp_path: Path) -> None:
    flagged = source(tmp_path / "s.zarr", *CASES["windows"])
    cube = hyperhpc.open_scene(flagged.path)
    nm = cube["wavelength"].values
    expected = ~((nm >= 1340) & (nm <= 1445) | (nm >= 1790) & (nm <= 1955))
    expected[0] = False
    np.testing.assert_array_equal(cube["is_good_band"], expected)
    assert cube["is_good_band"].dims == cube["fwhm"].dims == ("wavelength",)
    assert cube.sel(wavelength=cube["is_good_band"]).sizes["wavelength"] == expected.sum() < 7
    assert flagged.bad_bands == (0,)


def test_open_scene__has_attributes_that_cf_and_netcdf_know(scene: Scene) -> None:
    for name, value in hyperhpc.open_scene(scene.path).attrs.items():
        values = np.asarray(value)
        assert values.ndim <= 1, name
        assert values.dtype.kind in "iufU", name
        assert values.size, name
        assert not (isinstance(value, str) and value == ""), name
    cube = hyperhpc.open_scene(scene.path)
    assert np.ndim(cube.attrs["_FillValue"]) == 0
    assert cube.attrs["_FillValue"].dtype == cube.dtype
    assert cube.attrs.get("scale_factor", 1.0) == pytest.approx(1 / scene.scale_factor, rel=1e-15)


@pytest.mark.parametrize("what", ["numbers", "reflectance", "store"])
def test_rioxarray__knows_no_data_and_clips(scene: Scene, tmp_path: Path, what: str) -> None:
    if what == "store":
        path = ingested(tmp_path / "s.zarr", scene)
        cube = xr.open_zarr(path, group="reflectance", mask_and_scale=False)["reflectance"]
    else:
        cube = hyperhpc.open_scene(scene.path)
        cube = hyperhpc.reflectance(cube) if what == "reflectance" else cube
    mark = cube.rio.nodata
    assert np.ndim(mark) == 0
    is_missing = np.isnan(cube.values) if np.isnan(mark) else np.isin(cube.values, scene.nodata)
    np.testing.assert_array_equal(is_missing, np.isnan(TRUE))
    left, top = scene.grid.xmin, scene.grid.ymax
    corners = [(left + x, top - y) for x, y in ((1, 1), (5, 1), (5, 6), (1, 1))]
    part = cube.rio.clip([{"type": "Polygon", "coordinates": [corners]}], drop=True)
    assert part.shape == (4, 4, 8)
    np.testing.assert_array_equal(part.values[0, 3], cube.values[1, 4])  # inside
    np.testing.assert_array_equal(part.values[3, 0], np.full(8, mark, cube.dtype))


@pytest.mark.parametrize("case", ["neon", "unsigned", "per cent", "plain"])
def test_rioxarray__writes_and_warps(case: str, tmp_path: Path) -> None:
    path = source(tmp_path / "s.zarr", *CASES[case]).path
    cube = hyperhpc.open_scene(path).transpose("wavelength", "y", "x")
    cube.rio.to_raster(tmp_path / "copy.tif")
    with rasterio.open(tmp_path / "copy.tif") as file:
        numbers = file.read(masked=True).astype(float).filled(np.nan)
        found = numbers * np.array(file.scales)[:, None, None]
        assert file.crs.to_epsg() == 32613
        np.testing.assert_allclose(np.moveaxis(found, 0, -1), TRUE, rtol=2e-6)
        expected = np.empty((8, 5, 4), file.dtypes[0])
        transform = rasterio.Affine(2, 0, 517000, 0, -2, 4525991)
        reproject(
            file.read(), expected, src_transform=file.transform, src_crs=file.crs,
            dst_transform=transform, dst_crs=file.crs, src_nodata=file.nodata,
            dst_nodata=file.nodata, resampling=Resampling.average,
        )  # fmt: skip
    warped = cube.rio.reproject(
        "EPSG:32613", transform=transform, shape=(5, 4), resampling=Resampling.average
    )
    np.testing.assert_array_equal(warped.values, expected)
    np.savetxt(tmp_path / "nm.txt", NM)
    again = hyperhpc.open_scene(tmp_path / "copy.tif", wavelengths=tmp_path / "nm.txt")
    assert_true(hyperhpc.reflectance(again))


# --- what ingest and simulate store ---------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*multiple fill values:xarray.SerializationWarning")
def test_store__is_reflectance_in_xarray_and_the_same_scene_to_us(
    scene: Scene, tmp_path: Path
) -> None:
    path = ingested(tmp_path / "s.zarr", scene)
    stored = xr.open_zarr(path, group="reflectance")
    assert_true(stored["reflectance"])
    assert {"fwhm", "is_good_band", "spatial_ref", "wl"} <= set(stored.coords)
    assert list(stored.data_vars) == ["reflectance"]
    raw = xr.open_zarr(path, group="reflectance", mask_and_scale=False)
    np.testing.assert_array_equal(raw["reflectance"], scene.read(*ALL))
    assert np.ndim(raw["reflectance"].attrs["_FillValue"]) == 0
    assert "\n".join(scene.notes) == raw["reflectance"].attrs.get("notes", "")
    # xarray masks several no-data values, but cannot put them back: it says so
    for opened in (raw,) if len(scene.nodata) > 1 else (stored, raw):
        if scene.dtype != "uint16":  # netCDF 3 has no unsigned numbers
            assert_true(through_netcdf(opened, tmp_path / "copy.nc")["reflectance"])
    raw.drop_encoding().to_zarr(tmp_path / "copy.zarr")
    assert_true(xr.open_zarr(tmp_path / "copy.zarr")["reflectance"])
    for store in ("s.zarr", "copy.zarr"):
        assert_same_scene(open_scene(tmp_path / store), scene)
    assert open_scene(path).file_names() == ("source.zarr",)


@pytest.mark.parametrize("version", [2, 3])
def test_simulated_store__is_reflectance_in_xarray(tmp_path: Path, version: Any) -> None:
    path = simulate(tmp_path / "s.zarr", 40, 50, bands=24, zarr_format=version).path
    stored = xr.open_zarr(path, group="reflectance")
    scene = open_scene(path)
    assert (scene.scale_factor, scene.nodata, scene.notes) == (10000, (-9999,), ())
    dn = scene.read(slice(0, 40), slice(0, 50))
    expected = np.where(dn == -9999, np.nan, dn / 10000)
    np.testing.assert_allclose(stored["reflectance"], expected, rtol=1e-6)
    copy = through_netcdf(stored, tmp_path / "copy.nc")["reflectance"]
    np.testing.assert_allclose(copy, expected, rtol=1e-6)
    assert "proj:code" in zarr.open_group(path, mode="r").attrs


def test_store__of_version_0_1_is_read_as_before(tmp_path: Path) -> None:
    """Its attributes, as that version wrote them: a divisor, and lists."""
    scene = source(tmp_path / "source.zarr", *CASES["windows"])
    path = ingested(tmp_path / "s.zarr", scene)
    group: Any = zarr.open_group(path / "reflectance", mode="r+", use_consolidated=False)
    del group["is_good_band"]
    names = {"grid_mapping", "long_name", THINNED_ATTRIBUTE}
    for cube in (group["reflectance"], group[f"{THINNED_GROUP}/reflectance"]):
        kept = {name: cube.attrs[name] for name in names & set(cube.attrs)}
        cube.attrs.put(
            kept
            | {
                "Scale_Factor": 10000.0, "Data_Ignore_Value": [-9999.0], "window_nodata": [-100.0],
                "bad_bands": [0], "bad_band_windows_nm": [[1340.0, 1445.0], [1790.0, 1955.0]],
                "source_files": ["a.h5", "b.h5"], "empty_chunks": [],
            }
        )  # fmt: skip
    zarr_write.gather_metadata(path)
    old = open_scene(path)
    assert_same_scene(old, scene)
    assert old.file_names() == ("a.h5", "b.h5")
    assert old.thinned is not None
    assert old.check_files() == []


def test_store__of_no_data_lists_its_empty_files(tmp_path: Path) -> None:
    path = simulate(tmp_path / "s.zarr", 140, 40, bands=3, zarr_format=2).path
    group: Any = zarr.open_group(path, mode="r+", use_consolidated=False)
    cube = group["reflectance/reflectance"]
    cube[:128] = -9999
    zarr_write.CubeStore(path).finish()
    assert cube.attrs.asdict()["empty_chunks"] == ""  # written before, so it is a chunk still
    for name in ("0.0.0", "1.0.0"):
        file = path / "reflectance" / "reflectance" / name
        file.unlink(missing_ok=True)
    zarr_write.CubeStore(path).finish()
    attributes = json.loads((path / "reflectance/reflectance/.zattrs").read_text("utf-8"))
    assert attributes["empty_chunks"] == "0.0.0 1.0.0"
    assert open_scene(path).check_files() == []


@pytest.mark.parametrize("divisor", [2.0, 100.0, 255.0, 1000.0, 1e4, 2500.5, 32767.0, 65535.0, 1e7])
def test_scale__is_the_same_number_after_it_was_stored(divisor: float) -> None:
    notes: list[str] = []
    assert to_divisor(1 / divisor, "scale_factor", notes) == divisor
