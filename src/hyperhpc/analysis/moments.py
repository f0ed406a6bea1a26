"""Mean and standard deviation of spectra that come in parts."""

from __future__ import annotations

from typing import Any

import numpy as np


class Moments:
    """Count, mean and sum of squared deviations per band, merged part by part.

    By Chan, Golub and LeVeque (1983, The American Statistician 37, 242-247), in float64:
    no squares of values are summed, so that nothing cancels.

    Parameters
    ----------
    n_bands
        Length of a spectrum.
    """

    def __init__(self, n_bands: int) -> None:
        #: Spectra that were added.
        self.count = 0
        #: Values per band (band,), int64: a spectrum may lack some.
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
        """Standard deviation (band,), divided by n; meaningless where n is 0."""
        return np.sqrt(self._squares / np.maximum(self.n, 1))

    def columns(self) -> list[Any]:
        """Means, standard deviations and counts in a row; None where there is no value."""
        parts = (self.mean, self.sd)
        rows = [
            [v if n else None for v, n in zip(p.tolist(), self.n, strict=True)] for p in parts
        ]
        return [*rows[0], *rows[1], *self.n.tolist()]
