"""Noise of the bands, and bands that were interpolated: against noise and lines put in."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hyperhpc.analysis.noise import measure_bands
from hyperhpc.simulate.scene import Painter

NM = 400.0 + 5.0 * np.arange(120)


def smooth(n_pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Reflectance (pixel, band) of gentle curves that differ from pixel to pixel."""
    phase, height = rng.uniform(0, 6, (n_pixels, 1)), rng.uniform(0.1, 0.4, (n_pixels, 1))
    return height * (1.2 + np.sin(NM / 90 + phase))


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_noise__is_what_was_put_in(dtype: str) -> None:
    rng = np.random.default_rng(1)
    true = np.where(NM < 700, 0.004, 0.012)
    reflectance = smooth(4000, rng) + rng.normal(0, true, (4000, len(NM)))
    scale = 10000 if dtype == "int16" else 1
    dn = np.round(reflectance * scale).astype(dtype) if scale > 1 else reflectance.astype(dtype)
    found = measure_bands(dn, NM, scale)
    assert found is not None
    inner = np.r_[1:58, 63 : len(NM) - 1]  # its neighbours have the noise of the band
    np.testing.assert_allclose(found.noise[inner], true[inner], rtol=0.12)
    assert np.isnan(found.noise[[0, -1]]).all()
    np.testing.assert_allclose(found.signal, np.median(dn / scale, axis=0), rtol=1e-6)
    assert not found.is_straight.any()


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("is_turned", [False, True])
def test_straight__are_the_bands_that_were_interpolated(dtype: str, is_turned: bool) -> None:
    rng = np.random.default_rng(2)
    nm = NM + rng.uniform(-0.4, 0.4, len(NM))
    reflectance = smooth(500, rng) + rng.normal(0, 0.005, (500, len(NM)))
    for start, stop in ((30, 42), (80, 84), (100, 103)):  # the last one: two bands are too few
        ends = reflectance[:, [start, stop]]
        share = (nm[start : stop + 1] - nm[start]) / (nm[stop] - nm[start])
        reflectance[:, start : stop + 1] = ends[:, :1] * (1 - share) + ends[:, 1:] * share
    dn = np.round(reflectance * 10000) if dtype == "int16" else reflectance
    order = slice(None, None, -1) if is_turned else slice(None)
    found = measure_bands(dn.astype(dtype)[:, order], nm[order], 10000 if dtype == "int16" else 1)
    assert found is not None
    is_straight = found.is_straight[order]
    assert np.flatnonzero(is_straight).tolist() == [*range(31, 42), *range(81, 84)]
    runs = sorted(tuple(sorted(run)) for run in found.straight_runs(nm[order]))
    assert runs == [(nm[31], nm[41]), (nm[81], nm[83])]
    assert np.isnan(found.noise[order][31:42]).all()


def test_straight__nothing_in_scenes_that_are_flat_or_constant() -> None:
    for dn in (
        np.full((50, 40), 700, np.int16),
        np.add.outer(np.arange(50), 3 * np.arange(40)).astype(np.int16),
        np.zeros((50, 40), np.float32),
    ):
        found = measure_bands(dn, NM[:40], 10000)
        assert found is not None
        assert not found.is_straight.any()


def test_straight__nothing_in_a_simulated_scene() -> None:
    painter = Painter(60, 60, bands=426, seed=1, nodata_fraction=0.0)
    dn, _ = painter.window(0, 0, 60, 60)
    found = measure_bands(dn.reshape(-1, 426), painter.wavelength_nm, 10000)
    assert found is not None
    assert not found.is_straight.any()


def test_noise__not_across_gaps_and_detectors() -> None:
    rng = np.random.default_rng(3)
    nm = np.concatenate([NM[:40], NM[60:90], NM[80:110]])  # a gap, then a second detector
    found = measure_bands(rng.integers(0, 900, (300, len(nm))).astype(np.int16), nm, 10000)
    assert found is not None
    assert np.flatnonzero(np.isnan(found.noise)).tolist() == [0, 39, 40, 69, 70, 99]


def test_noise__of_too_little_is_none() -> None:
    assert measure_bands(np.ones((9, 30), np.int16), NM[:30], 10000) is None
    assert measure_bands(np.ones((90, 2), np.int16), NM[:2], 10000) is None


def test_straight__of_a_neon_file(shared_data: Path) -> None:
    """NEON's processor interpolates around 700, 760 and 820 nm, where water vapour absorbs."""
    path = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    with h5py.File(path) as file:
        dn = file["SJER/Reflectance/Reflectance_Data"][:].reshape(900, 426)
        nm = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][:]
    found = measure_bands(dn, nm, 10000)
    assert found is not None
    runs = [tuple(round(value) for value in run) for run in found.straight_runs(nm)]
    assert runs == [(689, 739), (754, 769), (794, 839)]
