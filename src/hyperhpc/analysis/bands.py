"""Which bands are used, and which band stands for a wavelength."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hyperhpc.errors import ConfigError

Window = tuple[float, float]

#: NEON's own Band_Window_1/2, for files that do not declare any.
WATER_WINDOWS_NM: tuple[Window, ...] = ((1340.0, 1445.0), (1790.0, 1955.0))
#: The noisy ends of the detector.
END_WINDOWS_NM: tuple[Window, ...] = ((0.0, 400.0), (2450.0, math.inf))
#: A band further than this from the wavelength wanted does not stand for it.
TOLERANCE_NM = 5.0
#: 0-based positions the tutorial kept, first and last, of NEON's 426 bands.
SEED_POSITIONS = ((0, 188), (211, 269), (316, 425))
SEED_BANDS = 426
#: Near infrared, by whose mean the clusters are numbered.
NIR_NM: Window = (780.0, 900.0)


def drop_windows(
    declared_nm: Sequence[Window], asked_nm: Sequence[Window] | None = None
) -> tuple[Window, ...]:
    """Closed windows to drop: those asked for, or the ends and the file's own.

    Parameters
    ----------
    declared_nm
        The windows the file declares; NEON's two water windows if it declares none.
    asked_nm
        The user's own windows, which replace all others; None for the default.
    """
    if asked_nm is not None:
        return tuple((float(lo), float(hi)) for lo, hi in asked_nm)
    water = tuple(declared_nm) or WATER_WINDOWS_NM
    low, high = END_WINDOWS_NM
    return (low, *((float(a), float(b)) for a, b in water), high)


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

    Parameters
    ----------
    bad
        Positions of further bands to leave out: those the file flags.

    Raises
    ------
    ConfigError
        If no band is left.
    """
    is_good = ~in_windows(wavelength_nm, windows_nm)
    is_good[list(bad)] = False
    good = np.flatnonzero(is_good)
    if good.size == 0:
        flagged = f" and the {len(bad)} bands flagged as bad" if bad else ""
        raise ConfigError(
            f"the windows to drop{flagged} leave none of the {len(wavelength_nm)} bands "
            f"({wavelength_nm.min():.1f}-{wavelength_nm.max():.1f} nm)",
            "give other windows with --drop LO-HI",
        )
    return good


def seed_bands(n_bands: int) -> np.ndarray:
    """The tutorial's 358 bands, chosen by position (int64, ascending).

    Raises
    ------
    ConfigError
        If the scene has not got NEON's 426 bands.
    """
    if n_bands != SEED_BANDS:
        raise ConfigError(
            f"--seed-compat picks bands by position and needs {SEED_BANDS} bands; "
            f"this scene has {n_bands}",
            "leave --seed-compat away",
        )
    return np.concatenate([np.arange(lo, hi + 1) for lo, hi in SEED_POSITIONS])


def nearest_band(
    wavelength_nm: np.ndarray, wanted_nm: float, tolerance_nm: float = TOLERANCE_NM
) -> int:
    """Position of the band whose centre is nearest to a wavelength.

    The centres need not be ascending (EnMAP's are not); of two equally near the first
    in the file is taken.

    Raises
    ------
    ConfigError
        If even the nearest centre is further away than the tolerance.
    """
    distance = np.abs(wavelength_nm - wanted_nm)
    band = int(np.argmin(distance))
    # Centres are decimals: 512.2 - 507.2 is a little more than 5
    if distance[band] > tolerance_nm + 1e-6:
        raise ConfigError(
            f"no band within {tolerance_nm:g} nm of {wanted_nm:g} nm: "
            f"the nearest is {wavelength_nm[band]:.1f} nm, {distance[band]:.4g} nm away"
        )
    return band


def band_runs(bands: np.ndarray) -> list[tuple[int, int]]:
    """Band positions as runs [start, stop) of neighbours, for copying by slices."""
    if len(bands) == 0:
        return []
    breaks = np.flatnonzero(np.diff(bands) != 1) + 1
    return [(int(run[0]), int(run[-1]) + 1) for run in np.split(bands, breaks)]


def nir_bands(wavelength_nm: np.ndarray) -> np.ndarray:
    """Bool (band): True at 780-900 nm, or everywhere if there is no such band."""
    nir = in_windows(wavelength_nm, [NIR_NM])
    return nir if nir.any() else np.ones(len(wavelength_nm), dtype=bool)


# How declared no-data values look among the stored numbers.


def stored_marks(nodata: Sequence[float], dtype: np.dtype) -> list[np.generic]:
    """No-data values as scalars of a dtype; those it cannot hold are left out.

    A float mark is rounded as the scene rounded it (-3.4e38 is not a float32, but was
    stored as the nearest one). Marks that are not finite are left out: such values are
    missing by themselves.
    """
    marks: list[np.generic] = []
    for value in nodata:
        if not math.isfinite(value):
            continue
        if np.issubdtype(dtype, np.floating):
            with np.errstate(over="ignore", under="ignore"):
                mark = dtype.type(value)
            if np.isfinite(mark):
                marks.append(mark)
        else:
            info = np.iinfo(dtype)
            if float(value).is_integer() and info.min <= value <= info.max:
                marks.append(dtype.type(int(value)))
    return marks
