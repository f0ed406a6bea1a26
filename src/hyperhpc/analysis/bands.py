"""Which bands are used, which band stands for a wavelength, and no-data values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hyperhpc.errors import ConfigError

Window = tuple[float, float]

#: NEON's own Band_Window_1 and 2, for files that declare none.
WATER_WINDOWS_NM: tuple[Window, ...] = ((1340.0, 1445.0), (1790.0, 1955.0))
#: The noisy ends of the detector.
END_WINDOWS_NM: tuple[Window, ...] = ((0.0, 400.0), (2450.0, math.inf))
#: The farthest a band's centre may be from the wavelength wanted.
TOLERANCE_NM = 5.0
#: First and last 0-based positions of the runs of NEON's 426 bands that the tutorial kept.
SEED_POSITIONS = ((0, 188), (211, 269), (316, 425))
SEED_BANDS = 426
#: Near infrared: clusters are numbered by their mean in these bands.
NIR_NM: Window = (780.0, 900.0)


def drop_windows(
    declared_nm: Sequence[Window], asked_nm: Sequence[Window] | None = None
) -> tuple[Window, ...]:
    """Closed windows (low, high) to drop, nm: those asked for, or the ends and the file's own.

    A file that declares none has NEON's two water windows.
    """
    low, high = END_WINDOWS_NM
    windows = (low, *(declared_nm or WATER_WINDOWS_NM), high) if asked_nm is None else asked_nm
    return tuple((float(lo), float(hi)) for lo, hi in windows)


def in_windows(wavelength_nm: np.ndarray, windows_nm: Sequence[Window]) -> np.ndarray:
    """Bool (band): True where the centre lies in one of the closed windows."""
    inside = np.zeros(len(wavelength_nm), dtype=bool)
    for low, high in windows_nm:
        inside |= (wavelength_nm >= low) & (wavelength_nm <= high)
    return inside


def good_bands(
    wavelength_nm: np.ndarray, windows_nm: Sequence[Window], bad: Sequence[int] = ()
) -> np.ndarray:
    """Positions (int64, ascending) of the bands outside all windows.

    ``bad``: Positions of bands that the file flags, which are left out too.

    Raises ConfigError: if no band is left.
    """
    is_good = ~in_windows(wavelength_nm, windows_nm)
    is_good[list(bad)] = False
    good = np.flatnonzero(is_good)
    if good.size == 0:
        flagged = f" and the {len(bad)} bands flagged as bad" if bad else ""
        raise ConfigError(
            f"The windows to drop{flagged} leave none of the {len(wavelength_nm)} bands "
            f"({wavelength_nm.min():.1f}-{wavelength_nm.max():.1f} nm)",
            "Give other windows with --drop LO-HI",
        )
    return good


def seed_bands(n_bands: int) -> np.ndarray:
    """The tutorial's 358 bands, chosen by position (int64, ascending).

    Raises ConfigError: if the scene does not have NEON's 426 bands.
    """
    if n_bands != SEED_BANDS:
        raise ConfigError(
            f"--seed-compat picks bands by position and needs {SEED_BANDS} bands; "
            f"this scene has {n_bands}",
            "Omit --seed-compat",
        )
    return np.concatenate([np.arange(lo, hi + 1) for lo, hi in SEED_POSITIONS])


def nearest_band(
    wavelength_nm: np.ndarray, wanted_nm: float, tolerance_nm: float = TOLERANCE_NM
) -> int:
    """Position of the band whose centre is nearest to a wavelength, nm.

    The centres need not be ascending (EnMAP's are not); of equally near bands the first is taken.

    Raises ConfigError: if the nearest centre is further away than the tolerance.
    """
    distance = np.abs(wavelength_nm - wanted_nm)
    band = int(np.argmin(distance))
    # Centres are decimals: 512.2 - 507.2 is a little more than 5
    if distance[band] > tolerance_nm + 1e-6:
        raise ConfigError(
            f"No band within {tolerance_nm:g} nm of {wanted_nm:g} nm: "
            f"the nearest is {wavelength_nm[band]:.1f} nm, {distance[band]:.4g} nm away"
        )
    return band


def band_runs(bands: np.ndarray) -> list[tuple[int, int]]:
    """Ascending band positions as runs [start, stop) of neighbours, for copying by slices."""
    if len(bands) == 0:
        return []
    breaks = np.flatnonzero(np.diff(bands) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(bands, breaks)]


def nir_bands(wavelength_nm: np.ndarray) -> np.ndarray:
    """Bool (band): True at 780-900 nm, or everywhere if there is no such band."""
    nir = in_windows(wavelength_nm, [NIR_NM])
    return nir if nir.any() else np.ones(len(wavelength_nm), dtype=bool)


def nodata_in_dtype(nodata: Sequence[float], dtype: np.dtype) -> list[np.generic]:
    """No-data values as scalars of a dtype; those it cannot hold are left out.

    A float value is rounded as the scene rounded it (-3.4e38 is not a float32, but was
    stored as the nearest one). Stored values that are not finite are missing anyway.
    """
    found: list[np.generic] = []
    for value in filter(math.isfinite, nodata):
        if np.issubdtype(dtype, np.floating):
            with np.errstate(over="ignore", under="ignore"):
                stored = dtype.type(value)
            if np.isfinite(stored):
                found.append(stored)
        else:
            info = np.iinfo(dtype)
            if float(value).is_integer() and info.min <= value <= info.max:
                found.append(dtype.type(int(value)))
    return found
