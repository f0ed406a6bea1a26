"""The numbers of the scenes that are damaged, and what a format's library reads of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperhpc.simulate import materials

NY, NX, NB = 12, 10, 30
NODATA = -9999
X = 517000.5 + np.arange(NX)
Y = 4525999.5 - np.arange(NY)
BANDS = materials.band_centres(NB)


def _cube() -> np.ndarray:
    dn = np.random.default_rng(7).integers(0, 9000, (NY, NX, NB)).astype(np.int16)
    dn[:2, :3] = NODATA
    return dn


#: Digital numbers (y, x, band) of the scenes as they were written.
DN = _cube()


@dataclass(frozen=True)
class Direct:
    """What the library of a format reads.

    Attributes
    ----------
    dn
        The window (y, x, band), as stored.
    vectors
        All arrays of one dimension: the band centres must be one of them.
    """

    dn: np.ndarray
    vectors: list[np.ndarray]
