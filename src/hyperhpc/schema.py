"""The data dictionary: every array a run writes, in one place.

Stores and files are made from these entries, so what stands here is what is on disk.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Label of a pixel that is no-data.
NO_CLUSTER = 255
#: Label of a pixel that has data, but was left out of the clusters by ``--where``; its name.
NOT_CLUSTERED, NOT_CLUSTERED_TITLE = 254, "not clustered"


@dataclass(frozen=True)
class Variable:
    """One array.

    ``name``, ``dims``, ``dtype``: As on disk.
    ``missing``: The value that means missing, or None.
    ``unit``: UDUNITS-like, "1" for none.
    ``about``: One sentence.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    missing: float | int | None
    unit: str
    about: str

    @property
    def is_single(self) -> bool:
        """True for one map, False for layers that have names."""
        return self.dims == ("y", "x")

    @property
    def is_coded(self) -> bool:
        """True for one map of codes that have meanings."""
        return self.is_single and np.issubdtype(np.dtype(self.dtype), np.integer)


INDICES = Variable(
    "indices", ("index", "y", "x"), "float32", float("nan"), "1",
    "Spectral indices, computed in float64 from reflectance 0-1.",
)  # fmt: skip
CLUSTER = Variable(
    "cluster", ("model", "y", "x"), "uint8", NO_CLUSTER, "1",
    "Number of the nearest centre, by ascending near-infrared reflectance; 254 was not clustered.",
)  # fmt: skip
QUICKLOOK = Variable(
    "quicklook", ("color", "y", "x"), "float32", float("nan"), "1",
    "Reflectance at red, green, blue and near infrared, of every n-th pixel.",
)  # fmt: skip
NODATA_CAUSE = Variable(
    "nodata_cause", ("y", "x"), "uint8", 255, "1",
    "Why a pixel has no data, as flag_meanings says; 0 has data, 255 is not computed yet.",
)  # fmt: skip
FRACTION = Variable(
    "fraction", ("endmember", "y", "x"), "float32", float("nan"), "1",
    "Fraction of each endmember, not negative; those of a pixel sum to 1. Only with --unmix.",
)  # fmt: skip
UNMIXING_RMSE = Variable(
    "unmixing_rmse", ("y", "x"), "float32", float("nan"), "1",
    "Root mean square over the good bands of reflectance less the mixture. Only with --unmix.",
)  # fmt: skip
SAMPLE_MASK = Variable(
    "sample_mask", ("y", "x"), "uint8", 0, "1",
    "1 where the sampled pixel is valid; work/sample-mask.dat, raw, C order.",
)  # fmt: skip

RESULTS = (INDICES, CLUSTER)
#: Arrays that a run with ``--unmix`` has too, in its results and in its overviews.
UNMIXING = (FRACTION, UNMIXING_RMSE)
OVERVIEW = (QUICKLOOK, INDICES, CLUSTER, NODATA_CAUSE)
COLORS = ("red", "green", "blue", "nir")
#: Wanted centres of the four quicklook colours, nm.
COLORS_NM = (650.0, 550.0, 460.0, 860.0)
#: The first of the flag_meanings of :data:`NODATA_CAUSE`; causes follow.
HAS_DATA = "has data"


def has_cluster(labels: np.ndarray) -> np.ndarray:
    """Bool (...): True for labels of clusters, False for both kinds of pixels without one."""
    return labels < NOT_CLUSTERED


def fill_value(variable: Variable) -> np.generic:
    """The missing value as a scalar of the variable's dtype."""
    return np.dtype(variable.dtype).type(0 if variable.missing is None else variable.missing)


def flag_meaning(label: str) -> str:
    """A label as one word of the attribute ``flag_meanings`` (CF conventions 1.11, 3.5)."""
    return label.replace(" ", "_")
