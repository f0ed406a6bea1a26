"""Noise of each band, and bands that were interpolated and hold no measurement of their own.

Both follow from how far a band lies from the straight line between its two neighbours. In a
smooth spectrum the distance is noise and a little curvature; the median over many pixels takes
the curvature away that all of them share. An interpolated band lies on the line in every pixel.

Sources
-------
Noise from differences of neighbours, here in the spectrum: Roger and Arnold (1996),
doi:10.1080/01431169608948750. Standard deviation from the median absolute deviation: Rousseeuw
and Croux (1993), doi:10.1080/01621459.1993.10476408.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hyperhpc.analysis.bands import band_runs

#: Standard deviation over median absolute deviation, of a normal distribution.
_SD_OF_MAD = 1.4826
#: Neighbours farther apart than this many times the median spacing lie across a gap.
_MAX_GAP = 2.5
#: Interpolated integers lie within half a DN of the line, and so do both of their neighbours.
_STRAIGHT_DN = 1.0
#: The same for floats: this share of the largest value of the band.
_STRAIGHT_SHARE = 1e-6
#: So many bands in a row on the line are no chance.
_MIN_STRAIGHT = 3
#: Where the other bands lie this many times as far from the line, it is no flat scene.
_CLEARLY_BENT = 5.0
#: Bands at a time: limits the float64 copy of the pixels.
_BANDS_AT_ONCE = 32


@dataclass(frozen=True)
class BandQuality:
    """What is known of each good band.

    ``noise``: Standard deviation of the noise in reflectance, float64 (band,); NaN for bands at
        the ends of the spectrum and next to a gap, and for interpolated bands.
    ``signal``: Median reflectance, float64 (band,).
    ``is_straight``: Bool (band,): on the line between its neighbours in every pixel, in a row of
        at least three such bands.
    """

    noise: npt.NDArray[np.float64]
    signal: npt.NDArray[np.float64]
    is_straight: npt.NDArray[np.bool_]

    def straight_runs(self, wavelength_nm: np.ndarray) -> list[tuple[float, float]]:
        """First and last wavelength, nm, of each row of interpolated bands."""
        return [
            (float(wavelength_nm[start]), float(wavelength_nm[stop - 1]))
            for start, stop in band_runs(np.flatnonzero(self.is_straight))
        ]


def measure_bands(
    dn: np.ndarray, wavelength_nm: np.ndarray, scale_factor: float
) -> BandQuality | None:
    """Noise of each band over valid pixels, and which bands were interpolated.

    ``dn``: Stored numbers (pixel, band), integers or floats, without no-data.
    ``wavelength_nm``: Centres (band,), in the order of the file.
    ``scale_factor``: Divisor from stored numbers to reflectance.

    Returns: None where there are fewer than three bands or ten pixels.
    """
    n_pixels, n_bands = dn.shape
    if n_bands < 3 or n_pixels < 10:
        return None
    share = _share_of_second(wavelength_nm)
    noise, largest = np.full(n_bands, np.nan), np.full(n_bands, np.nan)
    signal, limit = np.empty(n_bands), np.full(n_bands, _STRAIGHT_DN)
    for start in range(0, n_bands, _BANDS_AT_ONCE):
        stop = min(start + _BANDS_AT_ONCE, n_bands)
        first = max(start - 1, 0)
        part = dn[:, first : stop + 1].astype(np.float64)
        signal[start:stop] = np.median(part[:, start - first : stop - first], axis=0)
        if not np.issubdtype(dn.dtype, np.integer):
            limit[start:stop] = _STRAIGHT_SHARE * np.abs(part).max()
        for band in range(max(start, 1), min(stop, n_bands - 1)):
            at, second = band - first, share[band]
            if np.isnan(second):
                continue
            line = part[:, at - 1] * (1 - second) + part[:, at + 1] * second
            away = part[:, at] - line
            largest[band] = np.abs(away).max()
            mad = np.median(np.abs(away - np.median(away)))
            # The line has noise too: that of both neighbours, by their shares
            noise[band] = _SD_OF_MAD * mad / np.sqrt(1 + second**2 + (1 - second) ** 2)
    is_straight = _find_straight(largest, limit)
    noise[is_straight] = np.nan
    return BandQuality(noise / scale_factor, signal / scale_factor, is_straight)


def _share_of_second(wavelength_nm: np.ndarray) -> npt.NDArray[np.float64]:
    """The weight of the next band on the line to each band; NaN where there is no line."""
    steps = np.diff(wavelength_nm.astype(np.float64))
    before, after = steps[:-1], steps[1:]
    is_near = np.abs(steps) <= _MAX_GAP * np.median(np.abs(steps))
    is_between = (before * after > 0) & is_near[:-1] & is_near[1:]
    share = np.full(len(wavelength_nm), np.nan)
    share[1:-1][is_between] = (before / (before + after))[is_between]
    return share


def _find_straight(largest: np.ndarray, limit: np.ndarray) -> npt.NDArray[np.bool_]:
    """Bands whose largest distance from the line is within the limit, in rows of three."""
    with np.errstate(invalid="ignore"):
        is_straight = largest <= limit
        known = largest[np.isfinite(largest) & ~is_straight]
    if not known.size or np.median(known) < _CLEARLY_BENT * np.median(limit):
        return np.zeros(len(largest), dtype=bool)
    for start, stop in band_runs(np.flatnonzero(is_straight)):
        if stop - start < _MIN_STRAIGHT:
            is_straight[start:stop] = False
    return is_straight
