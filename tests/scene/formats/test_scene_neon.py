"""NEON HDF5 scenes: the real subset, the old and new layouts, and damaged files."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from pyproj import CRS

from hyperhpc.errors import SceneError
from hyperhpc.scene import describe
from hyperhpc.scene.formats.neon import NeonScene, open_neon_scene

ALL = slice(None)
NY, NX, NB = 70, 130, 50
WL = np.linspace(382.0, 2510.0, NB)
#: Distinct within any band and any pixel, both signs, inside int16.
CUBE = (np.arange(NY * NX * NB, dtype=np.int64) % 40009 - 9000).astype("int16")
CUBE = CUBE.reshape(NY, NX, NB)
MAP_INFO = (
    "UTM,  1.000,  1.000,  368000.000,  4307000.000,  1.000000e+00,  1.000000e+00,  18,  "
    "North,  WGS-84,  units=Meters, 0"
)
PROJ4 = "+proj=UTM +zone=18 +ellps=WGS84 +datum=WGS84 +units=m +no_defs"


def write(
    path: Path,
    data: np.ndarray = CUBE,
    *,
    chunks: tuple[int, int, int] | None = (32, 63, 27),
    attrs: dict[str, Any] | None = None,
    windows: bool = True,
    system: dict[str, Any] | None = None,
    wavelength: np.ndarray | None = WL,
    fwhm: np.ndarray | None = WL / 400,
    members: tuple[str, ...] = (),
) -> Path:
    """Write what the schema lists for an L3 tile, as far as readers look at it."""
    packed = {} if chunks is None else {"chunks": chunks, "compression": 3}
    with h5py.File(path, "w") as file:
        group = file.create_group("SERC/Reflectance")
        cube = group.create_dataset("Reflectance_Data", data=data, **packed)
        cube.attrs.update(
            {"Scale_Factor": 10000.0, "Data_Ignore_Value": -9999.0, "Interleave": "BSQ"}
            if attrs is None
            else attrs
        )
        if windows:
            group.attrs["Band_Window_1_Nanometers"] = [1340, 1445]
            group.attrs["Band_Window_2_Nanometers"] = [1790, 1955]
        place = group.create_group("Metadata/Coordinate_System")
        for name, value in (
            {"EPSG Code": "32618", "Map_Info": MAP_INFO} if system is None else system
        ).items():
            place[name] = value
        spectral = group.create_group("Metadata/Spectral_Data")
        if wavelength is not None:
            spectral["Wavelength"] = wavelength
            spectral["Wavelength"].attrs["Units"] = "nanometers"
        if fwhm is not None:
            spectral["FWHM"] = fwhm
        for member in members:
            group.require_group("Metadata")[member] = "text"
    return path


def opened(path: Path) -> NeonScene:
    return open_neon_scene(str(path))


# --- the real file --------------------------------------------------------------------


@pytest.fixture
def sjer(shared_data: Path) -> NeonScene:
    return opened(shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5")


def test_sjer__is_described_as_published(sjer: NeonScene) -> None:
    info = describe(sjer)
    assert info["format"] == "neon-hdf5"
    assert info["shape"] == [30, 30, 426]
    assert info["n_bands"] == 426
    assert (info["dtype"], sjer.stored_dtype) == ("int16", "int32")
    assert info["wavelength_nm"] == pytest.approx([383.534, 2511.8945], abs=5e-4)
    assert info["scale_factor"] == 10000
    assert info["nodata"] == [-9999]
    assert info["epsg"] == 32611
    assert info["bounds"] == [257000, 4111970, 257030, 4112000]
    assert info["bad_band_windows_nm"] == []
    assert info["chunks"] == [13, 13, 13]
    assert (sjer.grid.px, sjer.grid.py) == (1, 1)
    assert sjer.window_nodata == ()
    assert any("no Band_Window" in note for note in sjer.notes)


@pytest.mark.parametrize(
    ("band", "smallest", "largest"),
    [(1, 0.0198, 0.1348), (50, 0.0073, 0.1113), (100, 0.0620, 0.6743), (400, 0.0051, 0.2072)],
)
def test_sjer__band_extremes(sjer: NeonScene, band: int, smallest: float, largest: float) -> None:
    plane = sjer.read(ALL, ALL, np.array([band - 1])) / sjer.scale_factor
    assert plane.shape == (30, 30, 1)
    assert round(float(plane.min()), 4) == smallest
    assert round(float(plane.max()), 4) == largest


@pytest.mark.parametrize(
    ("x", "y", "begins"),
    [
        (257025, 4111982, [0.0987, 0.0879, 0.0778, 0.0759, 0.0669]),
        (257011, 4111991, [0.0889, 0.0734, 0.0574, 0.0579]),
    ],
)
def test_sjer__spectra_at_points(sjer: NeonScene, x: float, y: float, begins: list[float]) -> None:
    row, col = sjer.grid.pixel_of(x, y)
    assert (row, col) == (4112000 - y, x - 257000)
    spectrum = sjer.read(slice(row, row + 1), slice(col, col + 1))[0, 0] / sjer.scale_factor
    assert [round(float(value), 4) for value in spectrum[: len(begins)]] == begins


def test_sjer__equals_h5py(sjer: NeonScene) -> None:
    with h5py.File(sjer.path) as file:
        expected = file["SJER/Reflectance/Reflectance_Data"][()]
    got = sjer.read(ALL, ALL)
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, expected)


# --- layouts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ((32, 63, 27), (32, 63, 27)),
        ((NY, NX, 1), (NY, NX, 1)),
        ((20, 40, NB), (20, 40, NB)),
        (None, (1, NX, NB)),
    ],
    ids=["old", "band-per-chunk", "all-bands", "contiguous"],
)
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<i4", "<f4"])
def test_read__every_layout(
    tmp_path: Path, chunks: tuple[int, int, int] | None, expected: tuple, dtype: str
) -> None:
    scene = opened(write(tmp_path / "s.h5", CUBE.astype(dtype), chunks=chunks))
    assert scene.chunks == expected
    assert scene.dtype == ("float32" if dtype == "<f4" else "int16")
    for window in (
        np.s_[:, :, :],
        np.s_[3:60, 10:100, :],
        np.s_[0:70:4, 0:130:4, :],
        np.s_[31:70:33, 5:6, 3:40:7],
        np.s_[69:70, 0:130:129, 48:50],
        np.s_[5:5, :, :],
    ):
        got = scene.read(*window)
        assert got.dtype == np.dtype(scene.dtype)
        assert got.flags.c_contiguous
        np.testing.assert_array_equal(got, CUBE[window])
    for bands in ([49], [0, 26, 27, 49], list(range(0, 50, 3))):
        got = scene.read(slice(1, 60, 2), slice(2, 90, 3), np.array(bands))
        np.testing.assert_array_equal(got, CUBE[1:60:2, 2:90:3][..., bands])


def test_open__full_metadata(tmp_path: Path) -> None:
    scene = opened(write(tmp_path / "NEON_D02_SERC_DP3_368000_4306000_reflectance.h5"))
    assert scene.group == "SERC"
    assert scene.bad_band_windows_nm == ((1340, 1445), (1790, 1955))
    assert scene.window_nodata == ()
    assert scene.grid.epsg == 32618
    assert scene.bounds == [368000, 4307000 - NY, 368000 + NX, 4307000]
    assert scene.fwhm_nm is not None
    np.testing.assert_allclose(scene.fwhm_nm, WL / 400)
    assert scene.notes == ()


@pytest.mark.parametrize("shape", [(), (1,)], ids=["scalar", "one"])
def test_open__scalar_or_length_one(tmp_path: Path, shape: tuple[int, ...]) -> None:
    text = h5py.string_dtype("ascii")
    system = {
        "EPSG Code": np.full(shape, b"32618", dtype=object).astype(text),
        "Map_Info": np.full(shape, MAP_INFO.encode(), dtype=object).astype(text),
    }
    attrs = {
        "Scale_Factor": np.full(shape, 10000, dtype="f4"),
        "Data_Ignore_Value": np.full(shape, -9999, dtype="i2"),
    }
    scene = opened(write(tmp_path / "s.h5", system=system, attrs=attrs))
    assert (scene.scale_factor, scene.nodata, scene.grid.epsg) == (10000, (-9999,), 32618)


@pytest.mark.parametrize(
    "system",
    [
        {"Coordinate_System_String": CRS.from_epsg(32618).to_wkt("WKT1_ESRI")},
        {"Coordinate_System_String": "damaged", "Proj4": PROJ4},
        {"Proj4": PROJ4},
        {},
    ],
    ids=["wkt", "proj4-after-bad-wkt", "proj4", "map-info-only"],
)
def test_open__epsg_without_a_code(tmp_path: Path, system: dict[str, str]) -> None:
    scene = opened(write(tmp_path / "s.h5", system={"Map_Info": MAP_INFO, **system}))
    assert scene.grid.epsg == 32618
    assert scene.grid.wkt is not None


def test_open__reference_pixel_and_southern_zone(tmp_path: Path) -> None:
    info = "UTM, 3.0, 5.5, 368000, 7307000, 2.0, 4.0, 55, South, WGS-84, units=Meters"
    scene = opened(write(tmp_path / "s.h5", system={"Map_Info": info}))
    assert scene.bounds == [367996, 7307018 - 4 * NY, 367996 + 2 * NX, 7307018]
    assert scene.grid.epsg == 32755


@pytest.mark.parametrize(
    "info",
    ["UTM, 1, 1", "UTM, 1, 1, a, b, 1, 1", MAP_INFO + ", rotation=12", "UTM,1,1,5,5,0,0,18,North"],
)
def test_open__impossible_map_info(tmp_path: Path, info: str) -> None:
    path = write(tmp_path / "s.h5", system={"Map_Info": info})
    with pytest.raises(SceneError, match="Map_Info"):
        opened(path)


def test_open__without_map_info(tmp_path: Path) -> None:
    scene = opened(write(tmp_path / "s.h5", system={}))
    assert scene.bounds == [0, 0, NX, NY]
    assert scene.grid.epsg is None
    attrs = {"Scale_Factor": 10000, "Spatial_Extent_meters": [100, 100 + NX, 500, 500 + NY]}
    scene = opened(write(tmp_path / "e.h5", system={"EPSG Code": "32618"}, attrs=attrs))
    assert scene.bounds == [100, 500, 100 + NX, 500 + NY]
    assert scene.grid.epsg == 32618


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("NEON_D02_SERC_DP3_368000_4306000_bidirectional_reflectance.h5", ()),
        ("s.h5", ("Ancillary_Imagery/Acquisition_Date",)),
        ("s.h5", ("Logs/L004-1_20220623/BRDF_COEFFS_JSON_for_Hytools",)),
    ],
)
def test_open__bidirectional(tmp_path: Path, name: str, members: tuple[str, ...]) -> None:
    scene = opened(write(tmp_path / name, members=members, wavelength=WL.astype("f8")))
    assert scene.window_nodata == (-100,)
    assert scene.nodata == (-9999,)
    assert describe(scene)["nodata"] == [-9999, -100]


def test_open__logs_of_the_old_product_are_not_taken_for_it(tmp_path: Path) -> None:
    members = ("Logs/150649/ATCOR_Input_file", "Ancillary_Imagery/Aspect")
    assert opened(write(tmp_path / "s.h5", members=members)).window_nodata == ()


def test_open__fwhm_of_another_length_is_ignored(tmp_path: Path) -> None:
    scene = opened(write(tmp_path / "s.h5", fwhm=WL[:-5]))
    assert scene.fwhm_nm is None
    assert any("FWHM has 45 values for 50 bands" in note for note in scene.notes)
    assert opened(write(tmp_path / "n.h5", fwhm=None)).fwhm_nm is None


def test_open__micrometres(tmp_path: Path) -> None:
    scene = opened(write(tmp_path / "s.h5", wavelength=WL / 1000, fwhm=WL / 400_000))
    np.testing.assert_allclose(scene.wavelength_nm, WL)
    np.testing.assert_allclose(scene.fwhm_nm, WL / 400)


def test_open__several_sites_need_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5")
    with h5py.File(path, "a") as file:
        file.copy("SERC", "SJER")
    with pytest.raises(SceneError, match="2 cubes, in SERC, SJER") as caught:
        opened(path)
    assert caught.value.hint == "Choose one: --group SERC"
    for group in ("SJER", "/SJER/", "SJER/Reflectance", "SJER/Reflectance/Reflectance_Data"):
        assert open_neon_scene(str(path), group).group == "SJER"
    with pytest.raises(SceneError, match="group 'SJE'"):
        open_neon_scene(str(path), "SJE")


# --- what is no scene -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wavelength": None}, "no wavelengths"),
        ({"wavelength": WL[:-1]}, "50 bands, .* 49 values"),
        ({"wavelength": WL * 2}, r"outside 300-3000 nm"),
        ({"wavelength": np.where(WL > 2500, np.nan, WL)}, "not finite"),
        ({"data": CUBE[0], "chunks": None}, r"shape \(130, 50\)"),
        ({"attrs": {"Scale_Factor": 0.0}}, "Scale_Factor"),
    ],
)
def test_open__bad_content(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "s.h5", **options)
    with pytest.raises(SceneError, match=message) as caught:
        opened(path)
    assert caught.value.exit_code == 4


def test_open__file_without_reflectance(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["temperature"] = np.zeros(3)
    with pytest.raises(SceneError, match=r"no Reflectance_Data.*temperature"):
        opened(tmp_path / "s.h5")
    with h5py.File(tmp_path / "r.h5", "w") as file:
        file["SERC/Radiance/RadianceIntegerPart"] = np.zeros((2, 2, 2), "u1")
    with pytest.raises(SceneError) as caught:
        opened(tmp_path / "r.h5")
    assert "radiance file" in str(caught.value.hint)


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.99])
def test_open__truncated(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path / "s.h5")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(SceneError, match="cannot be opened") as caught:
        opened(path)
    assert f"({int(len(content) * keep)} bytes)" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("chunks", [(32, 63, 27), (NY, NX, 1)])
def test_read__damaged_chunk(tmp_path: Path, chunks: tuple[int, int, int]) -> None:
    path = write(tmp_path / "s.h5", chunks=chunks)
    with h5py.File(path) as file:
        info = file["SERC/Reflectance/Reflectance_Data"].id.get_chunk_info(0)
    with path.open("r+b") as stream:
        stream.seek(info.byte_offset + info.size // 2)
        stream.write(bytes(info.size // 3))
    scene = opened(path)
    with pytest.raises(SceneError, match=r"rows 2-6, columns 0-3, bands 0-49: OSError") as caught:
        scene.read(slice(2, 7), slice(0, 4))
    assert "\n" not in str(caught.value)


def test_read__wide_value(tmp_path: Path) -> None:
    data = CUBE.astype("int32")
    data[4, 4, 4] = 70000
    scene = opened(write(tmp_path / "s.h5", data))
    with pytest.raises(SceneError, match="value 70000"):
        scene.read(ALL, ALL)


def test_read__leaves_no_lock_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5")
    scene = opened(path)
    scene.read(ALL, ALL)
    with h5py.File(path, "r+") as file:  # refused while anyone holds the file
        file["SERC/Reflectance/Reflectance_Data"].attrs["Scale_Factor"] = 5000
        np.testing.assert_array_equal(scene.read(slice(0, 2), ALL), CUBE[:2])
    assert opened(path).scale_factor == 5000


# --- travelling -----------------------------------------------------------------------


def test_scene__pickles(tmp_path: Path) -> None:
    scene = opened(write(tmp_path / "s.h5"))
    scene.read(slice(0, 1), ALL)
    copy = pickle.loads(pickle.dumps(scene))
    np.testing.assert_array_equal(copy.read(ALL, ALL), CUBE)


def test_scene__sees_a_replaced_file(tmp_path: Path) -> None:
    path = write(tmp_path / "s.h5")
    scene = opened(path)
    scene.read(ALL, ALL)
    before = scene.fingerprint()
    write(tmp_path / "new.h5", CUBE + 1)
    (tmp_path / "new.h5").replace(path)
    np.testing.assert_array_equal(scene.read(ALL, ALL), CUBE + 1)
    assert scene.fingerprint() != before
    path.unlink()
    with pytest.raises(SceneError, match="no longer exists"):
        scene.fingerprint()
    with pytest.raises(SceneError, match="cannot be opened"):
        scene.read(ALL, ALL)


# --- where pixels come from ---------------------------------------------------------------

LINES = np.array([[0, 1, -1], [1, 1, 7]])
DAYS = np.array([[20220617, 220623, -9999], [20220623, -9999, 0]])
OF_LINES = [[20160807, 20220623, 0], [20220623, 20220623, 0]]
FLOWN = "NEON_D02_SERC_DP1_20160807_160559_reflectance.h5, NEON_DP1_L004-1_20220623_r.h5"


def with_origins(path: Path, lines: Any, days: Any, listed: Any) -> NeonScene:
    write(path)
    with h5py.File(path, "a") as file:
        data = file["SERC/Reflectance/Reflectance_Data"]
        images = data.parent.require_group("Metadata/Ancillary_Imagery")
        for name, values in (("Data_Selection_Index", lines), ("Acquisition_Date", days)):
            if values is not None:
                whole = np.full(data.shape[:2], -1, values.dtype)
                whole[:2, :3] = values
                images[name] = whole
        if lines is not None and listed is not None:
            images["Data_Selection_Index"].attrs["Data_Files"] = listed
    return opened(path)


@pytest.mark.parametrize(
    ("lines", "days", "listed", "acquired"),
    [
        (LINES, None, FLOWN, OF_LINES),
        (LINES, None, FLOWN.split(", "), OF_LINES),
        (LINES, None, None, None),
        (None, DAYS, None, [[20220617, 20220623, 0], [20220623, 0, 0]]),
        # the day of the flight line where none is known of a pixel
        (LINES, DAYS, FLOWN, [[20220617, 20220623, 0], [20220623, 20220623, 0]]),
        (LINES.astype("f4"), None, FLOWN, None),
    ],
    ids=["lines", "list", "nameless", "days", "both", "floats"],
)
def test_origins__are_those_of_neon(
    tmp_path: Path, lines: Any, days: Any, listed: Any, acquired: Any
) -> None:
    scene = with_origins(tmp_path / "s.h5", lines, days, listed)
    found = scene.read_origins(slice(0, 2), slice(0, 3))
    assert scene.has_dates == (acquired is not None) == ("acquired" in found)
    if acquired is not None:
        assert found["acquired"].dtype == np.int32
        assert found["acquired"].tolist() == acquired
    is_listed = lines is not None and lines.dtype.kind == "i" and listed is not None
    assert ("flight_line" in found) == is_listed
    if is_listed:
        assert [one.acquired for one in scene.flight_lines] == ["2016-08-07", "2022-06-23"]
        assert found["flight_line"].tolist() == [[0, 1, 65535], [1, 1, 7]]


@pytest.mark.parametrize("filters", [{"compression": 3}, {"compression": "lzf"}])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("is_declared", [True, False])
def test_read__chunks_never_written_are_no_data(
    tmp_path: Path, filters: dict[str, Any], dtype: str, *, is_declared: bool
) -> None:
    """HDF5 itself gives zeros, which would be dark pixels; lzf is left to HDF5."""
    path = write(tmp_path / "tile.h5", chunks=None)
    values = (CUBE % 9000 + 1).astype(dtype)
    with h5py.File(path, "r+") as file:
        group = file["SERC/Reflectance"]
        kept = {name: group["Reflectance_Data"].attrs[name] for name in ("Scale_Factor",)}
        kept |= (
            {"Data_Ignore_Value": 65535.0 if dtype == "uint16" else -9999.0} if is_declared else {}
        )
        del group["Reflectance_Data"]
        cube = group.create_dataset(
            "Reflectance_Data", CUBE.shape, dtype, chunks=(32, 63, 27), **filters
        )
        cube[:32, :63] = values[:32, :63]
        cube[64:, 63:126, 27:] = values[64:, 63:126, 27:]
        cube.attrs.update(kept)
    is_written = np.zeros(CUBE.shape, dtype=bool)
    is_written[:32, :63] = True
    is_written[64:, 63:126, 27:] = True
    scene = opened(path)
    assert "15 chunks were never written: they are no-data." in " ".join(scene.notes)
    found = scene.read(ALL, ALL)
    is_valid = np.isfinite(found) if found.dtype.kind == "f" else np.ones(found.shape, dtype=bool)
    for value in scene.nodata:
        is_valid &= found != value
    np.testing.assert_array_equal(is_valid, is_written)
    np.testing.assert_array_equal(found[is_valid], values[is_written])
