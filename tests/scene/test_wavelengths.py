"""Band centres from a file of their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError, SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.metadata import read_wavelengths
from hyperhpc.simulate import materials
from hyperhpc.simulate.scene import simulate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("400\n410.5\n421\n", [400, 410.5, 421]),
        ("0.4\n0.5\n0.6567", [400, 500, 656.7]),
        ("# centres\n\n400\r\n410\r\n420\r\n", [400, 410, 420]),
        ("wavelength,fwhm\n400,5\n410,5\n420,5\n", [400, 410, 420]),
        ('"Wavelength (um)";x\n"0.4";1\n"0.5";1\n"0.6";1', [400, 500, 600]),
        ("\ufeffnm\n993.1 a\n902.3 b\n911.0 c\n", [993.1, 902.3, 911]),
    ],
)
def test_read_wavelengths__of_texts(tmp_path: Path, text: str, expected: list[float]) -> None:
    path = tmp_path / "w.txt"
    path.write_text(text, "utf-8")
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
        ("\0\1\2", "holds no band centres"),
    ],
)
def test_read_wavelengths__refuses(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "w.txt"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        read_wavelengths(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


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
