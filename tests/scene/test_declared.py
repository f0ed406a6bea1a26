"""Scale, no-data and flags wherever other programs declare them.

The right values come from what the file's own program says: xarray, rasterio, or the numbers
that were written.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from cli_case import call, check_refused
from hyperhpc.compute.selection import reflectance_converter, select_bands
from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.metadata import can_hold
from raster_case import write_envi

NM = np.linspace(450.0, 2300.0, 8)
SHAPE = (9, 7, 8)
DN = np.random.default_rng(0).integers(100, 6000, SHAPE).astype(np.int16)
HERE = (slice(0, 9), slice(0, 7))


def reflectance(scene: Scene) -> np.ndarray:
    return reflectance_converter(scene)(scene.read(*HERE))


def stored(path: Path, values: np.ndarray, attributes: dict[str, Any], **more: Any) -> Path:
    """A store as xarray writes it, with ``attributes`` on the cube as they are given."""
    cube = xr.Dataset(
        {"reflectance": (("y", "x", "wavelength"), values, attributes)},
        coords={"y": 99.5 - np.arange(9), "x": 500.5 + np.arange(7), "wavelength": NM, **more},
    )
    cube.to_zarr(path, zarr_format=2)
    return path


def tiff(path: Path, values: np.ndarray, mask: np.ndarray | None = None, **more: Any) -> Path:
    bands = np.moveaxis(values, -1, 0)
    profile = {"nodata": None, "transform": Affine(1, 0, 500, 0, -1, 100), "crs": "EPSG:32613"}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=more.pop("is_internal", True)),
        rasterio.open(
            path, "w", driver="GTiff", height=9, width=7, count=len(bands), dtype=values.dtype,
            **profile | more,
        ) as file,
    ):  # fmt: skip
        file.write(bands)
        for number, nm in enumerate(NM, 1):
            file.set_band_description(number, f"{nm} nm")
        if mask is not None:
            file.write_mask(mask)
    return path


@pytest.mark.parametrize(
    ("attributes", "factor"),
    [
        ({"scale_factor": 1.0, "add_offset": 0.0}, 1e-4),  # as rioxarray writes with everything
        ({"scale_factor": 1.0, "reflectance_scale_factor": 2000.0}, 1 / 2000),
        ({"scale_factor": 0.0002}, 0.0002),
        ({"Scale_Factor": 20000.0}, 1 / 20000),
        ({"units": "%"}, 0.01),
        ({"units": "percent", "scale_factor": 0.01}, 1e-4),
        ({"units": "1"}, 1e-4),
    ],
)
def test_scale__only_a_declaration_counts(
    tmp_path: Path, attributes: dict[str, Any], factor: float
) -> None:
    path = stored(tmp_path / "s.zarr", DN, {})
    zarr.open_group(path, mode="r+")["reflectance"].attrs.update(attributes)
    np.testing.assert_allclose(reflectance(open_scene(path)), DN * factor)


def test_scale__is_assumed_with_a_note(tmp_path: Path) -> None:
    integers = open_scene(stored(tmp_path / "i.zarr", DN, {"scale_factor": 1.0}))
    assert any("No scale factor is declared: 10000" in note for note in integers.notes)
    floats = open_scene(stored(tmp_path / "f.zarr", DN.astype("f4"), {}))
    assert any("No scale factor is declared: the values" in note for note in floats.notes)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32"])
def test_offset__is_added_as_xarray_does(tmp_path: Path, dtype: str) -> None:
    values = DN.astype(dtype)
    values[2, 3] = 7000
    packing = {"scale_factor": 2e-4, "add_offset": -0.1, "_FillValue": np.dtype(dtype).type(7000)}
    path = stored(tmp_path / "s.zarr", values, packing)
    expected = xr.open_zarr(path).reflectance.values
    found = reflectance(open_scene(path))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert np.isnan(found[2, 3]).all()


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "uint8"])
@pytest.mark.parametrize("is_split", [False, True])
def test_valid_range__hides_what_is_outside(tmp_path: Path, dtype: str, is_split: bool) -> None:
    values = (DN % 200).astype(dtype)
    edges = {"valid_min": 20, "valid_max": 150} if is_split else {"valid_range": [20, 150]}
    scene = open_scene(stored(tmp_path / "s.zarr", values, edges))
    found = reflectance(scene)
    np.testing.assert_array_equal(np.isnan(found), (values < 20) | (values > 150))
    is_valid = ~np.isnan(found)
    np.testing.assert_allclose(found[is_valid], values[is_valid] / scene.scale_factor, rtol=1e-6)


@pytest.mark.parametrize("is_internal", [True, False])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_mask__of_a_tiff_is_no_data(tmp_path: Path, dtype: str, is_internal: bool) -> None:
    mask = np.full(SHAPE[:2], 255, np.uint8)
    mask[2:5, 1:6] = 0
    values = DN.astype(dtype)
    path = tiff(tmp_path / "s.tif", values, mask, is_internal=is_internal)
    assert (tmp_path / "s.tif.msk").exists() != is_internal
    scene = open_scene(path)
    is_hidden = np.isnan(reflectance(scene))
    np.testing.assert_array_equal(is_hidden, np.repeat(mask[..., None] == 0, 8, axis=2))
    some = scene.read(slice(1, 9, 2), slice(0, 7, 3), np.array([1, 5]))
    np.testing.assert_array_equal(some, scene.read(*HERE)[1:9:2, ::3][..., [1, 5]])


@pytest.mark.parametrize("dtype", ["int16", "uint16"])  # GDAL makes a mask of the second only
def test_mask__an_alpha_band_is_no_spectral_band(tmp_path: Path, dtype: str) -> None:
    alpha = np.full((9, 7, 1), 255, dtype)
    alpha[3, 4] = 0
    path = tiff(tmp_path / "s.tif", np.concatenate([DN.astype(dtype), alpha], axis=2))
    with rasterio.open(path, "r+") as file:
        file.colorinterp = [*[ColorInterp.undefined] * 8, ColorInterp.alpha]
    scene = open_scene(path)
    assert scene.shape == SHAPE
    assert np.argwhere(np.isnan(reflectance(scene)).any(axis=2)).tolist() == [[3, 4]]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_chunks__that_were_never_written_are_no_data(
    tmp_path: Path, dtype: str, zarr_format: Any
) -> None:
    group = zarr.open_group(tmp_path / "s.zarr", mode="w", zarr_format=zarr_format)
    values = DN.astype(dtype)
    axes = {"y": 99.5 - np.arange(9), "x": 500.5 + np.arange(7), "wavelength": NM}
    for name, numbers in {"reflectance": values, **axes}.items():
        dims = list(axes) if name == "reflectance" else [name]
        more = {"dimension_names": dims} if zarr_format == 3 else {}
        chunks = (5, 4, 8) if name == "reflectance" else numbers.shape
        array = group.create_array(
            name, shape=numbers.shape, dtype=numbers.dtype, chunks=chunks, fill_value=0, **more
        )
        array[...] = numbers
        array.attrs["_ARRAY_DIMENSIONS"] = dims
    assert not np.isnan(reflectance(open_scene(tmp_path / "s.zarr"))).any()
    (tmp_path / "s.zarr" / "reflectance" / ("0.1.0" if zarr_format == 2 else "c/0/1/0")).unlink()
    scene = open_scene(tmp_path / "s.zarr")
    is_hidden = np.isnan(reflectance(scene)).all(axis=2)
    expected = np.zeros((9, 7), bool)
    expected[:5, 4:] = True
    np.testing.assert_array_equal(is_hidden, expected)
    for row, col, block in scene.blocks(*HERE):
        part = scene.read(slice(row, row + block.shape[0]), slice(col, col + block.shape[1]))
        np.testing.assert_array_equal(block, part)


@pytest.mark.parametrize("name", ["good_wavelengths", "bbl", "is_good_band"])
def test_flags__of_zarr_count_as_in_envi(tmp_path: Path, name: str) -> None:
    flags = np.ones(8, np.float32)
    flags[[2, 5]] = 0
    path = stored(tmp_path / "s.zarr", DN, {}, **{name: ("wavelength", flags)})
    assert open_scene(path).bad_bands == (2, 5)
    path = stored(tmp_path / "a.zarr", DN, {})
    zarr.open_group(path, mode="r+")["reflectance"].attrs[name] = flags.astype(int).tolist()
    assert open_scene(path).bad_bands == (2, 5)
    assert not {2, 5} & set(select_bands(open_scene(path)).bands.tolist())


def test_override__counts_more_than_the_file(tmp_path: Path) -> None:
    path = stored(tmp_path / "s.zarr", DN, {"scale_factor": 0.0002, "missing_value": 150})
    marks = (float(DN[0, 0, 0]), float(DN[3, 4, 5]))
    scene = open_scene(path, options=SceneOptions(scale=2500, nodata=marks))
    expected = np.where(np.isin(DN, marks), np.nan, DN / 2500)
    np.testing.assert_allclose(reflectance(scene), expected)
    multiplied = open_scene(path, options=SceneOptions(scale=0.0004))
    assert multiplied.scale_factor == 2500
    assert any("--scale 0.0004 multiplies" in note for note in multiplied.notes)


@pytest.mark.parametrize("name", ["Data_Ignore_Value", "missing_value"])
def test_nodata__zero_in_a_list_counts(tmp_path: Path, name: str) -> None:
    path = stored(tmp_path / "s.zarr", DN, {name: [0, -7], "_FillValue": 0})
    assert open_scene(path).nodata == (0.0, -7.0)
    assert open_scene(stored(tmp_path / "t.zarr", DN, {name: -7, "_FillValue": 0})).nodata == (-7,)


def test_override__zero_and_another_value_are_both_no_data(tmp_path: Path) -> None:
    dn = DN.copy()
    dn[1, 2] = 0
    path = stored(tmp_path / "s.zarr", dn, {})
    options = SceneOptions(nodata=(0, float(dn[5, 5, 0])))
    found = np.isnan(reflectance(open_scene(path, options=options)))
    np.testing.assert_array_equal(found, (dn == 0) | (dn == dn[5, 5, 0]))


def test_override__keeps_what_a_mask_hides(tmp_path: Path) -> None:
    mask = np.full(SHAPE[:2], 255, np.uint8)
    mask[2, 3] = 0
    path = tiff(tmp_path / "s.tif", DN, mask)
    options = SceneOptions(nodata=(float(DN[5, 5, 0]),))
    found = np.isnan(reflectance(open_scene(path, options=options)))
    np.testing.assert_array_equal(found, (DN[5, 5, 0] == DN) | (mask[..., None] == 0))


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["1", "1e9", None])
def test_run__stops_at_values_that_are_no_reflectance(tmp_path: Path, scale: str | None) -> None:
    path = stored(tmp_path / "s.zarr", DN, {})
    options = ["--clusters", "2", "--stride", "1", "--workers", "1", "--models", "lloyd"]
    words = ["run", path, tmp_path / "out", *options, *(["--scale", scale] if scale else [])]
    done = call(*words)
    if scale is None:
        assert done.code == 0, done.err
    else:
        check_refused(done, 4, "The median reflectance at 400-1300 nm is", "--scale 10000")


def test_coordinates__that_are_packed_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    cube = xr.open_zarr(stored(tmp_path / "plain.zarr", DN, {}))
    packed = {"dtype": "int32", "scale_factor": 0.5, "add_offset": 50.0, "_FillValue": -1}
    cube.drop_encoding().to_zarr(
        path, zarr_format=2, encoding={"x": packed, "y": packed,
        "wavelength": {"dtype": "int32", "scale_factor": 1e-5, "_FillValue": -1}},
    )  # fmt: skip
    scene = open_scene(path)
    assert list(scene.bounds) == [500.0, 91.0, 507.0, 100.0]
    np.testing.assert_allclose(scene.wavelength_nm, NM, atol=1e-5)


@pytest.mark.parametrize(("gain", "offset"), [(2e-4, 0.0), (1e-4, 0.05)])
def test_envi__reflectance_gains_count(tmp_path: Path, gain: float, offset: float) -> None:
    lists = {
        "data reflectance gain values": [gain] * 8, "data reflectance offset values": [offset] * 8,
    }  # fmt: skip
    path = write_envi(tmp_path / "s.img", DN)
    header = path.with_name("s.img.hdr")
    lines = [f"{name} = {{{', '.join(map(str, v))}}}\n" for name, v in lists.items()]
    text = "".join(line for line in header.read_text().splitlines(True) if "scale" not in line)
    header.write_text(text + "".join(lines))
    found = reflectance(open_scene(path))
    np.testing.assert_allclose(found, DN * gain + offset, rtol=1e-6)


def test_envi__gains_that_differ_are_refused(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s.img", DN)
    with path.with_name("s.img.hdr").open("a") as file:
        file.write("data reflectance gain values = {1e-4, 2e-4}\n")
    with pytest.raises(SceneError, match="bands differ in scale_factor"):
        open_scene(path)


@pytest.mark.parametrize("place", ["units", "band names"])
def test_envi__a_latin_1_header_is_read(tmp_path: Path, place: str) -> None:
    path = write_envi(tmp_path / "s.img", DN)
    header = path.with_name("s.img.hdr")
    kept = [line for line in header.read_text().splitlines() if not line.startswith("wavelength")]
    if place == "units":
        centres = ", ".join(str(v / 1000) for v in NM)
        kept += ["wavelength units = µm", f"wavelength = {{{centres}}}"]
    else:
        names = ", ".join(f"B{i} ({v / 1000:.6f} µm)" for i, v in enumerate(NM))
        kept.append(f"band names = {{{names}}}")
    header.write_bytes("\n".join([*kept, ""]).encode("latin-1"))
    np.testing.assert_allclose(open_scene(path).wavelength_nm, NM, atol=1e-3)


def test_envi__band_numbers_are_no_wavelengths(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s.img", DN)
    header = path.with_name("s.img.hdr")
    kept = [line for line in header.read_text().splitlines() if not line.startswith("wavelength")]
    numbers = ", ".join(str(n) for n in range(300, 308))
    kept += ["wavelength units = Index", f"wavelength = {{{numbers}}}", ""]
    header.write_text("\n".join(kept))
    with pytest.raises(SceneError, match="holds no band centres"):
        open_scene(path)


@pytest.mark.parametrize(
    "dims", ["time y x wavelength", "y x wavelength time", "wavelength y time x", "time band y x"]
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_dimension__of_length_1_is_left_out(tmp_path: Path, dims: str, zarr_format: Any) -> None:
    cube = xr.DataArray(
        DN,
        dims=("y", "x", "wavelength"),
        coords={"y": 99.5 - np.arange(9), "x": 500.5 + np.arange(7), "wavelength": NM},
    ).expand_dims("time")
    if "band" in dims:
        cube = cube.drop_vars("wavelength").rename(wavelength="band")
        cube = cube.assign_coords(wavelength=("band", NM))
    cube = cube.transpose(*dims.split())
    cube.chunk({"y": 4, "x": 3}).to_dataset(name="r").to_zarr(
        tmp_path / "s.zarr", zarr_format=zarr_format, consolidated=False
    )
    scene = open_scene(str(tmp_path / "s.zarr"))
    assert scene.shape == SHAPE
    assert (scene.wavelength_nm == NM).all()
    np.testing.assert_array_equal(scene.read(*HERE), DN)
    np.testing.assert_array_equal(scene.read(slice(2, 5), slice(1, 6, 2)), DN[2:5, 1:6:2])
    blocks = {(r, c): dn.copy() for r, c, dn in scene.blocks(*HERE)}
    np.testing.assert_array_equal(blocks[0, 0], DN[: len(blocks[0, 0]), : len(blocks[0, 0][0])])


def test_dimension__of_two_times_is_refused(tmp_path: Path) -> None:
    cube = xr.DataArray(
        np.stack([DN, DN]), dims=("time", "y", "x", "wl"), coords={"wl": NM}
    ).to_dataset(name="r")
    cube.to_zarr(tmp_path / "s.zarr", consolidated=False)
    with pytest.raises(SceneError, match=r"no array in the store has three dimensions .*2, 9, 7"):
        open_scene(str(tmp_path / "s.zarr"))


@pytest.mark.parametrize("name", ["uint8", "int16", "uint16", "float16", "float32"])
@pytest.mark.parametrize("value", [0, -1, 241, 0.5, -9999.0, 70000, 1e39, np.inf, np.nan])
def test_can_hold__is_what_numpy_keeps(name: str, value: float) -> None:
    with np.errstate(all="ignore"):
        kept = np.array(value, dtype=np.float64).astype(name).astype(np.float64)
    is_number = name.startswith("float") and np.isfinite(value)
    expected = np.isfinite(kept) if is_number else np.array_equal(kept, value, equal_nan=True)
    assert can_hold(np.dtype(name), value) == expected
