"""What other programs declare under other names, in other places and in other units.

Each file holds the same reflectance, which is compared with the numbers that were written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import Affine

from hyperhpc.compute.selection import reflectance_converter
from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from raster_case import MAP_INFO, listed, write_envi, write_tiff

NM = np.array([450.5, 560.25, 670.0, 800.0, 1250.0])
DN = np.random.default_rng(0).integers(200, 6000, (5, 6, 5)).astype(np.int16)
X, Y = 500001 + 2.0 * np.arange(6), 4000099 - 2.0 * np.arange(5)
BOUNDS = [500000, 4000090, 500012, 4000100]
GOOD = [1, 1, 0, 1, 0]


def with_hole(mark: float, dtype: str = "int16") -> np.ndarray:
    values = DN.astype(dtype)
    values[1, 2] = mark
    return values


def store(path: Path, values: np.ndarray, fmt: Any = 2, **attributes: Any) -> xr.Dataset:
    cube = xr.Dataset(
        {"reflectance": (("y", "x", "wavelength"), values, attributes)},
        coords={"y": Y, "x": X, "wavelength": NM},
    )
    cube.to_zarr(path, zarr_format=fmt, consolidated=False)
    return cube


def header(path: Path, values: np.ndarray, **fields: Any) -> Path:
    return write_envi(path, values, **{"wavelength": listed(NM), "map_info": MAP_INFO, **fields})


def tiff(path: Path, values: np.ndarray, tags: dict[str, str], **profile: Any) -> Path:
    def of_band(band: int) -> dict[str, str]:
        return {"wavelength": str(NM[band - 1]), **tags}

    return write_tiff(path, values, tags=of_band, **profile)


def check(scene: Scene, factor: float, has_hole: bool = True) -> None:
    """Reflectance is the stored numbers times a factor, and one pixel is no-data."""
    expected = DN * factor
    if has_hole:
        expected[1, 2] = np.nan
    found = reflectance_converter(scene)(scene.read(slice(0, 5), slice(0, 6)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(scene.wavelength_nm, NM, atol=1e-6)


@pytest.mark.parametrize(
    "name", ["nodata", "NoData", "no_data", "nodata_value", "fill_value", "FillValue", "nodatavals"]
)
def test_nodata__under_the_names_of_other_programs(tmp_path: Path, name: str) -> None:
    value: Any = [-999] * 5 if name == "nodatavals" else -999
    store(tmp_path / "s", with_hole(-999), **{name: value})
    check(open_scene(tmp_path / "s"), 1e-4)
    check(open_scene(tiff(tmp_path / "s.tif", with_hole(-999), {name: "-999"})), 1e-4)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scales", [2e-4] * 5),
        ("scale_factor", [2e-4] * 5),
        ("ScaleFactor", 5000),
        ("scale", 2e-4),
        ("units", "2e-4"),
    ],
)
def test_scale__under_the_names_of_other_programs(tmp_path: Path, name: str, value: Any) -> None:
    store(tmp_path / "s", with_hole(-9999), **{name: value})
    check(open_scene(tmp_path / "s"), 2e-4)
    tags = {name: str(value[0] if isinstance(value, list) else value)}
    path = tiff(tmp_path / "s.tif", with_hole(-9999), tags)
    if name != "units":  # of a band of GDAL it is no tag
        check(open_scene(path), 2e-4)


def test_scale__offsets_of_rioxarray_are_added(tmp_path: Path) -> None:
    values = with_hole(-9999)
    store(tmp_path / "s", values, scales=[1e-4] * 5, offsets=[0.1] * 5, nodatavals=[-9999] * 5)
    scene = open_scene(tmp_path / "s")
    found = reflectance_converter(scene)(scene.read(slice(0, 5), slice(0, 6)))
    expected = np.where(values == -9999, np.nan, values * 1e-4 + 0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_scale__words_under_a_shared_name_are_no_scale(tmp_path: Path) -> None:
    store(tmp_path / "s", with_hole(-9999), scale="1:10000", offset="none")
    check(open_scene(tmp_path / "s"), 1e-4)


def test_scale__that_differs_from_band_to_band_is_refused(tmp_path: Path) -> None:
    store(tmp_path / "s", DN, scales=[1e-4] * 4 + [2e-4])
    with pytest.raises(SceneError, match=r"bands differ in scales, 0\.0001 to 0\.0002"):
        open_scene(tmp_path / "s")


@pytest.mark.parametrize("unit", ["%", "percent", "percentage"])
def test_scale__the_unit_of_a_band_of_gdal_counts(tmp_path: Path, unit: str) -> None:
    path = tiff(tmp_path / "s.tif", with_hole(np.nan, "float32") / 100, {})
    with rasterio.open(path, "r+") as file:
        file.units = [unit] * 5
    check(open_scene(path), 1e-4)


@pytest.mark.parametrize(
    ("dtype", "mark"), [("uint32", 2**32 - 1), ("uint64", 2**40), ("int64", -(2**40))]
)
def test_nodata__that_int16_cannot_hold_is_replaced(tmp_path: Path, dtype: str, mark: int) -> None:
    store(tmp_path / "s", with_hole(mark, dtype), 3, _FillValue=mark)
    check(open_scene(tmp_path / "s"), 1e-4)


def test_nodata__is_compared_as_half_precision_stores_it(tmp_path: Path) -> None:
    store(tmp_path / "s", (with_hole(-9999, "float32")).astype("float16"), 3, nodata=-9999)
    scene = open_scene(tmp_path / "s")
    assert scene.nodata == (float(np.float16(-9999)),)
    assert np.isnan(reflectance_converter(scene)(scene.read(slice(1, 2), slice(2, 3)))).all()


def test_integers__of_another_sign_are_refused(tmp_path: Path) -> None:
    store(tmp_path / "s", DN, 3, _Unsigned="true")
    with pytest.raises(SceneError, match="another sign than they are stored with"):
        open_scene(tmp_path / "s")


@pytest.mark.parametrize("text", ["{-999}", "-999", "{-999, -32768}", "-999 -32768", "-9.99e2"])
def test_envi__ignore_value_is_not_cut(tmp_path: Path, text: str) -> None:
    """GDAL makes 0 of {-999}, which is a legal number."""
    values = with_hole(-999)
    values[0, 0, 0] = 0
    scene = open_scene(header(tmp_path / "s.img", values, data_ignore_value=text))
    assert -999 in scene.nodata
    assert 0 not in scene.nodata
    assert (-32768 in scene.nodata) == ("," in text or " " in text)


def test_envi__ignore_value_that_is_empty_or_no_number(tmp_path: Path) -> None:
    scene = open_scene(header(tmp_path / "e.img", with_hole(-9999), data_ignore_value=""))
    check(scene, 1e-4)
    with pytest.raises(SceneError, match="'none' is not a number"):
        open_scene(header(tmp_path / "n.img", DN, data_ignore_value="none"))


def test_envi__interleave_is_not_guessed(tmp_path: Path) -> None:
    path = header(tmp_path / "s.img", DN)
    text = (tmp_path / "s.img.hdr").read_text().replace("interleave", "order")
    (tmp_path / "s.img.hdr").write_text(text)
    with pytest.raises(SceneError, match="does not say how the bands are interleaved") as caught:
        open_scene(path)
    assert str(caught.value.hint).startswith("Add interleave = bsq, bil or bip")


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("m", 1e-9), ("Angstroms", 10), ("Millimeters", 1e-6), ("Centimeters", 1e-7)],
)
def test_centres__in_other_units_of_length(tmp_path: Path, unit: str, factor: float) -> None:
    fields = {"wavelength": listed(NM * factor), "wavelength_units": unit}
    check(open_scene(header(tmp_path / "s.img", with_hole(-9999), **fields)), 1e-4)
    cube = store(tmp_path / "plain", with_hole(-9999))
    cube["wavelength"] = ("wavelength", NM * factor, {"units": unit})
    cube.to_zarr(tmp_path / "s", zarr_format=2, consolidated=False)
    check(open_scene(tmp_path / "s"), 1e-4)


@pytest.mark.parametrize("unit", ["Wavenumber", "cm-1", "GHz", "Index"])
def test_centres__that_are_no_lengths_are_refused(tmp_path: Path, unit: str) -> None:
    """1250 per cm is 8000 nm."""
    with pytest.raises(SceneError, match=r"no (lengths|wavelengths)"):
        open_scene(header(tmp_path / "s.img", DN, wavelength_units=unit))


def test_centres__as_texts_are_read(tmp_path: Path) -> None:
    cube = store(tmp_path / "plain", with_hole(-9999))
    cube["wavelength"] = ("wavelength", [f"{nm:g}" for nm in NM])
    cube.to_zarr(tmp_path / "s", zarr_format=2, consolidated=False)
    check(open_scene(tmp_path / "s"), 1e-4)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bbl", [1, 1, -1, 1, -1]),
        ("good_wavelengths", [1, 1, np.nan, 1, np.nan]),
        ("bad_bands", [0, 0, 1, 0, 1]),
        ("bad_band", [False, False, True, False, True]),
    ],
)
def test_flags__of_a_coordinate(tmp_path: Path, name: str, values: list[Any]) -> None:
    cube = store(tmp_path / "plain", DN)
    cube.assign_coords({name: ("wavelength", values)}).to_zarr(
        tmp_path / "s", zarr_format=3, consolidated=False
    )
    assert open_scene(tmp_path / "s").bad_bands == (2, 4)


@pytest.mark.parametrize(
    ("name", "value"), [("bbl", "{1, 1, 0, 1, 0}"), ("bbl", GOOD), ("bad_bands", [0, 0, 1, 0, 1])]
)
@pytest.mark.parametrize("is_of_group", [False, True])
def test_flags__of_an_attribute(tmp_path: Path, name: str, value: Any, is_of_group: bool) -> None:
    cube = store(tmp_path / "plain", DN)
    (cube if is_of_group else cube["reflectance"]).attrs[name] = value
    cube.to_zarr(tmp_path / "s", zarr_format=2, consolidated=False)
    assert open_scene(tmp_path / "s").bad_bands == (2, 4)


@pytest.mark.parametrize(
    "text", ["{1,1,0,1,0}", "{1,1,-1,1,-1}", "{1,1,0,1,0,}", "{True,True,False,True,False}"]
)
def test_flags__of_an_envi_header(tmp_path: Path, text: str) -> None:
    assert open_scene(header(tmp_path / "s.img", DN, bbl=text)).bad_bands == (2, 4)


def place(path: Path, cube: xr.Dataset, transform: str | None = None) -> Scene:
    """Open a cube stored with the reference system EPSG:32613."""
    from pyproj import CRS

    about = {"crs_wkt": CRS.from_epsg(32613).to_wkt()}
    if transform:
        about["GeoTransform"] = transform
    cube = cube.assign_coords(spatial_ref=((), 0, about))
    cube["reflectance"].attrs["grid_mapping"] = "spatial_ref"
    cube.to_zarr(path, zarr_format=2, consolidated=False)
    return open_scene(path)


def test_place__kilometres_are_metres_of_the_reference_system(tmp_path: Path) -> None:
    cube = store(tmp_path / "plain", DN)
    for name in ("x", "y"):
        cube[name] = (name, cube[name].values / 1000, {"units": "km"})
    scene = place(tmp_path / "s", cube)
    np.testing.assert_allclose(scene.bounds, BOUNDS)
    assert "Coordinates are stored in km and multiplied by 1000." in scene.notes


def test_place__degrees_in_a_system_of_metres_are_refused(tmp_path: Path) -> None:
    cube = store(tmp_path / "plain", DN)
    cube["x"].attrs["units"] = "degrees_east"
    with pytest.raises(SceneError, match="x is in degrees_east, but the unit of its reference"):
        place(tmp_path / "s", cube)


def test_place__geotransform_from_south_to_north(tmp_path: Path) -> None:
    cube = store(tmp_path / "plain", DN[::-1]).drop_vars(["x", "y"])
    scene = place(tmp_path / "s", cube, "500000 2 0 4000090 0 2")
    assert scene.bounds == BOUNDS
    check(scene, 1e-4, has_hole=False)


def test_place__geotransform_that_is_rotated_is_warped(tmp_path: Path) -> None:
    """It equals a GeoTIFF with the same numbers."""
    six = (500000, 1.8, 0.6, 4000100, 0.6, -1.8)
    cube = store(tmp_path / "plain", DN).drop_vars(["x", "y"])
    with pytest.raises(SceneError, match="is rotated or mirrored"):
        place(tmp_path / "s", cube, " ".join(map(str, six)))
    tif = tiff(tmp_path / "s.tif", DN, {}, transform=Affine.from_gdal(*six))
    options = SceneOptions(resample="nearest")
    one, two = (open_scene(path, options=options) for path in (tmp_path / "s", tif))
    assert one.bounds == two.bounds
    window = slice(0, one.shape[0]), slice(0, one.shape[1])
    np.testing.assert_array_equal(one.read(*window), two.read(*window))


def test_place__pixels_have_no_reference_system(tmp_path: Path) -> None:
    """Latitudes and longitudes of each pixel, as in a swath, are no grid."""
    cube = store(tmp_path / "plain", DN).drop_vars(["x", "y"])
    cube = cube.assign_coords(lat=(("y", "x"), np.ones((5, 6))), lon=(("y", "x"), np.ones((5, 6))))
    scene = place(tmp_path / "s", cube)
    assert scene.grid.wkt is None
    assert "The reference system is left out, since nothing says where pixels are." in scene.notes
