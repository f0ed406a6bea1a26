"""Band selection by wavelength, on grids of every order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hyperhpc.analysis.bands import (
    WATER_WINDOWS_NM,
    band_runs,
    drop_windows,
    good_bands,
    in_windows,
    nearest_band,
    nir_bands,
    seed_bands,
)
from hyperhpc.errors import ConfigError

#: NEON's grid: 426 centres about 5 nm apart.
NEON = 383.534 + 5.00791 * np.arange(426)


def test_drop_windows__ends_and_the_files_own() -> None:
    assert drop_windows([]) == (
        (0.0, 400.0), (1340.0, 1445.0), (1790.0, 1955.0), (2450.0, math.inf))  # fmt: skip
    declared = [(1300, 1500)]
    assert drop_windows(declared) == ((0.0, 400.0), (1300.0, 1500.0), (2450.0, math.inf))
    assert drop_windows(declared, [(500, 600.5)]) == ((500.0, 600.5),)
    assert drop_windows(declared, ()) == ()


def test_in_windows__closed_intervals() -> None:
    wavelength = np.array([1340.0, 1339.999, 1445.0, 1445.001, 2449.9, 2450.0, 2999.0])
    found = in_windows(wavelength, drop_windows([]))
    assert found.tolist() == [True, False, True, False, False, True, True]
    assert not in_windows(wavelength, []).any()


def test_good_bands__neon() -> None:
    good = good_bands(NEON, drop_windows([]))
    expected = [
        i for i, nm in enumerate(NEON.tolist())
        if not (nm <= 400 or 1340 <= nm <= 1445 or 1790 <= nm <= 1955 or nm >= 2450)
    ]  # fmt: skip
    assert good.tolist() == expected
    assert good.dtype == np.int64


def test_good_bands__any_order() -> None:
    shuffled = np.random.default_rng(0).permutation(NEON)
    good = good_bands(shuffled, drop_windows([]))
    assert (np.diff(good) > 0).all()
    assert set(shuffled[good]) == set(NEON[good_bands(NEON, drop_windows([]))])


def test_good_bands__none_left() -> None:
    with pytest.raises(ConfigError, match=r"none of the 426 bands \(383.5-2511.9 nm\)"):
        good_bands(NEON, [(0, math.inf)])


def test_seed_bands__the_tutorials_358() -> None:
    expected = [*range(189), *range(211, 270), *range(316, 426)]
    assert seed_bands(426).tolist() == expected
    assert len(expected) == 358
    for n in (425, 369, 1):
        with pytest.raises(ConfigError, match=f"needs 426 bands; this scene has {n}"):
            seed_bands(n)


def test_nearest_band__any_order_and_first_of_equals() -> None:
    wavelength = np.array([993.1, 902.3, 910.0, 898.0, 902.3])
    assert nearest_band(wavelength, 905) == 1
    assert nearest_band(wavelength, 904.0) == 1
    assert nearest_band(wavelength, 906.15) == 1  # as near as 910.0, and first in the file
    assert nearest_band(wavelength, 990) == 0


def test_nearest_band__five_nanometres() -> None:
    wavelength = np.array([500.0, 600.0])
    assert nearest_band(wavelength, 505.0) == 0
    assert nearest_band(wavelength, 595.0) == 1
    for wanted in (505.001, 594.999, 550, 0, 9000):
        with pytest.raises(ConfigError, match=f"No band within 5 nm of {wanted:g} nm"):
            nearest_band(wavelength, wanted)
    assert nearest_band(wavelength, 1e9, np.inf) == 1


def test_nearest_band__exactly_five_in_decimals() -> None:
    """512.2 - 507.2 is more than 5 in binary."""
    for tenth in range(3000, 25000, 7):
        assert nearest_band(np.array([round(tenth / 10 + 5, 1)]), tenth / 10) == 0


@pytest.mark.parametrize(
    ("bands", "runs"),
    [
        ([0], [(0, 1)]),
        ([0, 1, 2], [(0, 3)]),
        ([3, 4, 9, 11, 12], [(3, 5), (9, 10), (11, 13)]),
        ([5, 4, 4], [(5, 6), (4, 5), (4, 5)]),
        ([], []),
    ],
)
def test_band_runs__cover_the_bands_in_order(bands: list[int], runs: list[tuple[int, int]]) -> None:
    assert band_runs(np.array(bands, dtype=np.int64)) == runs
    assert [b for start, stop in runs for b in range(start, stop)] == bands


def test_nir_bands__closed_or_all() -> None:
    assert nir_bands(np.array([900.0, 779.9, 780.0, 900.1])).tolist() == [1, 0, 1, 0]
    assert nir_bands(np.array([450.0, 550.0])).tolist() == [1, 1]


def test_water_windows__are_neons() -> None:
    assert WATER_WINDOWS_NM == ((1340.0, 1445.0), (1790.0, 1955.0))
