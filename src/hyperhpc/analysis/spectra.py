"""Spectra at points, and mean and standard deviation of many spectra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hyperhpc.analysis.bands import nodata_in_dtype

#: Reads a window: (row0, row1, col0, col1) to DN (y, x, band).
ReadWindow = Callable[[int, int, int, int], np.ndarray]


def to_reflectance(
    dn: np.ndarray,
    scale_factor: float,
    nodata: Sequence[float],
    window_nodata: Sequence[float] = (),
    is_window_band: np.ndarray | bool = False,
    dtype: npt.DTypeLike = np.float64,
) -> np.ndarray:
    """Reflectance 0-1 of DN (..., band); NaN where the stored value is no-data.

    ``scale_factor``: Divisor from DN to reflectance.
    ``nodata``: DN that stand for a missing value; ``window_nodata``: only in the bands of
        ``is_window_band``, Bool (band), the water windows.
    ``dtype``: Of the result; float32 divides in float32, which rounds once.
    """
    reflectance = dn.astype(dtype)
    reflectance /= scale_factor
    for value in nodata_in_dtype(nodata, dn.dtype):
        reflectance[dn == value] = np.nan
    if np.any(is_window_band):
        for value in nodata_in_dtype(window_nodata, dn.dtype):
            reflectance[(dn == value) & is_window_band] = np.nan
    if not np.issubdtype(dn.dtype, np.integer):
        reflectance[~np.isfinite(reflectance)] = np.nan  # 1 / inf would be a value
    return reflectance


def linear_spectrum(
    read: ReadWindow,
    row: float,
    col: float,
    shape: tuple[int, int],
    to_values: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray | None:
    """Spectrum (band), interpolated linearly between the four pixel centres around a point.

    ``row``, ``col``: Position in pixels; whole numbers are pixel centres.
    ``shape``: Rows and columns of the scene.

    Returns: None if a neighbour lies outside the scene; a band that is no-data in any neighbour
    is NaN. A neighbour whose weight is zero (below a millionth of a pixel) is not read.
    """
    # A pixel centre in metres is seldom exactly one in pixels
    row, col = (round(p) if abs(p - round(p)) < 1e-6 else p for p in (row, col))
    row0, col0 = int(np.floor(row)), int(np.floor(col))
    down, right = row - row0, col - col0
    rows, cols = (row0, row0 + (1 if down else 0)), (col0, col0 + (1 if right else 0))
    if rows[0] < 0 or cols[0] < 0 or rows[1] >= shape[0] or cols[1] >= shape[1]:
        return None
    values = to_values(read(rows[0], rows[1] + 1, cols[0], cols[1] + 1))
    upper = values[0, 0] * (1 - right) + values[0, -1] * right if right else values[0, 0]
    lower = values[-1, 0] * (1 - right) + values[-1, -1] * right if right else values[-1, 0]
    return upper * (1 - down) + lower * down if down else upper


class SpectraMoments:
    """Count, mean and sum of squared deviations per band, of spectra added in parts.

    Computed in float64 by the method of Chan, Golub and LeVeque (1983, The American
    Statistician 37, 242-247, doi:10.1080/00031305.1983.10483115), which sums no squares of
    values, so that no digits cancel.
    """

    def __init__(self, n_bands: int) -> None:
        #: Number of spectra added.
        self.count = 0
        #: Number of values per band (band,), int64: some values of a spectrum may be missing.
        self.n = np.zeros(n_bands, np.int64)
        self.mean = np.zeros(n_bands)
        self._squares = np.zeros(n_bands)

    def add(self, values: np.ndarray) -> None:
        """Add spectra (pixel, band), float64; NaN is left out, band by band."""
        self.count += len(values)
        has_value = ~np.isnan(values)
        n = has_value.sum(axis=0)
        total = self.n + n
        divisor = np.maximum(n, 1)
        mean = np.where(has_value, values, 0).sum(axis=0) / divisor
        deviations = np.where(has_value, values - mean, 0)
        squares = (deviations**2).sum(axis=0)
        step = mean - self.mean
        weight = n / np.maximum(total, 1)
        self._squares += squares + np.where(n > 0, step**2 * self.n * weight, 0)
        self.mean += np.where(n > 0, step * weight, 0)
        self.n = total

    @property
    def sd(self) -> np.ndarray:
        """Population standard deviation (band,); meaningless where n is 0."""
        return np.sqrt(self._squares / np.maximum(self.n, 1))

    def columns(self) -> list[Any]:
        """Means, standard deviations and counts in one list; None where there is no value."""
        parts = (self.mean, self.sd)
        rows = [[v if n else None for v, n in zip(p.tolist(), self.n, strict=True)] for p in parts]
        return [*rows[0], *rows[1], *self.n.tolist()]
