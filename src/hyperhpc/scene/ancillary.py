"""Images that NEON delivers beside a cube, in the group Metadata of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene.cube import NO_SOURCE, Source, source_of
from hyperhpc.scene.hdf5_files import READ_ERRORS, open_file
from hyperhpc.scene.metadata import plain

#: In tiles of DP3.30006.001; the other products write it with capitals.
ZENITH = "to-sensor_zenith_angle"
#: In tiles of DP3.30006.002: the day of each pixel.
DATES = "Acquisition_Date"
#: In all tiles: the flight line of each pixel, a position in the list of its attribute.
_LINES, _LISTED = "Data_Selection_Index", "Data_Files"


def find_image(metadata: Mapping[str, Any], name: str) -> str | None:
    """Full name of an image in this group or in Ancillary_Imagery, whatever its capitals."""
    import h5py

    for group in (metadata, metadata.get("Ancillary_Imagery")):
        members = group if isinstance(group, Mapping) else {}
        for key in members:
            if key.lower() == name.lower() and isinstance(members[key], h5py.Dataset):
                return str(members[key].name)
    return None


def find_integers(metadata: Mapping[str, Any], name: str, shape: tuple[int, ...]) -> str | None:
    """Full name of an image of integers (y, x) of a cube of this shape, or None."""
    found = find_image(metadata, name)
    if found is None:
        return None
    image = metadata[found]
    return found if image.shape == shape[:2] and image.dtype.kind in "iu" else None


def find_flight_lines(
    metadata: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[str | None, tuple[Source, ...]]:
    """Full name of the image of flight lines, and what it counts; nothing if either lacks."""
    found = find_integers(metadata, _LINES, shape)
    listed = plain(metadata[found].attrs.get(_LISTED)) if found else None
    names = listed.split(",") if isinstance(listed, str) else listed
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None, ()
    lines = tuple(source_of(name.strip()) for name in names)
    return (found, lines) if len(lines) < NO_SOURCE else (None, ())


def read_images(
    path: str, names: tuple[str, ...], rows: slice, cols: slice
) -> list[np.ndarray]:
    """Windows of images as they are stored (y, x, ...); slices as in :meth:`Scene.read`.

    Raises
    ------
    SceneError
        The file is damaged.
    """
    if not names:
        return []
    whole = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
    step = slice(None, None, rows.step or 1), slice(None, None, cols.step or 1)
    try:
        with open_file(path) as file:  # HDF5 is slow at strides: they are taken in memory
            return [np.asarray(file[name][whole])[step] for name in names]
    except READ_ERRORS as error:
        raise SceneError(
            f"{', '.join(names)} of {path} cannot be read: {cause(error)}.",
            "The file is truncated or damaged; download it again.",
        ) from error
