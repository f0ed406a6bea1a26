"""Write simulated scenes as Zarr stores, and the map of true classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyproj
import zarr

from hyperhpc.scene.cube import Grid
from hyperhpc.scene.formats import zarr_write
from hyperhpc.simulate import materials

_TRUTH_CHUNK = 512
_ABOUT = {"Conventions": "CF-1.11", "title": "Scene simulated by hyperhpc"}


def simulated_grid() -> Grid:
    """The grid of all simulated scenes: NEON's site CPER, UTM zone 13 N, pixels of 1 m."""
    crs = pyproj.CRS.from_epsg(32613)
    return Grid(xmin=517000.0, ymax=4526000.0, px=1.0, py=1.0, wkt=crs.to_wkt(), epsg=32613)


class ZarrWriter:
    """Zarr store: group ``reflectance`` with ``reflectance`` (y, x, wl) and coordinates.

    Its layout is that of :mod:`hyperhpc.scene.formats.zarr_write`; ``shape`` is (rows, columns,
    bands). Blocks of ``block`` rows and columns, at the far edges smaller ones, come in any order.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int], zarr_format: Literal[2, 3]) -> None:
        wavelength_nm = materials.band_centres(shape[2])
        about = zarr_write.CubeDescription(
            shape=shape,
            dtype="int16",
            grid=simulated_grid(),
            wavelength_nm=wavelength_nm,
            fwhm_nm=materials.band_widths(wavelength_nm),
            scale_factor=materials.SCALE_FACTOR,
            nodata=(materials.NODATA,),
            bad_band_windows_nm=materials.WATER_WINDOWS_NM,
            attributes={"long_name": "surface reflectance (simulated)"},
            title=_ABOUT["title"],
        )
        zarr_write.create_cube_store(path, about, zarr_format)
        self._store = zarr_write.CubeStore(path, threads=len(os.sched_getaffinity(0)))
        self.block = self._store.block

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        """Complete the store, unless an error was raised."""
        if kind is None:
            self._store.finish()

    def put(self, row: int, col: int, dn: np.ndarray) -> None:
        """Store one block; it must cover whole shards or reach the edge of the scene."""
        self._store.put(row, col, dn)


class TruthMapWriter:
    """Map of true classes: Zarr v2, ``true_class`` uint8 (y, x), 255 = no-data.

    Blocks may have any place and size; one thread writes the chunks.
    """

    def __init__(self, path: Path, rows: int, cols: int) -> None:
        root = zarr.create_group(path, zarr_format=2, attributes=_ABOUT)
        self._map = zarr_write.create_array(
            root,
            "true_class",
            ("y", "x"),
            shape=(rows, cols),
            dtype="uint8",
            chunks=(min(rows, _TRUTH_CHUNK), min(cols, _TRUTH_CHUNK)),
            fill_value=None,  # xarray would take it for a mask and give floats
            attributes={
                "long_name": "class with the largest share of the pixel",
                "flag_values": list(range(len(materials.CLASS_NAMES))),
                "flag_meanings": " ".join(materials.CLASS_NAMES),
                "missing_class": 255,
                "grid_mapping": "spatial_ref",
            },
        )
        zarr_write.write_georeference(root, simulated_grid(), rows, cols)
        zarr_write.consolidate(path)

    def put(self, row: int, col: int, classes: np.ndarray) -> None:
        """Store the classes of one block."""
        self._map[row : row + classes.shape[0], col : col + classes.shape[1]] = classes
