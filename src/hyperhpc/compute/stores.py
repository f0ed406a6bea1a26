"""The Zarr stores of a run: created empty from ``schema``, then filled in windows.

Zarr v2, because GDAL, R and plain ``xarray.open_zarr`` all read it
(docs/decisions/0001). One chunk is one tile, so no two tasks write the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numcodecs import Blosc

from hyperhpc.files import check_guard
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.formats.zarr_guard import GuardedStore
from hyperhpc.scene.georef import cf_georeference
from hyperhpc.schema import Variable, fill_value, flag_meaning

Shape = tuple[int, ...]

#: Files are a few percent larger than with Zstandard, and written several times as fast
#: (docs/decisions/0021).
COMPRESSOR = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)


def create_store(path: Path) -> zarr.Group:
    """Create an empty Zarr v2 store."""
    return zarr.create_group(str(path), zarr_format=2)


def consolidate(path: Path) -> None:
    """Copy all metadata into one file, so that opening the store takes one read."""
    zarr.consolidate_metadata(str(path), zarr_format=2)


def set_attributes(path: Path, **attributes: Any) -> None:
    """Set attributes of a store, in the consolidated metadata too.

    Both are written even if nothing changes: a run killed between the two has left right
    attributes but wrong consolidated metadata, which some readers use.
    """
    check_guard(path)
    group = zarr.open_group(GuardedStore(path), mode="r+", use_consolidated=False)
    group.attrs.update(attributes)
    consolidate(path)


def create_group(
    group: zarr.Group,
    variables: Mapping[Variable, Sequence[str]],
    grid: Grid,
    shape: tuple[int, int],
    chunk: tuple[int, int],
    attributes: Mapping[str, Any],
) -> None:
    """Fill an empty group with coordinates and empty arrays.

    ``variables``: Each variable with the labels along its first dimension, or with the meanings
        of its codes; a single map of nothing is left out.
    ``shape``, ``chunk``: (rows, columns) of the arrays and of their chunks.
    """
    group.attrs.update(dict(attributes))
    height, width = shape
    for name, coordinate in cf_georeference(grid, height, width).items():
        _create_coordinate(group, name, *coordinate)
    layered = {v: labels for v, labels in variables.items() if not v.is_single}
    for variable, labels in layered.items():
        name = variable.dims[0]
        values = np.array(labels, dtype=np.str_)
        _create_coordinate(group, name, (name,), values, {"long_name": name})
    for variable, labels in variables.items():
        if variable in layered:
            _create_variable(group, variable, (len(labels), height, width), chunk, grid)
        elif labels:
            array = _create_variable(group, variable, (height, width), chunk, grid)
            if variable.is_coded:
                codes, meanings = list(range(len(labels))), " ".join(map(flag_meaning, labels))
                array.attrs.update({"flag_values": codes, "flag_meanings": meanings})


def _create_coordinate(
    group: zarr.Group, name: str, dims: tuple, values: np.ndarray, attributes: Mapping[str, Any]
) -> None:
    """Create an array of one chunk without compression."""
    group.create_array(
        name,
        data=values,
        chunks=tuple(max(side, 1) for side in values.shape),
        compressors=None,
        fill_value=None,
        attributes={"_ARRAY_DIMENSIONS": list(dims), **attributes},
        config={"write_empty_chunks": np.issubdtype(values.dtype, np.integer)},
    )


def _create_variable(
    group: zarr.Group, variable: Variable, shape: Shape, chunk: Shape, grid: Grid
) -> zarr.Array:
    attributes: dict[str, Any] = {
        "_ARRAY_DIMENSIONS": list(variable.dims),
        "long_name": variable.about,
        "units": variable.unit,
        "grid_mapping": "spatial_ref",
        # xarray makes a coordinate of what is named here, without an option
        "coordinates": "spatial_ref",
    }
    if grid.wkt:
        attributes["_CRS"] = {"wkt": grid.wkt}  # where GDAL looks
    # GDAL takes the fill value for no-data. A chunk of missing labels is written all the same, so
    # that one that was lost is noticed (docs/decisions/0031)
    is_integer = np.issubdtype(np.dtype(variable.dtype), np.integer)
    rows, cols = (max(min(pair), 1) for pair in zip(chunk, shape[-2:], strict=True))
    array = group.create_array(
        variable.name,
        shape=shape,
        dtype=variable.dtype,
        chunks=(rows, cols) if variable.is_single else (1, rows, cols),
        compressors=COMPRESSOR,
        fill_value=fill_value(variable),
        attributes=attributes,
        config={"write_empty_chunks": is_integer},
    )
    if is_integer:
        for row in range(0, shape[-2], rows):
            array[..., row : row + rows, :] = variable.missing or 0
    return array
