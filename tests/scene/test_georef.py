"""Reference systems, however they are written."""

from __future__ import annotations

import pytest
from pyproj import CRS

from hyperhpc.scene.cube import Grid
from hyperhpc.scene.georef import is_same_crs

UTM = CRS.from_epsg(32611)
OTHER = CRS.from_epsg(32612)
#: UTM zone 11 on GRS 1980 in words of one's own: no code fits it.
OWN = CRS.from_proj4("+proj=utm +zone=11 +ellps=GRS80 +units=m +type=crs")


def grid(wkt: str | None = None, epsg: int | None = None) -> Grid:
    return Grid(0.0, 0.0, 1.0, 1.0, wkt, epsg)


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        (grid(), grid(), True),
        (grid(UTM.to_wkt(), 32611), grid(), False),
        (grid(UTM.to_wkt(), 32611), grid(UTM.to_wkt("WKT1_GDAL"), 32611), True),
        (grid(UTM.to_wkt(), 32611), grid(OTHER.to_wkt(), 32612), False),
        # one of them lost its code on the way
        (grid(UTM.to_wkt(), 32611), grid(UTM.to_wkt("WKT1_GDAL")), True),
        (grid(UTM.to_wkt(), 32611), grid(OTHER.to_wkt("WKT1_GDAL")), False),
        (grid(OWN.to_wkt()), grid(OWN.to_wkt("WKT1_GDAL")), True),
        (grid(OWN.to_wkt()), grid(UTM.to_wkt(), 32611), False),
    ],
)
def test_is_same_crs(one: Grid, other: Grid, is_same: bool) -> None:
    assert is_same_crs(one, other) is is_same
    assert is_same_crs(other, one) is is_same
