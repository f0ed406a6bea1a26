"""ENVI files: every interleave, type and byte order, and headers of many hands."""

from __future__ import annotations

import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperhpc.errors import HyperhpcError, SceneError
from hyperhpc.scene import open_scene
from raster_case import CODES, MAP_INFO, centres, cube, listed, write_envi, write_tiff

ALL = slice(None)


def _named(caught: Any, path: Path) -> None:
    """The message names the file and is one for a user."""
    assert str(path) in caught.value.message
    assert caught.value.exit_code == 4
    assert caught.value.hint


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
@pytest.mark.parametrize("dtype", CODES)
def test_read__every_layout_equals_what_was_written(
    tmp_path: Path, interleave: str, dtype: str
) -> None:
    dn = cube(dtype=dtype)
    for big_endian in (False, True):
        path = tmp_path / f"scene{big_endian}"
        write_envi(path, dn, interleave, big_endian=big_endian, offset=3 * big_endian)
        scene = open_scene(path)
        assert scene.shape == dn.shape
        assert scene.format == "envi"
        np.testing.assert_array_equal(scene.read(ALL, ALL), dn)
        assert scene.read(ALL, ALL).dtype == scene.dtype
        some = np.array([0, 3, 5])
        window = scene.read(slice(1, 5, 2), slice(2, 7, 3), some)
        np.testing.assert_array_equal(window, dn[1:5:2, 2:7:3, some])
        assert window.flags.c_contiguous
        np.testing.assert_array_equal(scene.wavelength_nm, centres(6))


@pytest.mark.parametrize("seed", range(12))
def test_read__random_files_equal_a_read_by_gdal(tmp_path: Path, seed: int) -> None:
    import rasterio

    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, 30, 3))
    dtype = str(rng.choice(["int16", "uint16", "float32", "uint8"]))
    dn = rng.integers(0, 200, shape).astype(dtype)
    layout = str(rng.choice(["bil", "bip", "bsq"]))
    path = write_envi(tmp_path / "s.img", dn, layout, big_endian=bool(seed % 2), map_info=MAP_INFO)
    scene = open_scene(path)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(
            scene.read(ALL, ALL), np.moveaxis(file.read(), 0, 2).astype(scene.dtype)
        )
        assert scene.bounds == list(file.bounds)
    for _ in range(5):
        r, c, b = (sorted(rng.integers(0, n + 1, 2)) for n in shape)
        window = tuple(slice(int(lo), int(hi)) for lo, hi in (r, c, b))
        np.testing.assert_array_equal(scene.read(*window), dn[window])


@pytest.mark.parametrize("interleave", ["bil", "bip", "bsq"])
def test_chunks__are_rows_of_all_bands_unless_these_lie_apart(
    tmp_path: Path, interleave: str
) -> None:
    scene = open_scene(write_envi(tmp_path / "s", cube(), interleave))
    assert scene.chunks == ((1, 7, 1) if interleave == "bsq" else (1, 7, 6))


def test_header__tells_what_the_numbers_mean(tmp_path: Path) -> None:
    path = write_envi(
        tmp_path / "s.dat",
        cube(),
        map_info=MAP_INFO,
        reflectance_scale_factor=5000,
        data_ignore_value=-9999,
        bbl=listed([1, 0, 1, 1, 0, 1]),
        fwhm=listed([5.5] * 6),
        acquisition_time="2021-06-30T10:11:12Z",
    )
    scene = open_scene(path)
    assert scene.scale_factor == 5000
    assert scene.nodata == (-9999.0,)
    assert scene.bad_bands == (1, 4)
    assert scene.fwhm_nm is not None
    np.testing.assert_array_equal(scene.fwhm_nm, [5.5] * 6)
    assert scene.grid.epsg == 32613
    assert scene.bounds == [500000, 4000090, 500014, 4000100]
    assert [(s.name, s.acquired) for s in scene.sources] == [("s.dat", "2021-06-30")]
    assert scene.read_origins(slice(0, 2), slice(0, 7))["source"].shape == (2, 7)
    assert any("2 bands are flagged as bad" in note for note in scene.notes)


def test_header__micrometres_become_nanometres(tmp_path: Path) -> None:
    path = write_envi(
        tmp_path / "s",
        cube(bands=3),
        wavelength=listed([0.4182, 0.5, 0.6567]),
        wavelength_units="Micrometers",
        fwhm=listed([0.01, 0.01, 0.02]),
    )
    scene = open_scene(path)
    np.testing.assert_array_equal(scene.wavelength_nm, [418.2, 500, 656.7])
    np.testing.assert_allclose(scene.fwhm_nm, [10, 10, 20])  # type: ignore[arg-type]


def test_header__wavelengths_need_not_ascend(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s", cube(bands=3), wavelength=listed([993.1, 902.3, 911]))
    np.testing.assert_array_equal(open_scene(path).wavelength_nm, [993.1, 902.3, 911])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["376.44 Nanometers", "381.45 Nanometers"], [376.44, 381.45]),
        (["Band 1 (0.4182)", "Band 2 (0.4232)"], [418.2, 423.2]),
        (["b1 410.5 nm", "b2 420 nm"], [410.5, 420]),
        (["0.4 um", "0.5 µm"], [400, 500]),
        (["401.5", "405.5"], [401.5, 405.5]),
        (["wl_400", "wl_410"], [400, 410]),
        (["X400.00", "X410.25"], [400, 410.25]),
        (["X0.4005", "X0.4105"], [400.5, 410.5]),
        (["X400.5.nm", "X410.5.nm"], [400.5, 410.5]),
        (["Band_1_400nm", "Band_2_410nm"], [400, 410]),
        (["400.5 nm", "410 nm"], [400.5, 410]),
        (["Band 1 (400.5 nm)", "Band 2 (410.5 nm)"], [400.5, 410.5]),
        (["Band 1 (400.5)", "Band 2 (410.5)"], [400.5, 410.5]),
        (["refl_400", "refl_401"], [400, 401]),
        (["wl400nm", "wl410nm"], [400, 410]),
    ],
)
def test_header__wavelengths_from_band_names(
    tmp_path: Path, names: list[str], expected: list[float]
) -> None:
    path = write_envi(
        tmp_path / "s",
        cube(bands=2),
        wavelength=None,
        wavelength_units=None,
        band_names=listed(names),
    )
    np.testing.assert_allclose(open_scene(path).wavelength_nm, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    "names",
    [
        ["red", "green"],
        ["Band 1", "Band 2"],
        ["1", "2"],
        ["a (1)", "b (2)"],
        ["Band_1", "Band_2"],
        ["X1", "X2"],
        ["X1", "X1.1"],
        ["wl_1", "wl_2"],
        ["X1", "X426"],
        ["B4", "B8A"],
        None,
    ],
)
def test_header__band_names_without_wavelengths(tmp_path: Path, names: list[str] | None) -> None:
    path = write_envi(
        tmp_path / "s",
        cube(bands=2),
        wavelength=None,
        wavelength_units=None,
        band_names=names and listed(names),
    )
    with pytest.raises(SceneError, match="no band centres") as caught:
        open_scene(path)
    _named(caught, path)
    assert "--wavelengths FILE" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("data", "header", "named"),
    [
        ("s", "s.hdr", "s.hdr"),
        ("s.raw", "s.hdr", "s.hdr"),
        ("s.img", "s.img.hdr", "s.img.hdr"),
        ("s.odd", "s.HDR", "s.HDR"),
        ("s.odd", "s.hdr", "s.odd"),
        ("s.odd", "s.odd.hdr", "s.odd"),
    ],
)
def test_open__by_header_or_data(tmp_path: Path, data: str, header: str, named: str) -> None:
    dn = cube()
    write_envi(tmp_path / data, dn, header=tmp_path / header)
    (tmp_path / "s.txt").write_text("not the data")
    (tmp_path / "other.raw").write_text("nor this")
    scene = open_scene(tmp_path / named)
    assert scene.path == str(tmp_path / data)
    np.testing.assert_array_equal(scene.read(ALL, ALL), dn)


def test_open__no_georeference_is_pixels(tmp_path: Path) -> None:
    scene = open_scene(write_envi(tmp_path / "s", cube()))
    assert scene.bounds == [0, 0, 7, 5]
    assert scene.grid.epsg is None
    assert any("positions are pixels" in note for note in scene.notes)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1", "utf-8"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_header__as_programs_save_text(tmp_path: Path, encoding: str, ending: str) -> None:
    dn = cube()
    path = write_envi(
        tmp_path / "s.img",
        dn,
        map_info=MAP_INFO,
        bbl=listed([1, 0, 1, 1, 0, 1]),
        data_ignore_value=-50,
        reflectance_scale_factor=5000,
        description="{µ é}",
    )
    header = tmp_path / "s.img.hdr"
    header.write_bytes(header.read_text("utf-8").replace("\n", ending).encode(encoding))
    if encoding == "utf-16-le":  # without a mark at its start
        with pytest.raises(SceneError, match="not an ENVI header") as caught:
            open_scene(path)
        assert "UTF-8" in str(caught.value.hint)
        return
    for name in (path, header):
        scene = open_scene(name)
        np.testing.assert_array_equal(scene.read(ALL, ALL), dn)
        np.testing.assert_array_equal(scene.wavelength_nm, centres(6))
        assert (scene.scale_factor, scene.nodata, scene.bad_bands) == (5000, (-50.0,), (1, 4))
        assert (scene.grid.epsg, scene.bounds[0]) == (32613, 500000)
        assert scene.fingerprint()["files"].keys() == {"file", "header"}


@pytest.mark.parametrize(
    ("fields", "name", "number"),
    [
        ({"wavelength": "{0,45, 0,46}"}, "wavelength", "0,45"),
        ({"wavelength": "{450,5,460,5}"}, "wavelength", "450,5"),
        ({"wavelength": "{450,5; 460,5}"}, "wavelength", "450,5"),
        ({"data_ignore_value": "-0,5"}, "data ignore value", "-0,5"),
        ({"reflectance_scale_factor": "10000,0"}, "reflectance scale factor", "10000,0"),
        ({"map_info": MAP_INFO.replace("2.0, 2.0", "2,0, 2,0")}, "map info", "2,0"),
        ({"wavelength": None, "band_names": "{400,5 nm, 410,5 nm}"}, "band names", "400,5"),
    ],
)
def test_header__decimal_comma_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], name: str, number: str
) -> None:
    path = write_envi(tmp_path / "s", cube(bands=2), **fields)
    lines = (tmp_path / "s.hdr").read_text("utf-8").splitlines()
    line = next(n for n, text in enumerate(lines, 1) if text.startswith(name))
    with pytest.raises(SceneError, match="decimal comma") as caught:
        open_scene(path)
    assert f"s.hdr: line {line} ({name}) holds {number!r}" in caught.value.message
    assert "decimal point" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["400,5 nm", "X400,5", "Band 1 (400,5)", "wl_400,5", "1,450 nm"])
def test_band_names__decimal_comma_is_refused(tmp_path: Path, name: str) -> None:
    import rasterio

    path = write_tiff(tmp_path / "s.tif", cube(bands=2), tags=lambda band: {})
    with rasterio.open(path, "r+") as file:
        file.descriptions = (name, "410 nm")
    with pytest.raises(SceneError, match="decimal comma") as caught:
        open_scene(path)
    assert repr(name) in caught.value.message


def test_open__malformed_wkt_beside_good_map_info(tmp_path: Path) -> None:
    path = write_envi(
        tmp_path / "s",
        cube(),
        map_info=MAP_INFO,
        coordinate_system_string='{PROJCS["UTM, this is no WKT]}',
    )
    scene = open_scene(path)
    assert scene.grid.epsg == 32613
    assert scene.bounds == [500000, 4000090, 500014, 4000100]
    assert any("no valid WKT" in note for note in scene.notes)


@pytest.mark.parametrize("change", [-2, 1])
def test_open__data_of_another_size(tmp_path: Path, change: int) -> None:
    path = write_envi(tmp_path / "s", cube())
    os.truncate(path, path.stat().st_size + change)
    with pytest.raises(SceneError, match="its header describes 420") as caught:
        open_scene(path)
    _named(caught, path)


def test_open__esri_header(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s.bil", cube(), header=tmp_path / "s.hdr")
    text = "BYTEORDER I\nLAYOUT BIL\nNROWS 5\nNCOLS 7\nNBANDS 6\nNBITS 16\n"
    (tmp_path / "s.hdr").write_text(text)
    for name in (path, tmp_path / "s.hdr"):
        with pytest.raises(SceneError, match="not an ENVI header") as caught:
            open_scene(name)
        _named(caught, tmp_path / "s.hdr")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wavelength": "{450, 460, 470, 480, 490, 50"}, "first: band 6"),
        ({"wavelength": listed([400, 410, 420, 430, 440, "4_50"])}, "first: band 6, '4_50'"),
        ({"major_frame_offsets": "{0, 20}"}, "gaps between its frames"),
        ({"byte_order": 7}, "byte order '7'"),
        ({"wavelength": listed([400, 410])}, "2 band centres for 6 bands"),
        ({"wavelength": listed(["a", *range(400, 405)])}, "first: band 1, 'a'"),
        ({"wavelength": listed([400, 410, 420, 430, 440, 9000])}, "9000 nm is outside"),
        ({"data_type": 6}, "complex64|types|420"),
        ({"data_type": 77}, "cannot be read"),
        ({"map_info": "{UTM, 1, 1, 0, 0, 1, 1, 13, North, WGS-84, rotation=20}"}, "rotated"),
        ({"data_gain_values": listed([1, 1, 1, 1, 1, 2])}, "bands differ in scale_factor"),
        ({"file_compression": 1}, "cannot be read|compressed"),
        ({"bands": -3}, "cannot be read"),
        ({"lines": 10**6}, "header describes"),
    ],
)
def test_open__refuses(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = write_envi(tmp_path / "s", cube(), **fields)
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(path)
    assert str(path) in caught.value.message


def test_open__header_without_data(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s.img", cube())
    path.unlink()
    with pytest.raises(SceneError, match="has no data file"):
        open_scene(tmp_path / "s.img.hdr")
    for name in ("s.img.one", "s.img.two"):
        (tmp_path / name).touch()
    with pytest.raises(SceneError, match=r"s\.img\.one, s\.img\.two"):
        open_scene(tmp_path / "s.img.hdr")


def test_read__a_file_cut_short_after_it_was_opened(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s", cube())
    scene = open_scene(path)
    os.truncate(path, 100)
    with pytest.raises(SceneError, match="100 bytes and had 420") as caught:
        scene.read(ALL, ALL)
    _named(caught, path)


def test_scene__travels_and_is_read_by_threads(tmp_path: Path) -> None:
    dn = cube(40, 30, 8)
    scene = open_scene(write_envi(tmp_path / "s", dn, "bip"))
    sent = pickle.dumps(scene)
    assert len(sent) < 5000

    def check(row: int) -> bool:
        part = pickle.loads(sent).read(slice(row, row + 4), ALL)
        return np.array_equal(part, dn[row : row + 4])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(check, range(36)))


def test_fingerprint__tells_a_changed_header(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "s", cube())
    before = open_scene(path).fingerprint()
    assert open_scene(path).fingerprint() == before
    with open(tmp_path / "s.hdr", "a") as file:
        file.write("sensor type = unknown\n")
    assert open_scene(path).fingerprint() != before
    path.unlink()
    with pytest.raises(HyperhpcError, match="no data"):
        open_scene(tmp_path / "s.hdr")


def test_real__emit(shared_data: Path) -> None:
    path = shared_data / "emit" / "emit20250324t221005_jpl_unmix_ex"
    direct = np.fromfile(path, "<f4").reshape(10, 285, 10).transpose(0, 2, 1)
    for name in (path, path.with_name(path.name + ".hdr")):
        scene = open_scene(name)
        np.testing.assert_array_equal(scene.read(ALL, ALL), direct)
    assert scene.shape == (10, 10, 285)
    assert scene.scale_factor == 1
    assert scene.nodata == (-9999.0,)
    assert scene.wavelength_nm[0] == 381.0055927
    assert scene.fwhm_nm is not None
    assert scene.fwhm_nm[0] == 8.415000000000001
    bad = np.array(scene.bad_bands)
    assert (direct[:, :, bad] == np.float32(-0.01)).all()
    good = np.setdiff1d(np.arange(285), bad)
    assert not (direct[:, :, good] == np.float32(-0.01)).all(axis=(0, 1)).any()


def test_real__plantcv_header_with_comments(shared_data: Path) -> None:
    folder = shared_data / "plantcv_header"
    scene = open_scene(folder / "corn-kernel-hyperspectral.hdr")
    direct = np.fromfile(folder / "corn-kernel-hyperspectral.raw", "<u2")
    np.testing.assert_array_equal(
        scene.read(ALL, ALL), direct.reshape(31, 580, 43).transpose(0, 2, 1)
    )
    assert scene.dtype == "uint16"
    assert (scene.wavelength_nm[0], scene.wavelength_nm[1]) == (366.551, 367.656)
