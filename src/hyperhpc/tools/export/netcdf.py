"""Maps as NetCDF-4, which is HDF5 with shared dimensions: written by h5py, strip by strip.

The packages by which xarray writes it are no dependencies of ours, and hold a whole variable in
memory. The CF conventions 1.11 say how variables name their grid, missing value and classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.results import STRIP_ROWS, RunResults
from hyperhpc.scene.georef import axis_attributes, grid_mapping_attributes
from hyperhpc.schema import NOT_CLUSTERED, NOT_CLUSTERED_TITLE
from hyperhpc.tools.export.bands import Band
from hyperhpc.version import __version__

#: Name of the variable that holds the reference system.
_CRS = "spatial_ref"
_CONVENTIONS = "CF-1.11"


def write_netcdf(path: Path, results: RunResults, bands: Sequence[Band]) -> None:
    """Write maps as variables (y, x) of one file, compressed without loss.

    Coordinates ``y`` and ``x`` are pixel centres. Memory holds one strip.

    Raises OSError: the disk is full.
    """
    import h5py

    try:
        # netCDF shows variables in the order they were made
        with h5py.File(path, "w", track_order=True) as file:
            _write(file, results, bands)
    except RuntimeError as error:  # of HDF5, as it closes a file on a full disk
        raise OSError(" ".join(str(error).split()).rstrip(".")) from None


def _write(file: Any, results: RunResults, bands: Sequence[Band]) -> None:
    height, width = results.shape
    _set(file, {"Conventions": _CONVENTIONS, "source": f"hyperhpc {__version__}"})
    about = axis_attributes(results.grid)
    axes = {"y": results.grid.y_centres(0, height), "x": results.grid.x_centres(0, width)}
    for name, centres in axes.items():
        axis = file.create_dataset(name, data=centres, track_order=True)
        _set(axis, about[name])
        axis.make_scale(name)
    _set(file.create_dataset(_CRS, data=np.int32(0)), grid_mapping_attributes(results.grid))
    for band in bands:
        name = f"map_{band.name}" if band.name in file else band.name
        missing = np.dtype(band.variable.dtype).type(band.variable.missing)
        variable = file.create_dataset(
            name, (height, width), band.variable.dtype, track_order=True, fillvalue=missing,
            chunks=(min(STRIP_ROWS, height), min(STRIP_ROWS, width)),
            compression="gzip", compression_opts=4, shuffle=True,
        )  # fmt: skip
        for number, axis in enumerate(axes):
            variable.dims[number].attach_scale(file[axis])
        variable.attrs["_FillValue"] = np.array([missing])
        _set(variable, _describe(results, band))
        for rows in results.strips():
            variable[rows] = band.read(rows)


def _describe(results: RunResults, band: Band) -> dict[str, Any]:
    """Attributes of a map; classes as CF's flags."""
    words: dict[str, Any] = {"long_name": band.name, **band.tags}
    words |= {"units": band.variable.unit, "grid_mapping": _CRS}
    if band.classes:
        flags = {one.number: one.name for one in band.classes}
        if results.conditions:
            flags[NOT_CLUSTERED] = NOT_CLUSTERED_TITLE
        words["flag_values"] = np.array(list(flags), band.variable.dtype)
        words["flag_meanings"] = " ".join(_flag_words(flags))
    return words


def _flag_words(flags: Mapping[int, str]) -> list[str]:
    """Names as CF allows them, which differ from each other: ASCII, without spaces."""
    words: list[str] = []
    for number, name in flags.items():
        word = re.sub(r"[^\w.+@-]+", "_", name, flags=re.ASCII)
        if not word.strip("_"):
            word = f"class_{number}"
        words.append(f"{word}_{number}" if word in words else word)
    return words


def _set(item: Any, attributes: Mapping[str, Any]) -> None:
    """Attributes as netCDF knows them: text of fixed length, which older readers need."""
    for name, value in attributes.items():
        item.attrs[name] = np.bytes_(value.encode()) if isinstance(value, str) else value
