"""Bands without a valid value are left out, and implausible numbers are named."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

from cli_case import call
from hyperhpc.compute.selection import select_bands
from hyperhpc.scene import open_scene, probe
from hyperhpc.scene.cube import ZENITH_LAYER
from hyperhpc.simulate.scene import simulate

NM = np.linspace(450.0, 2300.0, 8)
_DN = np.random.default_rng(0).integers(100, 6000, (150, 140, 8)).astype(np.int16)


def store(path: Path, dn: np.ndarray, x0: float = 0.0) -> Path:
    xr.Dataset(
        {"reflectance": (("y", "x", "wavelength"), dn, {"_FillValue": -9999})},
        coords={
            "y": 99.5 - np.arange(len(dn)),
            "x": x0 + 0.5 + np.arange(dn.shape[1]),
            "wavelength": NM,
        },
    ).chunk({"y": 50, "x": 50}).to_zarr(path, zarr_format=2)
    return path


@pytest.mark.parametrize("last_row", [0, 1])
def test_open__leaves_out_a_band_without_a_single_value(tmp_path: Path, last_row: int) -> None:
    dn = _DN.copy()
    dn[: len(dn) - last_row, :, 3] = -9999
    dn[:20] = -9999
    scene = open_scene(store(tmp_path / "s.zarr", dn))
    assert scene.bad_bands == (() if last_row else (3,))
    notes = [note for note in scene.notes if "no valid value" in note]
    n_pixels = 130 * 140
    expected = (
        f"1 band holds no valid value in the {n_pixels} pixels read for this, and is left out: "
    )
    assert notes == ([] if last_row else [f"{expected}{NM[3]:.1f} nm."])
    assert (3 in select_bands(scene).bands) == bool(last_row)


def test_open__nothing_but_no_data_leaves_no_band_out(tmp_path: Path) -> None:
    scene = open_scene(store(tmp_path / "s.zarr", np.full_like(_DN, -9999)))
    assert scene.bad_bands == ()


def test_open__a_band_that_only_one_tile_holds_is_kept(tmp_path: Path) -> None:
    empty = _DN.copy()
    empty[..., [2, 5]] = -9999
    other = _DN.copy()
    other[..., 5] = -9999
    scene = open_scene(
        [store(tmp_path / "a.zarr", empty), store(tmp_path / "b.zarr", other, 140.0)]
    )
    assert scene.bad_bands == (5,)
    read = scene.read(slice(0, 150), slice(140, 280))
    np.testing.assert_array_equal(read, other)


def test_open__a_large_scene_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "_ENOUGH_PIXELS", 5000)
    dn = _DN.copy()
    dn[..., 1] = -9999
    scene = open_scene(store(tmp_path / "s.zarr", dn))
    assert scene.bad_bands == (1,)
    (note,) = (note for note in scene.notes if "no valid value" in note)
    n_read = int(note.split(" pixels read")[0].split()[-1])
    assert 5000 <= n_read <= 5000 + 64 * 64


@pytest.mark.parametrize(("factor", "is_odd"), [(1, False), (100, True), (1e-4, True)])
def test_info__says_that_numbers_are_no_reflectance(
    tmp_path: Path, factor: float, is_odd: bool
) -> None:
    dn = (_DN * np.float32(1e-4 * factor)).astype(np.float32)
    said = call("info", str(store(tmp_path / "s.zarr", dn))).out
    assert ("The median reflectance at 400-1300 nm is" in said) == is_odd


@pytest.mark.parametrize("most", [2**20, 100], ids=["every pixel", "some pixels"])
def test_describe_acquisition__of_a_neon_tile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(probe, "_THIN_PIXELS", most)
    path = tmp_path / "tile.h5"
    simulate(path, 40, 50, bands=4, seed=4, layout="neon")
    found = probe.describe_acquisition(open_scene(path))
    with h5py.File(path) as file:
        about = file["CPER/Reflectance/Metadata"]
        suns = {k: float(v["Solar_Zenith_Angle"][()]) for k, v in about["Logs"].items()}
        view = {k.lower(): v for k, v in about.items()}["to-sensor_zenith_angle"][:]
    dates = {f"{d[:4]}-{d[4:6]}-{d[6:]}" for line in found["flight_lines"] for d in [line[18:26]]}
    assert found["dates"] == sorted(dates)
    assert len(found["flight_lines"]) == len(suns)
    view = view[view != -9999]
    for name, values in (("Solar_Zenith_Angle", list(suns.values())), (ZENITH_LAYER, view)):
        low, high = found[name]
        assert min(values) - 0.01 <= low <= high <= max(values) + 0.01
    if most > 2000:
        assert found[ZENITH_LAYER] == pytest.approx([view.min(), view.max()], abs=0.01)


@pytest.mark.parametrize(
    ("azimuths", "wanted"),
    [
        ([350.0, 10.0, 355.5, 2.0], (350.0, 10.0)),
        ([120.0, 124.0], (120.0, 124.0)),
        ([359.0, 1.0], (359.0, 1.0)),
        ([360.0, 0.0], (0.0, 0.0)),
        ([90.0, 270.0], (90.0, 270.0)),  # both sides of a flight line that runs north
        ([0.0, 100.0, 230.0, 300.0], (230.0, 100.0)),
        ([77.0], (77.0, 77.0)),
    ],
)
def test_smallest_arc__is_found_across_north(
    azimuths: list[float], wanted: tuple[float, float]
) -> None:
    found = probe._smallest_arc(np.array(azimuths))
    assert found == wanted
    spans = [max((b - a) % 360 for b in azimuths) for a in azimuths]  # of all that begin at one
    assert (found[1] - found[0]) % 360 == min(spans)


def test_describe_acquisition__of_a_sun_in_the_north(tmp_path: Path) -> None:
    """As south of the equator, around noon."""
    path = tmp_path / "tile.h5"
    simulate(path, 20, 30, bands=4, seed=4, layout="neon")
    with h5py.File(path, "r+") as file:
        logs = list(file["CPER/Reflectance/Metadata/Logs"].values())
        assert len(logs) > 1
        for k, log in enumerate(logs):
            log["Solar_Azimuth_Angle"][()] = 357.0 if k % 2 else 4.0
    assert probe.describe_acquisition(open_scene(path))["Solar_Azimuth_Angle"] == [357.0, 4.0]


def test_describe_acquisition__of_a_scene_that_says_nothing(tmp_path: Path) -> None:
    assert probe.describe_acquisition(open_scene(store(tmp_path / "s.zarr", _DN))) == {}
