"""Two hundred generated scenes, read by this package and by xarray or rasterio.

Formats, types, scales, no-data, units and flags are combined at random. What is declared is
decoded by the other program: CF attributes by xarray, bands, masks and scales by GDAL. Names that
only ENVI and NEON know are decoded here, by their definition.
"""

from __future__ import annotations

import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.transform import Affine

from hyperhpc.compute.selection import reflectance_converter
from hyperhpc.scene import open_scene
from raster_case import MAP_INFO, listed, write_envi

_NM = np.array([440.5, 550.25, 670.0, 705.0, 860.0, 1240.0, 1650.0])
_SHAPE = (6, 5, len(_NM))
#: How each format may declare a scale, and no-data.
_SCALES = {
    "zarr 2": ("none", "one", "multiplier", "divisor", "per cent", "offset"),
    "zarr 3": ("none", "one", "multiplier", "divisor", "per cent", "offset"),
    "GeoTIFF": ("none", "multiplier", "offset"),
    "ENVI": ("none", "divisor", "multiplier", "reflectance gain"),
}
_MISSING = {
    "zarr 2": ("none", "fill", "two", "range"),
    "zarr 3": ("none", "fill", "two", "range"),
    "GeoTIFF": ("none", "fill", "mask"),
    "ENVI": ("none", "fill"),
}
_FILL = {"int16": -9999, "uint16": 65535, "int32": -2147483648, "float32": -9999.0}


@st.composite
def scenes(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(sorted(_SCALES)))
    return {
        "format": kind,
        "dtype": draw(st.sampled_from(sorted(_FILL))),
        "scale": draw(st.sampled_from(_SCALES[kind])),
        "missing": draw(st.sampled_from(_MISSING[kind])),
        "units": draw(st.sampled_from(("nm", "um"))),
        "flags": draw(st.booleans()),
        "seed": draw(st.integers(0, 2**16)),
        "interleave": draw(st.sampled_from(("bil", "bip", "bsq"))),
    }


def make_values(case: dict[str, Any]) -> np.ndarray:
    """Stored numbers (y, x, band), some of which are no-data if the case declares any."""
    rng = np.random.default_rng(case["seed"])
    if case["dtype"] == "float32" and case["scale"] in ("none", "one"):
        values = rng.uniform(0.01, 0.6, _SHAPE).astype(np.float32)
    elif case["scale"] == "per cent":
        values = rng.integers(1, 60, _SHAPE).astype(case["dtype"])
    else:
        values = rng.integers(1100, 6000, _SHAPE).astype(case["dtype"])
    is_missing = rng.random(_SHAPE) < 0.1
    is_missing[0, 0] = True
    is_missing[-1, -1] = False
    if case["missing"] in ("fill", "two"):
        values[is_missing] = _FILL[case["dtype"]]
    if case["missing"] == "two":
        values[1, 1] = 7777
    if case["missing"] == "range":
        values[is_missing] = 9000
    return values


def write_zarr(path: Path, values: np.ndarray, case: dict[str, Any]) -> np.ndarray:
    """Write a store as xarray does. Returns: reflectance as xarray decodes it, NaN no-data."""
    attributes: dict[str, Any] = {
        "none": {},
        "one": {"scale_factor": 1.0, "add_offset": 0.0},
        "multiplier": {"scale_factor": 1e-4},
        "divisor": {"Scale_Factor": 1e4},
        "per cent": {"units": "%"},
        "offset": {"scale_factor": 1e-4, "add_offset": -0.1},
    }[case["scale"]]
    attributes = dict(attributes)
    encoding = {}
    if case["missing"] in ("fill", "two"):
        encoding["_FillValue"] = values.dtype.type(_FILL[case["dtype"]])
    if case["missing"] == "two":
        attributes["missing_value"] = 7777
    if case["missing"] == "range":
        attributes["valid_range"] = [0, 8000]
    coordinates: dict[str, Any] = {
        "y": 4000099.0 - 2 * np.arange(_SHAPE[0]),
        "x": 500001.0 + 2 * np.arange(_SHAPE[1]),
        "wavelength": ("wavelength", *in_units(case)),
    }
    if case["flags"]:
        coordinates["good_wavelengths"] = ("wavelength", flags().astype(np.float32))
    raw = xr.DataArray(values, dims=("y", "x", "wavelength"), coords=coordinates, attrs=attributes)
    raw.to_dataset(name="reflectance").to_zarr(
        path,
        zarr_format=int(case["format"][-1]),
        consolidated=False,
        encoding={"reflectance": encoding},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # xarray warns about two values of no-data
        decoded = xr.open_zarr(path, consolidated=False)["reflectance"].values.astype(float)
    if case["missing"] == "range":  # which xarray leaves to its user
        decoded[values > 8000] = np.nan
    divisor = {"divisor": 1e4, "per cent": 100}.get(case["scale"], assumed(case))
    return decoded / divisor


def write_tiff(path: Path, values: np.ndarray, case: dict[str, Any]) -> np.ndarray:
    """Write a GeoTIFF. Returns: reflectance as rasterio decodes it, NaN no-data."""
    scale, offset = {"multiplier": (1e-4, 0.0), "offset": (1e-4, -0.1)}.get(
        case["scale"], (1.0, 0.0)
    )
    nodata = _FILL[case["dtype"]] if case["missing"] == "fill" else None
    centres, attributes = in_units(case)
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", height=_SHAPE[0], width=_SHAPE[1], count=_SHAPE[2],
            dtype=values.dtype, nodata=nodata, crs="EPSG:32613",
            transform=Affine(2, 0, 500000, 0, -2, 4000100),
        ) as file,
    ):  # fmt: skip
        file.write(np.moveaxis(values, -1, 0))
        file.scales, file.offsets = (scale,) * _SHAPE[2], (offset,) * _SHAPE[2]
        for band, centre in enumerate(centres, 1):
            file.update_tags(band, wavelength=centre, wavelength_units=attributes["units"])
        if case["missing"] == "mask":
            rng = np.random.default_rng(case["seed"] + 1)
            file.write_mask(np.where(rng.random(_SHAPE[:2]) < 0.3, 0, 255).astype(np.uint8))
    with rasterio.open(path) as file:
        read = np.moveaxis(file.read(masked=True), 0, -1)
        decoded = read.astype(float) * file.scales + file.offsets
    return decoded.filled(np.nan) / assumed(case)


def write_header(path: Path, values: np.ndarray, case: dict[str, Any]) -> np.ndarray:
    """Write ENVI. Returns: reflectance by the definition of its header, NaN no-data."""
    centres, attributes = in_units(case)
    names = {"nm": "Nanometers", "um": "Micrometers"}
    fields: dict[str, Any] = {"wavelength": listed(centres), "map_info": MAP_INFO}
    fields["wavelength_units"] = names[attributes["units"]]
    fields |= {
        "none": {},
        "divisor": {"reflectance_scale_factor": 10000},
        "multiplier": {"data_gain_values": listed([1e-4] * len(_NM))},
        "reflectance gain": {"data_reflectance_gain_values": listed([1e-4] * len(_NM))},
    }[case["scale"]]
    if case["missing"] == "fill":
        fields["data_ignore_value"] = _FILL[case["dtype"]]
    if case["flags"]:
        fields["bbl"] = listed(flags())
    write_envi(path, values, case["interleave"], **fields)
    with rasterio.open(path) as file:
        decoded = np.moveaxis(file.read(masked=True), 0, -1).astype(float).filled(np.nan)
    return decoded / (assumed(case) if case["scale"] == "none" else 1e4)


def in_units(case: dict[str, Any]) -> tuple[np.ndarray, dict[str, str]]:
    """Band centres in the unit of the case, and the attribute that names it."""
    return (_NM if case["units"] == "nm" else _NM / 1000), {"units": case["units"]}


def flags() -> np.ndarray:
    """1 for a good band, 0 for a bad one."""
    return np.isin(np.arange(len(_NM)), (2, 5), invert=True).astype(int)


def assumed(case: dict[str, Any]) -> float:
    """What the numbers are divided by where nothing declares it, or 1."""
    is_declared = case["scale"] not in ("none", "one")
    return 1.0 if is_declared or case["dtype"] == "float32" else 1e4


_WRITERS = {"zarr 2": write_zarr, "zarr 3": write_zarr, "GeoTIFF": write_tiff, "ENVI": write_header}


@pytest.mark.slow
def test_open__two_hundred_scenes_as_other_programs_read_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tally: Counter[str] = Counter()

    @settings(
        max_examples=240,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(scenes())
    def compare(case: dict[str, Any]) -> None:
        path = Path(tempfile.mkdtemp(dir=tmp_path)) / "scene"
        values = make_values(case)
        expected = _WRITERS[case["format"]](path, values, case)
        scene = open_scene(path)
        got = reflectance_converter(scene)(scene.read(slice(0, _SHAPE[0]), slice(0, _SHAPE[1])))
        np.testing.assert_array_equal(np.isnan(got), np.isnan(expected), str(case))
        # xarray decodes in float32; a scene with an offset is read so too
        np.testing.assert_allclose(got, expected, 1e-6, 1e-7, err_msg=str(case))
        np.testing.assert_allclose(scene.wavelength_nm, _NM, 1e-9, err_msg=str(case))
        has_flags = case["flags"] and case["format"] != "GeoTIFF"
        assert scene.bad_bands == ((2, 5) if has_flags else ()), case
        for what in ("format", "dtype", "scale", "missing", "units"):
            tally[f"{what}: {case[what]}"] += 1

    compare()
    with capsys.disabled():
        print("\ngenerated scenes, by what they have:")
        for what, count in sorted(tally.items()):
            print(f"  {what:24} {count}")
    n_formats = sum(tally[f"format: {name}"] for name in _SCALES)
    assert n_formats >= 200
    wanted = {f"scale: {scale}" for scales in _SCALES.values() for scale in scales}
    wanted |= {f"missing: {missing}" for kinds in _MISSING.values() for missing in kinds}
    assert not {what for what in wanted if tally[what] < 3}, tally
