"""The Zarr stores of a run: made empty from the data dictionary, filled by windows.

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

from hyperhpc.scene.cube import Grid
from hyperhpc.scene.georef import grid_mapping_attributes
from hyperhpc.schema import Variable, fill_value

#: A few percent larger than Zstandard makes it, and written several times as fast
#: (docs/decisions/0021).
COMPRESSOR = Blosc(cname="lz4", clevel=5, shuffle=Blosc.SHUFFLE)


def create_group(
    group: zarr.Group,
    variables: Mapping[Variable, Sequence[str]],
    grid: Grid,
    shape: tuple[int, int],
    chunk: tuple[int, int],
    attributes: Mapping[str, Any],
) -> None:
    """Fill an empty group with coordinates and empty arrays.

    Parameters
    ----------
    variables
        Each variable with the labels along its first dimension.
    grid
        Georeference of the rows and columns of these arrays.
    shape, chunk
        (rows, columns) of the arrays and of their chunks.
    attributes
        Of the group.
    """
    group.attrs.update(dict(attributes))
    height, width = shape
    coordinates: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "y": (grid.y_centres(0, height), _axis("y", grid)),
        "x": (grid.x_centres(0, width), _axis("x", grid)),
    }
    for variable, labels in variables.items():
        dimension = variable.dims[0]
        width_of = max([1, *map(len, labels)])
        coordinates[dimension] = (
            np.array(labels, dtype=f"<U{width_of}"),
            {"long_name": dimension},
        )
    for name, (values, about) in coordinates.items():
        _create(group, name, values.shape, values.shape, values.dtype, None, (name,), about)
        if values.size:
            group[name][:] = values  # type: ignore[index]
    _create(
        group, "spatial_ref", (), (), np.dtype("int64"), None, (), grid_mapping_attributes(grid)
    )
    group["spatial_ref"][...] = 0  # type: ignore[index]
    for variable, labels in variables.items():
        described: dict[str, Any] = {
            "long_name": variable.about,
            "units": variable.unit,
            "grid_mapping": "spatial_ref",
            # xarray makes a coordinate of what is named here, also without being asked
            "coordinates": "spatial_ref",
        }
        if grid.wkt:
            described["_CRS"] = {"wkt": grid.wkt}  # where GDAL looks
        _create(
            group,
            variable.name,
            (len(labels), height, width),
            (1, min(chunk[0], height), min(chunk[1], width)),
            np.dtype(variable.dtype),
            variable,
            variable.dims,
            described,
        )


def _create(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype,
    variable: Variable | None,
    dims: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> None:
    fill = fill_value(variable) if variable else None
    is_integer = np.issubdtype(dtype, np.integer)
    array = group.create_array(
        name,
        shape=shape,
        chunks=tuple(max(side, 1) for side in chunks),
        dtype=dtype,
        compressors=COMPRESSOR if variable else None,
        # Of integers xarray would make floats if there were a fill value; so the missing
        # label is written, and a pixel no tile has reached yet reads as missing too
        fill_value=None if is_integer else fill,
        attributes={"_ARRAY_DIMENSIONS": list(dims), **attributes},
        config={"write_empty_chunks": is_integer},
    )
    if variable and is_integer:
        for rows in range(0, shape[-2], chunks[-2]):
            array[:, rows : rows + chunks[-2]] = variable.missing or 0


def _axis(name: str, grid: Grid) -> dict[str, Any]:
    from pyproj import CRS

    if grid.wkt and CRS.from_wkt(grid.wkt).is_geographic:
        standard, unit = {
            "x": ("longitude", "degrees_east"),
            "y": ("latitude", "degrees_north"),
        }[name]
    else:
        standard, unit = f"projection_{name}_coordinate", "m"
    return {"standard_name": standard, "units": unit, "axis": name.upper()}


def create_store(path: Path) -> zarr.Group:
    """An empty Zarr v2 store."""
    return zarr.create_group(str(path), zarr_format=2)


def consolidate(path: Path) -> None:
    """Put all metadata into one file, so that opening takes one read."""
    zarr.consolidate_metadata(str(path), zarr_format=2)


def mark(path: Path, **attributes: Any) -> None:
    """Set attributes of a store, in the consolidated metadata too.

    Both are written whether they differ or not: a run killed between the two has left the
    attributes right and the consolidated metadata, which some readers take, wrong.
    """
    group = zarr.open_group(str(path), mode="r+", use_consolidated=False)
    group.attrs.update(attributes)
    consolidate(path)
