"""The residual of carbon dioxide against the signal of CAI, simulated and on real scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hyperhpc.analysis.residuals import measure_carbon_dioxide
from hyperhpc.scene import open_scene

NEON = 383.534 + 5.00791 * np.arange(426)


def test_measure_carbon_dioxide__finds_the_depth_that_was_put_in() -> None:
    rng = np.random.default_rng(0)
    dry = rng.uniform(0, 1, 5000)  # absorbs at 2100 nm
    depth = 0.02 * np.exp(-(((NEON - 2100) / 25) ** 2)) * dry[:, None]
    clean = 0.2 + 1e-5 * (NEON - 2000) - depth
    bands = np.abs(NEON - 2000).argmin()
    for dip, exceeds in ((0.0, False), (0.005, False), (0.04, True)):
        spectra = clean.copy()
        spectra[:, bands] -= dip
        found = measure_carbon_dioxide(np.rint(spectra * 1e4).astype(np.int16), NEON, 1e4)
        assert found is not None
        assert found.depth == pytest.approx(dip, abs=2e-4)
        assert found.spread == pytest.approx(0.0189 * dry.std(), rel=0.1)
        assert found.exceeds_signal is exceeds
    assert "lies 0.0400 below the line from 1991.1 to 2021.1 nm" in found.describe()
    assert measure_carbon_dioxide(np.ones((3, 100)), NEON[:100], 1e4) is None


@pytest.mark.parametrize(
    ("scene", "exceeds"),
    [
        ("neon_sjer_h5/NEON_SJER_2017_subset.h5", True),
        ("emit/emit20250324t221005_jpl_unmix_ex", False),
    ],
)
def test_measure_carbon_dioxide__real_scenes(shared_data: Path, scene: str, exceeds: bool) -> None:
    path = shared_data / scene
    if not path.is_file():
        pytest.skip(f"the real scene is missing: {path}")
    opened = open_scene(path)
    height, width, _ = opened.shape
    pixels = opened.read(slice(0, height), slice(0, width)).reshape(height * width, -1)
    found = measure_carbon_dioxide(pixels, opened.wavelength_nm, opened.scale_factor)
    assert found is not None
    assert found.exceeds_signal is exceeds
