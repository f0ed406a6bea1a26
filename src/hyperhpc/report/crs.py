"""What the map's coordinates mean: metres, degrees, or nobody said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class MapCrs:
    """The coordinate reference system as far as a drawing needs it.

    Parameters
    ----------
    label
        For captions: name and EPSG code, or that there is none.
    kind
        ``projected``, ``geographic`` or ``unknown``.
    unit_m
        Metres per unit of a projected system; 1 otherwise.
    """

    label: str
    kind: str
    unit_m: float = 1.0

    @property
    def is_degrees(self) -> bool:
        """Whether coordinates are longitude and latitude."""
        return self.kind == "geographic"

    def metres_per_unit(self, y: float) -> float | None:
        """Metres along x per coordinate unit at height ``y``; None if nobody knows."""
        if self.kind == "unknown":
            return None
        if self.kind == "geographic":
            return 111_320.0 * max(math.cos(math.radians(y)), 1e-6)
        return self.unit_m


NO_CRS = MapCrs("no coordinate reference system stored", "unknown")


def describe_crs(epsg: int | None, wkt: str | None = None) -> MapCrs:
    """Look up an EPSG code, or read the WKT stored with the results where there is no code."""
    if epsg is None and not wkt:
        return NO_CRS
    from pyproj import CRS  # late: it opens a database
    from pyproj.exceptions import CRSError

    source: Any = int(epsg) if epsg is not None else wkt
    try:
        crs = CRS.from_user_input(source)
    except CRSError:
        # A code this PROJ does not know is still worth naming; that it is metric is the
        # usual case for imagery, and the ticks are right either way.
        return MapCrs(f"EPSG:{epsg}", "projected") if epsg is not None else NO_CRS
    label = crs.name if epsg is None else f"{crs.name} (EPSG:{epsg})"
    if crs.is_geographic:
        return MapCrs(label, "geographic")
    factor = crs.axis_info[0].unit_conversion_factor if crs.axis_info else 1.0
    return MapCrs(label, "projected", factor or 1.0)
