"""Images that NEON delivers beside a cube, in the group Metadata of its file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene.hdf5_files import READ_ERRORS, open_file

#: In tiles of DP3.30006.001; the other products write it with capitals.
ZENITH = "to-sensor_zenith_angle"


def find_image(metadata: Mapping[str, Any], name: str) -> str | None:
    """Full name of an image in this group or in Ancillary_Imagery, whatever its capitals."""
    import h5py

    for group in (metadata, metadata.get("Ancillary_Imagery")):
        members = group if isinstance(group, Mapping) else {}
        for key in members:
            if key.lower() == name.lower() and isinstance(members[key], h5py.Dataset):
                return str(members[key].name)
    return None


def read_images(
    path: str, names: tuple[str, ...], rows: slice, cols: slice
) -> list[np.ndarray]:
    """Windows of images as they are stored (y, x, ...); slices as in :meth:`Scene.read`.

    Raises
    ------
    SceneError
        The file is damaged.
    """
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
