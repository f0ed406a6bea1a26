"""What a correction of the atmosphere has left in the bands of an index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperhpc.analysis.bands import nearest_band
from hyperhpc.analysis.indices import choose_indices, compute_indices
from hyperhpc.errors import ConfigError

#: A wavelength at which carbon dioxide absorbs, and two next to it at which it hardly does, nm.
CO2_NM, _BELOW_NM, _ABOVE_NM = 2000.0, 1990.0, 2021.0


@dataclass(frozen=True)
class CarbonDioxide:
    """The residual of carbon dioxide in CAI.

    ``centres_nm``: Band at 2000 nm, and the bands below and above it.
    ``depth``: Median depth of reflectance at 2000 nm below the line through the other two.
    ``spread``: Standard deviation of ``cai_2030``, which does not read these bands.
    """

    centres_nm: tuple[float, float, float]
    depth: float
    spread: float

    @property
    def shift(self) -> float:
        """By how much the residual lowers CAI, which takes half of the reflectance at 2000 nm."""
        return self.depth / 2

    @property
    def exceeds_signal(self) -> bool:
        """True if CAI varies less over the scene than the residual shifts it."""
        return self.shift > self.spread

    def describe(self) -> str:
        """The finding in sentences, for the report."""
        centre, below, above = self.centres_nm
        return (
            f"Carbon dioxide: reflectance at {centre:.1f} nm lies {self.depth:.4f} below the line "
            f"from {below:.1f} to {above:.1f} nm (median of the sample), which lowers the index by "
            f"{self.shift:.4f}. Computed without these bands (cai_2030), it varies by only "
            f"{self.spread:.4f} (standard deviation): differences in this map may be those of the "
            "correction of the atmosphere. The option --indices cai_2030 avoids these bands"
        )


def measure_carbon_dioxide(
    dn: np.ndarray, wavelength_nm: np.ndarray, scale_factor: float
) -> CarbonDioxide | None:
    """The residual of carbon dioxide in pixels (pixel, band), DN; None if bands are missing.

    ``wavelength_nm``: Centres of these bands.
    """
    try:
        bands = [nearest_band(wavelength_nm, nm) for nm in (CO2_NM, _BELOW_NM, _ABOVE_NM)]
        bound, _ = choose_indices(["cai_2030"], {}, wavelength_nm)
    except ConfigError:
        return None
    values = compute_indices(dn, bound, scale_factor=scale_factor).values[0]
    if len(set(bands)) < 3 or not np.isfinite(values).any():
        return None
    centre, below, above = (float(nm) for nm in wavelength_nm[bands])
    share = (centre - below) / (above - below)
    at, low, high = (dn[:, band] / scale_factor for band in bands)
    depth = float(np.median(low * (1 - share) + high * share - at))
    return CarbonDioxide((centre, below, above), depth, float(np.nanstd(values)))
