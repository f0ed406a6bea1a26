"""The formats of scenes: each is one module here, with its helpers, and one row of FORMATS.

neon (NEON's HDF5 files; neon_layers: their images besides the cube) | hdf5 (checks and fast
chunks) | raster (ENVI and GeoTIFF; raster_read: their windows; raster_bands: their bands;
envi_header: the text of ENVI's headers) | zarr (zarr_layout: what a store holds; zarr_chunks: fast
chunks; zarr_guard: which codecs are read; zarr_write: new stores) | centres (files of band centres
alone). ``docs/add-a-format.md`` shows how to add a format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hyperhpc.scene.formats.hdf5 import is_hdf5
from hyperhpc.scene.formats.raster_read import is_envi, is_tiff
from hyperhpc.scene.formats.zarr_layout import is_zarr


@dataclass(frozen=True)
class Format:
    """A format of scenes.

    ``name``: What messages call it.
    ``is_format``: Tells by content, in a few milliseconds, whether a file or folder is of it.
    ``opener``: ``module:function``, imported on first use because libraries take long to import:
        ``(path, group, wavelength_nm) -> Scene``, metadata and coordinates, no pixel. ``group`` is
        None or chooses one of several cubes; ``wavelength_nm`` (band,) is None, or counts instead
        of the file's own centres.
    ``extensions``: Files in a folder that end so (lower case) are scenes; empty for stores.
    """

    name: str
    is_format: Callable[[str], bool]
    opener: str
    extensions: tuple[str, ...] = ()


#: All formats; the first that recognises a path opens it.
FORMATS = (
    Format("Zarr", is_zarr, f"{__name__}.zarr:open_zarr_scene"),
    Format("HDF5", is_hdf5, f"{__name__}.neon:open_neon_scene", (".h5", ".hdf5")),
    Format("GeoTIFF", is_tiff, f"{__name__}.raster:open_raster_scene", (".tif", ".tiff")),
    Format("ENVI", is_envi, f"{__name__}.raster:open_raster_scene", (".hdr",)),
)


def find_format(path: str) -> Format | None:
    """The format of an existing file or folder; None if it is of no known one.

    Raises OSError: the file cannot be read.
    """
    return next((row for row in FORMATS if row.is_format(path)), None)


def format_by_extension(path: str) -> str | None:
    """Name of the format that a file in a folder is of, by the end of its name."""
    return next((row.name for row in FORMATS if path.lower().endswith(row.extensions)), None)
