"""Spectra, noise and filler of simulated land.

Spectra are continua with Gaussian absorption features at wavelengths from the literature,
adjusted by eye to a NEON scene; they are plausible, not measured. All values are whole digital
numbers (reflectance * 10000), so mixing them with weights in 1/1024 is exact in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from hyperhpc.analysis.bands import WATER_WINDOWS_NM, in_windows

#: Classes of the true map, by number.
CLASS_NAMES = (
    "green_grass",
    "dry_grass",
    "shrub_tree",
    "soil_bright",
    "soil_dark",
    "water",
    "shadow",
    "road",
)
GREEN, DRY, SHRUB, BRIGHT, DARK, WATER, SHADOW, ROAD = range(8)

SCALE_FACTOR = 10000
NODATA = -9999
#: Largest value seen inside the water windows of real files.
FILLER_MAX = 14998

_FIRST_NM = 381.5
_SPACING_NM = 5.0085
_LAST_NM = _FIRST_NM + 425 * _SPACING_NM
_FILLER_LEVELS = 4096


def band_centres(bands: int) -> np.ndarray:
    """Band centres in nm (float64): NEON's 426, or as many, spread over the same range."""
    return np.linspace(_FIRST_NM, _LAST_NM, bands)


def band_widths(wavelength_nm: np.ndarray) -> np.ndarray:
    """Full widths at half maximum in nm (float64): 5.8 nm at NEON's spacing."""
    spacing = float(np.ptp(wavelength_nm)) / max(1, wavelength_nm.size - 1)
    return np.full(wavelength_nm.size, 5.8 * spacing / _SPACING_NM)


def in_water_window(wavelength_nm: np.ndarray) -> np.ndarray:
    """True for bands in NEON's windows of water vapour, which hold filler."""
    return in_windows(wavelength_nm, WATER_WINDOWS_NM)


def endmembers(wavelength_nm: np.ndarray) -> np.ndarray:
    """Spectra of the classes, then one direction of change within each class.

    ``wavelength_nm``: Band centres in nm, 1-D.

    Returns: DN, whole numbers in float32, shape (2 * classes, bands). Row ``k`` is class ``k``;
    row ``classes + k`` is what one unit of its own variation (greenness, moisture, turbidity,
    age) adds, small enough that a class stays positive for -1..1.
    """
    nm = np.asarray(wavelength_nm, dtype=np.float64)
    green = _leaf(nm, visible=0.036, green_peak=0.045, nir=0.455, water=1.0)
    shrub = _leaf(nm, visible=0.022, green_peak=0.024, nir=0.300, water=1.35)
    dry = _dry_grass(nm)
    bright = _soil(nm, (0.095, 0.15, 0.235, 0.30, 0.41, 0.46, 0.45, 0.40), clay=0.03, iron=0.03)
    dark = _soil(nm, (0.040, 0.06, 0.100, 0.13, 0.20, 0.25, 0.245, 0.20), clay=0.10, iron=0.06)
    water = _through(
        nm,
        (380, 450, 560, 600, 650, 700, 750, 800, 900, 1000, 1300, 2550),
        (0.040, 0.048, 0.062, 0.050, 0.036, 0.026, 0.013, 0.012, 0.007, 0.005, 0.004, 0.003),
    )
    skylight = 0.22 + 0.14 * (450.0 / nm) ** 3
    shadow = (0.6 * dry + 0.4 * shrub) * skylight
    road = _through(
        nm,
        (380, 450, 650, 900, 1300, 1700, 2200, 2550),
        (0.110, 0.135, 0.175, 0.190, 0.200, 0.205, 0.190, 0.165),
    )
    road *= 1 - _bumps(nm, (1725, 2312), (18, 28), (0.03, 0.06))
    spectra = np.stack([green, dry, shrub, bright, dark, water, shadow, road])
    turbid = _through(
        nm, (380, 560, 640, 710, 800, 900, 2550), (0.006, 0.030, 0.026, 0.018, 0.004, 0.001, 0)
    )
    moist = np.exp(-0.06 * _leaf_water(nm))
    change = np.stack(
        [
            0.12 * (dry - green),
            0.12 * (green - dry),
            0.15 * (green - shrub),
            bright * (0.97 * moist - 1.0),
            dark * (0.94 * moist - 1.0),
            0.6 * turbid,
            0.15 * shadow,
            0.10 * road,
        ]
    )
    reflectance = np.concatenate([spectra, change]) * _residual(nm)
    return np.rint(reflectance * SCALE_FACTOR).astype(np.float32)


def noise_sd(wavelength_nm: np.ndarray) -> np.ndarray:
    """Standard deviation of sensor noise per band, DN, float32.

    About 8 DN in the visible and 10 DN in the infrared, rising at both ends of the range,
    next to the water-vapour windows and in the weaker gas bands, as in a real NEON tile.
    """
    nm = np.asarray(wavelength_nm, dtype=np.float64)
    sd = 7.0 + 2.0 * (nm > 900) + 55.0 * np.exp(-(nm - _FIRST_NM) / 13.0)
    sd += 150.0 * np.exp((nm - _LAST_NM) / 32.0)
    sd += 22 * _bump(nm, 938, 9) + 28 * _bump(nm, 1136, 11) + 10 * _bump(nm, 1268, 6)
    sd += 16 * _bump(nm, 2008, 9) + 6 * _bump(nm, 761, 4)
    for low, high in WATER_WINDOWS_NM:
        outside = np.maximum(low - nm, nm - high)
        sd += 45.0 * np.exp(-np.maximum(outside, 0) / 11.0)
    return sd.astype(np.float32)


def filler_quantiles(wavelength_nm: np.ndarray) -> np.ndarray:
    """Values of the filler inside the water windows, one table of quantiles per band.

    ``wavelength_nm``: Centres of the bands inside the windows, nm.

    Returns: int16 DN, shape (bands, 4096), each row ascending: exact zeros first (28 % over all
    bands, more in the middle of a window), then a long-tailed noise that ends at 14998.
    """
    nm = np.asarray(wavelength_nm, dtype=np.float64)
    depth = np.zeros(nm.size)
    for low, high in WATER_WINDOWS_NM:
        inside = (nm >= low) & (nm <= high)
        depth[inside] = 1 - np.abs(2 * nm[inside] - low - high) / (high - low)
    p = (np.arange(_FILLER_LEVELS) + 0.5) / _FILLER_LEVELS
    zero = np.clip(0.28 + 0.5 * (depth - depth.mean()), 0.02, 0.9) if nm.size else depth
    # The logistic is close enough to a normal quantile and needs no special function.
    q = np.clip((p - zero[:, None]) / (1 - zero[:, None]), 1e-6, 1 - 1e-6)
    width = 0.45 + 0.45 * depth[:, None]
    values = np.rint(800.0 * np.exp(width * np.log(q / (1 - q))))
    values = np.clip(values, 1, FILLER_MAX)
    return np.where(p < zero[:, None], 0, values).astype(np.int16)


def _bump(nm: np.ndarray, centre: float, sd: float) -> np.ndarray:
    return np.exp(-0.5 * ((nm - centre) / sd) ** 2)


def _bumps(
    nm: np.ndarray, centres: Sequence[float], sds: Sequence[float], heights: Sequence[float]
) -> np.ndarray:
    """Sum of features: their centres and widths in nm, and their heights."""
    features = zip(centres, sds, heights, strict=True)
    return cast(np.ndarray, sum(height * _bump(nm, at, sd) for at, sd, height in features))


def _step(nm: np.ndarray, centre: float, width: float) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-(nm - centre) / width))


def _through(nm: np.ndarray, at: tuple[float, ...], values: tuple[float, ...]) -> np.ndarray:
    """Return a smooth curve through points: linear, then rounded at the knots."""
    fine = np.arange(330.0, 2581.0, 1.0)
    line = np.interp(fine, at, values)
    width = np.arange(-60, 61)
    kernel = np.exp(-0.5 * (width / 18.0) ** 2)
    padded = np.pad(line, 60, mode="edge")
    return np.interp(nm, fine, np.convolve(padded, kernel / kernel.sum(), mode="valid"))


def _leaf_water(nm: np.ndarray) -> np.ndarray:
    """Absorbance of liquid water in a leaf of ordinary thickness."""
    centres = (975, 1185, 1455, 1785, 1940, 2030, 2600)
    heights = (0.10, 0.22, 1.05, 0.15, 1.10, 0.30, 1.00)
    steps = 0.05 * _step(nm, 1140, 15) + 0.45 * _step(nm, 1390, 22) + 0.42 * _step(nm, 1880, 25)
    return steps + _bumps(nm, centres, (20, 40, 52, 45, 55, 90, 160), heights)


def _leaf(
    nm: np.ndarray, visible: float, green_peak: float, nir: float, water: float
) -> np.ndarray:
    """Live vegetation: chlorophyll, green peak, red edge, plateau, leaf water."""
    vis = visible + green_peak * _bump(nm, 553, 30) + 0.25 * green_peak * _bump(nm, 610, 32)
    vis -= 0.25 * visible * (_bump(nm, 435, 35) + _bump(nm, 676, 14))
    edge = 0.84 * _step(nm, 717, 10.5) + 0.16 * _step(nm, 765, 32)
    slope = 1.0 + 0.06 * (np.clip(nm, 750, 1120) - 860) / 260 - 0.05 * _step(nm, 1250, 60)
    return vis * (1 - edge) + nir * slope * edge * np.exp(-water * _leaf_water(nm))


def _dry_grass(nm: np.ndarray) -> np.ndarray:
    """Standing dead grass: no chlorophyll left, cellulose and lignin in the infrared."""
    at = (380, 430, 520, 600, 680, 760, 900, 1080, 1300, 1500, 1680, 1900, 2050, 2220, 2400)
    levels = (0.06, 0.07, 0.098, 0.132, 0.165, 0.235, 0.29, 0.345, 0.405, 0.41, 0.435, 0.39)
    continuum = _through(nm, (*at, 2550), (*levels, 0.365, 0.345, 0.285, 0.25))
    centres = (1200, 1690, 1730, 1757, 2100, 2275, 2345)
    heights = (0.06, 0.045, 0.075, 0.060, 0.190, 0.095, 0.090)
    matter = _bumps(nm, centres, (28, 12, 20, 16, 38, 24, 26), heights)
    return continuum * np.exp(-matter - 0.18 * _leaf_water(nm) - 0.10 * _bump(nm, 672, 16))


def _soil(nm: np.ndarray, levels: tuple[float, ...], clay: float, iron: float) -> np.ndarray:
    """Bare soil: a rising continuum, iron in the visible, clay at 2205 nm."""
    continuum = _through(nm, (380, 480, 650, 860, 1280, 1680, 2130, 2550), levels)
    minerals = (
        iron * (_bump(nm, 490, 30) + 0.7 * _bump(nm, 880, 55))
        + clay * (_bump(nm, 2206, 22) + 0.3 * _bump(nm, 1414, 20))
        + 0.5 * clay * _bump(nm, 2345, 24)
        + 0.10 * _bump(nm, 1930, 45)
    )
    return continuum * np.exp(-minerals)


def _residual(nm: np.ndarray) -> np.ndarray:
    """Residual error of the atmospheric correction, the same factor in every pixel."""
    ripple = np.sin(nm * 1.7) * np.sin(nm * 0.61 + 1.0)  # changes from band to band
    near_gas = _bumps(nm, (940, 1135, 2010), (18, 20, 18), (0.025, 0.025, 0.025))
    ripple *= 0.003 + near_gas + 0.040 * _step(nm, 2440, 20)
    centres = (724, 761, 817, 936, 1125, 1136, 1146, 1268, 2004, 2015)
    heights = (-0.03, 0.03, -0.02, -0.07, -0.06, 0.04, -0.06, 0.015, 0.03, -0.03)
    return 1.0 + _bumps(nm, centres, (6, 3, 6, 7, 9, 4, 6, 5, 6, 5), heights) + ripple
