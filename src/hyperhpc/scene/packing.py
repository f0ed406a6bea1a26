"""What other programs must know of digital numbers: the attributes that CF defines for it.

xarray, rioxarray and GDAL read them alike: reflectance is the stored number times
``scale_factor``, and ``_FillValue`` is no-data. All values are text, numbers or flat lists of
numbers, since netCDF, to which xarray converts a scene, has no others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import in_windows

#: The coordinate that tells good bands from bad ones.
GOOD_BAND_ABOUT = {"long_name": "band that the file declares usable"}
FWHM_ABOUT = {"units": "nm", "long_name": "full width at half maximum"}


def packing_attributes(
    dtype: str,
    scale_factor: float,
    nodata: Sequence[float],
    window_nodata: Sequence[float] = (),
    bad_band_windows_nm: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """Attributes of a cube of digital numbers.

    The arguments are as in :class:`hyperhpc.scene.cube.Scene`; there ``scale_factor`` divides.

    Returns: as far as they apply: ``scale_factor`` (float, multiplies; absent if it is 1),
    ``_FillValue`` (scalar of ``dtype``: the first no-data value; NaN for floats that have none),
    ``missing_value`` (all of them, if there are several), ``window_nodata`` and
    ``bad_band_windows_nm`` (first, last, first, last ...).
    """
    kind = np.dtype(dtype).type
    found: dict[str, Any] = {"long_name": "surface reflectance", "units": "1"}
    if scale_factor != 1:
        found["scale_factor"] = 1 / scale_factor
    marks = nodata or ([math.nan] if np.issubdtype(kind, np.floating) else [])
    if marks:
        found["_FillValue"] = kind(marks[0])
    if len(marks) > 1:
        found["missing_value"] = np.array(marks, kind)
    if window_nodata:
        found["window_nodata"] = [float(value) for value in window_nodata]
    if bad_band_windows_nm:
        found["bad_band_windows_nm"] = np.ravel(bad_band_windows_nm).astype(float).tolist()
    return found


def flag_good_bands(
    wavelength_nm: np.ndarray,
    bad_bands: Sequence[int],
    bad_band_windows_nm: Sequence[tuple[float, float]],
) -> np.ndarray:
    """Bool (band): False where the file flags a band, or declares its wavelength unusable."""
    is_good = ~in_windows(wavelength_nm, bad_band_windows_nm)
    is_good[list(bad_bands)] = False
    return is_good
