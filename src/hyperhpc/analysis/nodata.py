"""How declared no-data values look among the stored numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


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
