"""Band centres from a file of their own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError, SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.formats.centres import read_wavelengths
from hyperhpc.simulate import materials
from hyperhpc.simulate.scene import simulate
from raster_case import cube, listed, write_envi


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("400\n410.5\n421\n", [400, 410.5, 421]),
        ("0.4\n0.5\n0.6567", [400, 500, 656.7]),
        ("# centres\n\n400\r\n410\r\n420\r\n", [400, 410, 420]),
        ("wavelength,fwhm\n400,5\n410,5\n420,5\n", [400, 410, 420]),
        ('"Wavelength (um)";x\n"0.4";1\n"0.5";1\n"0.6";1', [400, 500, 600]),
        ("\ufeffnm\n993.1 a\n902.3 b\n911.0 c\n", [993.1, 902.3, 911]),
        ("1 381.27\n2 386.28\n3 391.29\n", [381.27, 386.28, 391.29]),
        ("0,381.27\n1,386.28\n2,391.29\n", [381.27, 386.28, 391.29]),
        ("b1\t0.4\nb2\t0.5\nb3\t0.6\n", [400, 500, 600]),
        ("band,wavelength,fwhm\n1,400,5\n2,410,5\n3,420,5\n", [400, 410, 420]),
        ("Band;Wavelength (µm);FWHM (µm)\r\n1;0.4;0.01\r\n2;0.5;0.01\r\n", [400, 500]),
        ("band wavelength (nm) fwhm (nm)\n1 400.5 5\n2 410.5 5.1\n", [400.5, 410.5]),
        ('"wavelength" "fwhm"\n"1" 400.5 5.5\n"2" 410.5 5.5\n', [400.5, 410.5]),
        ("fwhm_nm,band_center_nm\n5.1,400\n5.2,410\n", [400, 410]),
        ("wavelength_min,wavelength,wavelength_max\n395,400,405\n405,410,415\n", [400, 410]),
        ("5.5 400.5\n5.6 410.5\n", [400.5, 410.5]),
        ("1 381.27 2.5\n2 386.28 2.5\n3 391.29 2.5\n", [381.27, 386.28, 391.29]),
        ("350 0.5\n351 0.6\n352 0.1\n", [350, 351, 352]),
        ("400.25\r400.5\r410.5", [400.25, 400.5, 410.5]),
        ("400, 5\n410, 5\n", [400, 410]),
        ("400.5,5\n410,5\n", [400.5, 410]),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_read_wavelengths__of_texts(
    tmp_path: Path, text: str, expected: list[float], encoding: str
) -> None:
    path = tmp_path / "w.txt"
    path.write_bytes(text.lstrip("\ufeff").encode(encoding))
    given = read_wavelengths(path)
    np.testing.assert_array_equal(given.wavelength_nm, expected)
    assert "w.txt" in given.where


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no band centres"),
        ("400\nx\n420\n", "line 2 begins with 'x'"),
        ("a\nb\n420\n", "line 2 begins with 'b'"),
        ("400\n410\nnan\n", "not finite"),
        ("1\n2\n4000\n", "outside 300-3000"),
        ("\0\1\2", "zero bytes"),
    ],
)
def test_read_wavelengths__refuses(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "w.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read_wavelengths(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("1 381.27\n2 386.28\n", "column 2 of 2"),
        ("n,wavelength,fwhm\n1,400,5\n2,410,5\n", "column 2 (wavelength) of 3"),
        ("400.5 5\n410.5 5\n", "column 1 of 2"),
    ],
)
def test_read_wavelengths__says_which_column(tmp_path: Path, text: str, column: str) -> None:
    path = tmp_path / "w.txt"
    path.write_text(text, "utf-8")
    assert f"Band centres are {column}." in read_wavelengths(path).notes


@pytest.mark.parametrize(
    ("text", "line", "value"),
    [
        ("0,45\n0,46\n", 1, "0,45"),
        ("381\n386,28\n", 2, "386,28"),
        ("Wavelength\n381,27\n386,28\n", 2, "381,27"),
        ("Wavelength, nm\n381,27\n386,28\n", 2, "381,27"),
        ("1;381,27\n2;386,28\n", 1, "381,27"),
        ("1\t381.27\n2\t386,28\n", 2, "386,28"),
        ("1 381,27\n2 386,28\n", 1, "381,27"),
        ("band,wavelength\n1,381,27\n", 2, "1,381"),
        ('band,wavelength\n"1","381,27"\n', 2, "381,27"),
        ("400,5\n410,5\n", 1, "400,5"),
    ],
)
def test_read_wavelengths__refuses_a_decimal_comma(
    tmp_path: Path, text: str, line: int, value: str
) -> None:
    path = tmp_path / "w.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match="decimal comma") as caught:
        read_wavelengths(path)
    assert f"{path}: line {line} holds {value!r}" in caught.value.message
    assert "decimal point" in str(caught.value.hint)


@pytest.mark.parametrize(
    "text",
    [
        "1 381.27 400.5\n2 386.28 410.5\n",
        "wavelength_nm,wavelength_um\n400.5,0.4005\n410.5,0.4105\n",
        "300 381.27\n301 386.28\n302 391.29\n",
    ],
)
def test_read_wavelengths__refuses_several_columns_that_may_be_meant(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "w.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=r"column \d.* and column \d.* may both hold") as caught:
        read_wavelengths(path)
    assert "wavelength in the first line" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("units", "factor"), [("Nanometers", 1), ("Micrometers", 0.001), (None, 0.001), (None, 1)]
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_open__centres_of_an_envi_header(
    tmp_path: Path, encoding: str, units: str | None, factor: float
) -> None:
    expected = materials.band_centres(20) + 1
    store = simulate(tmp_path / "s.zarr", 6, 7, bands=20).path
    path = write_envi(
        tmp_path / "other",
        cube(2, 2, 20),
        wavelength=listed(np.round(expected * factor, 9)),
        wavelength_units=units,
        description="{a µ}",
    ).with_name("other.hdr")
    path.write_bytes(path.read_text("utf-8").replace("\n", "\r\n").encode(encoding))
    scene = open_scene(store, options=SceneOptions(wavelengths=path))
    np.testing.assert_allclose(scene.wavelength_nm, expected, rtol=0, atol=1e-6)
    assert "Band centres are those of other.hdr." in scene.notes


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wavelength": None}, "header without wavelengths"),
        ({"wavelength_units": "Index"}, "header without wavelengths"),
        ({"wavelength": "{400, x, 420}"}, "no number: .*'x'"),
        ({"wavelength": "{0,45, 0,46, 0,47}"}, r"line \d+ \(wavelength\) holds '0,45'"),
    ],
)
def test_open__envi_header_without_usable_centres(
    tmp_path: Path, fields: Any, message: str
) -> None:
    store = simulate(tmp_path / "s.zarr", 6, 7, bands=3).path
    write_envi(tmp_path / "other", cube(2, 2, 3), **fields)
    with pytest.raises(ConfigError, match=message) as caught:
        open_scene(store, options=SceneOptions(wavelengths=tmp_path / "other.hdr"))
    assert "other.hdr" in caught.value.message


@pytest.mark.parametrize("name", ["none.txt", "."])
def test_read_wavelengths__no_such_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_wavelengths(tmp_path / name)


def test_open__other_number_of_centres(tmp_path: Path) -> None:
    store = simulate(tmp_path / "s.zarr", 6, 7, bands=3).path
    path = tmp_path / "w.txt"
    path.write_text("400\n410\n", "utf-8")
    with pytest.raises(ConfigError, match=r"holds 2 band centres; .* has 3 bands") as caught:
        open_scene(store, options=SceneOptions(wavelengths=path))
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_open__notes_given_centres(tmp_path: Path) -> None:
    store = simulate(tmp_path / "s.zarr", 6, 7, bands=20).path
    scene = open_scene(store, options=SceneOptions(wavelengths=_shift(tmp_path)))
    assert "Band centres are those of w.txt." in scene.notes


def _shift(path: Path) -> Path:
    centres = path / "w.txt"
    np.savetxt(centres, materials.band_centres(20) + 1)
    return centres


def test_open__neon_without_its_own(tmp_path: Path) -> None:
    tile = simulate(tmp_path / "t.h5", 6, 7, bands=20, layout="neon").path
    centres, before = _shift(tmp_path), open_scene(tile)
    with h5py.File(tile, "r+") as file:
        del file["CPER/Reflectance/Metadata/Spectral_Data/Wavelength"]
    with pytest.raises(SceneError, match="no wavelengths") as caught:
        open_scene(tile)
    assert "--wavelengths FILE" in str(caught.value.hint)
    scene = open_scene(tile, options=SceneOptions(wavelengths=centres))
    np.testing.assert_allclose(scene.wavelength_nm, before.wavelength_nm + 1, atol=1e-3)
    np.testing.assert_array_equal(
        scene.read(slice(None), slice(None)), before.read(slice(None), slice(None))
    )


def test_open__zarr_without_its_own(tmp_path: Path) -> None:
    store = simulate(tmp_path / "s.zarr", 6, 7, bands=20).path
    centres, before = _shift(tmp_path), open_scene(store)
    given = open_scene(store, options=SceneOptions(wavelengths=centres))
    np.testing.assert_array_equal(given.wavelength_nm, before.wavelength_nm + 1)
    for group in ("reflectance", "reflectance/every4th"):
        shutil.rmtree(store / group / "wl")
    with pytest.raises(SceneError, match="no wavelength coordinate") as caught:
        open_scene(store)
    assert "--wavelengths FILE" in str(caught.value.hint)
    scene = open_scene(store, options=SceneOptions(wavelengths=centres))
    np.testing.assert_array_equal(scene.wavelength_nm, before.wavelength_nm + 1)
    np.testing.assert_array_equal(
        scene.read(slice(None), slice(None)), before.read(slice(None), slice(None))
    )
