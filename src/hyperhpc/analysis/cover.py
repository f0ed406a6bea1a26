"""What kind of land a mean spectrum may be of: a suggestion for whoever names clusters.

Thresholds are those that the sources use for a first look; no spectrum is proof of a cover.

Sources
-------
NDVI of green vegetation and of water: Tucker (1979), doi:10.1016/0034-4257(79)90013-0. The
cellulose absorption index is positive over plant litter and negative over soil: Nagler, Daughtry
and Goward (2000), doi:10.1016/S0034-4257(99)00082-6; its shoulders here are those of
Daughtry (2001), doi:10.2134/agronj2001.931125x.
"""

from __future__ import annotations

import numpy as np

from hyperhpc.analysis.indices import choose_indices, compute_indices
from hyperhpc.errors import ConfigError

WATER, GREEN, SPARSE = "water or shade", "green vegetation", "sparse vegetation"
DRY, BRIGHT, DARK = "dry vegetation", "bright soil", "dark soil or built-up"
#: Words for what is neither water nor green, on a sensor that cannot tell litter from soil.
BARE = "dry vegetation or bare ground"

#: Near-infrared reflectance that land in the sun has; NDVI of plants, and of dense ones.
_LAND_NIR, _PLANTS, _DENSE = 0.05, 0.3, 0.5
#: Mean reflectance of the darkest land in the sun.
_LIT = 0.05
#: Mean reflectance from which bare ground is called bright.
_BRIGHT = 0.25
_NIR_NM = 860.0


def suggest_cover(wavelength_nm: np.ndarray, spectra: np.ndarray) -> list[str]:
    """A word for each mean spectrum; empty where it has no values, or no band near NDVI's.

    ``wavelength_nm``: Centres (band,). ``spectra``: Reflectance 0-1 (spectrum, band), NaN for a
    cluster without pixels.
    """
    ndvi = _index("ndvi", wavelength_nm, spectra)
    cellulose = _index("cai_2030", wavelength_nm, spectra)
    near = spectra[:, np.abs(wavelength_nm - _NIR_NM).argmin()]
    brightness = spectra.mean(axis=1)
    return [
        "" if np.isnan(ndvi[i]) else _word(ndvi[i], near[i], cellulose[i], brightness[i])
        for i in range(len(spectra))
    ]


def _word(ndvi: float, near: float, cellulose: float, brightness: float) -> str:
    if ndvi < 0 or near < _LAND_NIR or brightness < _LIT:
        return WATER
    if ndvi >= _PLANTS:
        return GREEN if ndvi >= _DENSE else SPARSE
    if np.isnan(cellulose):
        return BARE
    if cellulose > 0:
        return DRY
    return BRIGHT if brightness >= _BRIGHT else DARK


def _index(name: str, wavelength_nm: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """One index of each spectrum; NaN if a band is too far for it."""
    try:
        bound, _ = choose_indices([name], {}, wavelength_nm)
    except ConfigError:
        return np.full(len(spectra), np.nan)
    return compute_indices(spectra, bound, scale_factor=1.0).values[0]
