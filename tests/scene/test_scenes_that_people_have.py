"""The table of scenes that people have, in docs/scenes.md: each row is written and read."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from cli_case import call
from hyperhpc.compute.selection import reflectance_converter
from hyperhpc.config import SceneOptions
from hyperhpc.scene import open_scene
from raster_case import MAP_INFO, listed, write_envi

_NM = np.array([444.5, 550.0, 660.0, 860.0, 1240.0, 1650.0])
_DN = np.random.default_rng(0).integers(100, 6000, (6, 5, 6)).astype(np.int16)
_REFLECTANCE = _DN / 1e4
_IS_MISSING = np.zeros((6, 5), dtype=bool)
_IS_MISSING[:2, :2] = True
_ASSUMED = {
    "values are reflectance 0-1": "the values are taken as reflectance 0-1",
    "integers are divided by 10000": "10000 is assumed for integers",
    "values are divided by 100": "Values are in per cent: they are divided by 100",
    "-9999 is no-data": "-9999 is assumed",
    "they are no-data": "never written",
}


def marked(values: np.ndarray, mark: float = -9999) -> np.ndarray:
    """The values with the no-data value in the corner."""
    out = values.copy()
    out[_IS_MISSING] = mark
    return out


def store(
    path: Path, values: np.ndarray, zarr_format: Any = 2, fill: Any = None, **attributes: Any
) -> xr.Dataset:
    cube = xr.DataArray(
        values,
        dims=("y", "x", "wavelength"),
        coords={
            "y": 4000099.0 - 2 * np.arange(6),
            "x": 500001.0 + 2 * np.arange(5),
            "wavelength": ("wavelength", _NM, {"units": "nm"}),
        },
        attrs=attributes,
    )
    if fill is not None:
        cube.encoding["_FillValue"] = values.dtype.type(fill)
    data = cube.to_dataset(name="reflectance")
    data.to_zarr(path, zarr_format=zarr_format, consolidated=False)
    return data


def emit_store(path: Path) -> None:
    data = store(path, marked(_REFLECTANCE.astype(np.float32)), fill=-9999)
    data["good_wavelengths"] = ("wavelength", np.array([1, 1, 1, 1, 0, 1], np.float32))
    data.to_zarr(path, mode="w", zarr_format=2, consolidated=False)


def one_date(path: Path) -> None:
    data = store(path, marked(_DN), fill=-9999, scale_factor=1.0, add_offset=0.0)
    data.expand_dims(time=[np.datetime64("2023-06-01", "ns")]).to_zarr(
        path, mode="w", zarr_format=2, consolidated=False
    )


def unfinished(path: Path) -> None:
    data = store(path, _DN, scale_factor=1e-4)
    data["reflectance"].encoding.clear()
    data["reflectance"].encoding["chunks"] = (2, 2, 6)
    data.to_zarr(path, mode="w", zarr_format=2, consolidated=False)
    (path / "reflectance" / "0.0.0").unlink()


def header(path: Path, values: np.ndarray, **fields: Any) -> None:
    interleave, big_endian = fields.pop("interleave", "bil"), fields.pop("big_endian", False)
    fields = {"wavelength": listed(_NM), "map_info": MAP_INFO} | fields
    write_envi(path, values, interleave, big_endian=big_endian, **fields)


def latin_1(path: Path) -> None:
    header(
        path, marked(_DN), wavelength=listed(_NM / 1000), wavelength_units="µm",
        reflectance_scale_factor=10000, data_ignore_value=-9999,
    )  # fmt: skip
    text = path.with_name(path.name + ".hdr")
    text.write_bytes(text.read_text("utf-8").encode("latin-1"))


def tiff(
    path: Path, values: np.ndarray, names: str = "", alpha: bool = False, mask: bool = False,
    scale: float = 1.0, **profile: Any,
) -> None:  # fmt: skip
    count = len(_NM) + alpha
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(
            path, "w", driver="GTiff", height=6, width=5, count=count, dtype=values.dtype,
            crs="EPSG:32613", transform=Affine(2, 0, 500000, 0, -2, 4000100), **profile,
        ) as file,
    ):  # fmt: skip
        file.write(np.moveaxis(values, -1, 0), list(range(1, len(_NM) + 1)))
        if alpha:
            file.write(np.where(_IS_MISSING, 0, 255).astype(values.dtype), count)
            file.colorinterp = (*[ColorInterp.gray] * len(_NM), ColorInterp.alpha)
        if mask:
            file.write_mask(~_IS_MISSING)
        if scale != 1:
            file.scales = (scale,) * count
        for band, nm in enumerate(_NM, 1):
            if names:
                file.set_band_description(band, names.format(nm))
            elif scale == 1:
                file.update_tags(band, wavelength=nm, wavelength_units="nm")


FLOATS = _REFLECTANCE.astype(np.float32)
#: What writes the scene of each row.
WRITERS: dict[str, Callable[[Path], Any]] = {
    "EMIT L2A, saved by xarray": emit_store,
    "packed integers, saved by xarray": lambda path: store(
        path, marked(_DN), 3, -9999, scale_factor=1e-4
    ),
    "one date of a stack, saved by rioxarray": one_date,
    "16-bit reflectance with an offset": lambda path: store(
        path, marked(_DN + np.int16(1000)), fill=-9999, scale_factor=1e-4, add_offset=-0.1
    ),
    "per cent, as from field spectrometers": lambda path: store(
        path, marked(100 * FLOATS, np.nan), units="%"
    ),
    "a copy that was never finished": unfinished,
    "EMIT L2A, reformatted to ENVI": lambda path: header(
        path, marked(FLOATS), data_ignore_value=-9999, bbl=listed([1, 1, 1, 1, 0, 1])
    ),
    "AVIRIS-NG, AVIRIS-3 flight line": lambda path: header(
        path, marked(FLOATS), data_ignore_value=-9999,
        map_info=MAP_INFO.replace("}", ", rotation=90}"),
    ),
    "AVIRIS Classic, big-endian": lambda path: header(
        path, marked(_DN), interleave="bip", big_endian=True, data_ignore_value=-9999
    ),
    "ENVI, FLAASH": lambda path: header(
        path, marked(_DN), interleave="bsq", reflectance_scale_factor=10000,
        wavelength=listed(_NM / 1000), wavelength_units="Micrometers",
    ),
    "ENVI, gain of each band": lambda path: header(
        path, marked(_DN), data_reflectance_gain_values=listed([1e-4] * 6), data_ignore_value=-9999
    ),
    "software on Windows": latin_1,
    "numbers instead of centres": lambda path: header(
        path, marked(_DN), wavelength=listed(range(1, 7)), wavelength_units="Index",
        reflectance_scale_factor=10000, data_ignore_value=-9999,
    ),
    "R, terra": lambda path: tiff(path, marked(FLOATS, np.nan), "X{:.2f}", nodata=np.nan),
    "R, hsdar": lambda path: tiff(path, marked(_DN), "wl_{}", nodata=-9999),
    "gdal_translate of an ENVI file": lambda path: tiff(
        path, marked(_DN), "{} Nanometers", nodata=-9999
    ),
    "GDAL's scale, as EnMAP users set it": lambda path: tiff(
        path, marked(_DN, -32768), nodata=-32768, scale=1e-4
    ),
    "mosaic with an alpha band": lambda path: tiff(path, _DN, alpha=True),
    "clipped with a mask": lambda path: tiff(path, _DN, mask=True),
}  # fmt: skip


def rows() -> dict[str, str]:
    """Scenes of the table, and what is assumed of each."""
    page = (Path(__file__).parents[2] / "docs" / "scenes.md").read_text("utf-8")
    table = page.split("## Scenes that people have")[1].split("\n## ")[0]
    found = re.findall(r"(?m)^\| ([^|]+) \| [^|]+ \| [^|]+ \| ([^|]+) \|$", table)
    return {scene: assumed for scene, assumed in found if scene != "scene"}


@pytest.mark.parametrize("scene", [name for name in rows() if not name.startswith("NEON")])
def test_read__a_scene_of_the_table(tmp_path: Path, scene: str) -> None:
    WRITERS[scene](tmp_path / "scene")
    (tmp_path / "nm.txt").write_text("\n".join(map(str, _NM)))
    assumed = rows()[scene]
    opened = open_scene(
        tmp_path / "scene",
        options=SceneOptions(
            wavelengths=tmp_path / "nm.txt" if "EnMAP" in scene or "numbers" in scene else None,
            resample="nearest" if "--resample nearest" in assumed else None,
        ),
    )
    values, is_missing = _REFLECTANCE, _IS_MISSING
    if "flight line" in scene:  # a quarter of a turn
        values, is_missing = np.rot90(values), np.rot90(is_missing)
    got = reflectance_converter(opened)(
        opened.read(slice(0, opened.shape[0]), slice(0, opened.shape[1]))
    )
    np.testing.assert_array_equal(np.isnan(got).any(axis=-1), is_missing)
    np.testing.assert_allclose(got[~is_missing], values[~is_missing], 1e-6, 1e-7)
    np.testing.assert_allclose(opened.wavelength_nm, _NM, 1e-9)
    assert opened.bad_bands == ((4,) if scene.startswith("EMIT") else ())
    said = " ".join(opened.notes)
    for words, note in _ASSUMED.items():
        assert (words in assumed) == (note in said), (assumed, said)


@pytest.mark.parametrize("product", ["001", "002"])
def test_read__a_neon_tile_of_the_table(tmp_path: Path, product: str) -> None:
    assert f"NEON tile, DP3.30006.{product}" in rows()
    options = "--size 60x50 --bands 40 --layout neon --product".split()
    done = call("simulate", tmp_path / "tile.h5", *options, product)
    assert done.code == 0, done.err
    (path,) = tmp_path.rglob("*.h5")
    with h5py.File(path) as file:
        (group,) = file.values()
        dn = group["Reflectance/Reflectance_Data"][:]
        nm = group["Reflectance/Metadata/Spectral_Data/Wavelength"][:]
    expected = np.where(dn == -9999, np.nan, dn / 1e4)
    is_water = ((nm >= 1340) & (nm <= 1445)) | ((nm >= 1790) & (nm <= 1955))
    if product == "002":
        expected[(dn == -100) & is_water] = np.nan
        assert (dn[..., is_water] == -100).any()
    scene = open_scene(path)
    got = reflectance_converter(scene)(scene.read(slice(0, 60), slice(0, 50)))
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_allclose(scene.wavelength_nm, nm, 1e-9)


def test_table__has_a_writer_for_each_row() -> None:
    assert {name for name in rows() if not name.startswith("NEON")} == set(WRITERS)
