"""Reference systems, however they are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from pyproj import CRS
from rasterio import Affine

from hyperhpc.compute.stores import create_group, create_store
from hyperhpc.scene import open_scene, to_xarray
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.formats.zarr_write import CubeDescription, create_cube_store, write_georeference
from hyperhpc.scene.georef import axis_attributes, is_same_crs
from hyperhpc.schema import CLUSTER
from raster_case import cube, write_tiff

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


def in_feet() -> Grid:
    """A grid of 40 x 50 pixels of 3 US feet: California's state plane, zone 1."""
    return Grid(6_000_000.0, 2_100_000.0, 3.0, 3.0, CRS.from_epsg(2225).to_wkt(), 2225)


def write_ingested(path: Path, grid: Grid) -> str:
    described = CubeDescription(
        shape=(40, 50, 3),
        dtype="int16",
        grid=grid,
        wavelength_nm=np.array([500.0, 600.0, 700.0]),
        fwhm_nm=None,
        scale_factor=10000.0,
        nodata=(-9999.0,),
    )
    create_cube_store(path, described)
    return "reflectance"


def write_results(path: Path, grid: Grid) -> str:
    group = create_store(path)
    create_group(group, {CLUSTER: ["kmeans"]}, grid, (40, 50), (20, 20), {})
    return ""


def write_class_map(path: Path, grid: Grid) -> str:
    write_georeference(zarr.create_group(path, zarr_format=2), grid, 40, 50)
    return ""


@pytest.mark.parametrize("write", [write_ingested, write_results, write_class_map])
def test_stores__unit_is_that_of_the_crs(write: Any, tmp_path: Path) -> None:
    store = tmp_path / "s"
    group = zarr.open_group(store, mode="r", path=write(store, in_feet()))
    for name in ("x", "y"):
        assert group[name].attrs["units"] == "US_survey_foot"
        assert group[name].attrs["standard_name"] == f"projection_{name}_coordinate"
    mapping = group["spatial_ref"].attrs
    assert CRS.from_wkt(str(mapping["crs_wkt"])) == CRS.from_epsg(2225)
    assert mapping["GeoTransform"] == "6000000.0 3.0 0.0 2100000.0 0.0 -3.0"
    np.testing.assert_array_equal(np.asarray(group["x"])[:2], [6_000_001.5, 6_000_004.5])


@pytest.mark.parametrize(
    ("epsg", "unit"),
    [
        (32613, ("m", "m")),
        (2225, ("US_survey_foot", "US_survey_foot")),
        (2222, ("foot", "foot")),
        (4326, ("degrees_east", "degrees_north")),
    ],
)
def test_axis_attributes__units(epsg: int, unit: tuple[str, str]) -> None:
    about = axis_attributes(grid(CRS.from_epsg(epsg).to_wkt(), epsg))
    assert (about["x"]["units"], about["y"]["units"]) == unit
    assert (about["x"]["axis"], about["y"]["axis"]) == ("X", "Y")


def test_axis_attributes__no_unit_without_a_crs() -> None:
    assert axis_attributes(grid()) == {"y": {"axis": "Y"}, "x": {"axis": "X"}}


def test_to_xarray__unit_is_that_of_the_crs(tmp_path: Path) -> None:
    feet = in_feet()
    transform = Affine(feet.px, 0, feet.xmin, 0, -feet.py, feet.ymax)
    path = write_tiff(tmp_path / "s.tif", cube(), crs="EPSG:2225", transform=transform)
    array = to_xarray(open_scene(path))
    assert array["x"].attrs["units"] == array["y"].attrs["units"] == "US_survey_foot"
