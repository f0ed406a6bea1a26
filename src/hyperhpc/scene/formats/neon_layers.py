"""Images in a NEON file besides the cube: view angles, flight lines, days, quality layers.

They lie in the group Metadata. What the values of the quality layers mean:

- ``Weather_Quality_Indicator``: cloud cover during the flight, below 10 %, 10 to 50 %, above;
  colours in DP3.30006.001 (green, yellow, red), 1 to 3 in .002. NEON recommends the first.
- ``Cast_Shadow``: 0 in shadow, 1 in light; 241 or -9999 where there is no data.
- ``Haze_Cloud_Water_Map``: classes of ATCOR, whose names the file may list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import NO_SOURCE, Source
from hyperhpc.scene.files import unreadable
from hyperhpc.scene.formats.hdf5 import READ_ERRORS, open_file
from hyperhpc.scene.metadata import plain
from hyperhpc.scene.origins import source_from_name

#: Name in tiles of DP3.30006.001; the other products write it with capitals.
ZENITH = "to-sensor_zenith_angle"
#: The day of each pixel, in tiles of DP3.30006.002.
DATES = "Acquisition_Date"
#: The flight line of each pixel, in all tiles, and the attribute that lists the lines.
_LINES, _LISTED = "Data_Selection_Index", "Data_Files"

_LAYERS = {
    "weather": "Weather_Quality_Indicator",
    "shadow": "Cast_Shadow",
    "cloud": "Haze_Cloud_Water_Map",
}
#: ATCOR's classes of cirrus over water and land, haze over land, and clouds.
_ATCOR_CLOUDS = (2, 3, 4, 8, 9, 10, 11, 12, 15, 16, 18, 19)
_CLOUD_WORDS = ("cloud", "cirrus", "haze")


def _find_dataset(metadata: Mapping[str, Any], name: str) -> h5py.Dataset | None:
    """An image in this group or in Ancillary_Imagery, whatever its capitals."""
    for group in (metadata, metadata.get("Ancillary_Imagery")):
        members = group if isinstance(group, Mapping) else {}
        for key in members:
            if key.lower() == name.lower() and isinstance(members[key], h5py.Dataset):
                return members[key]
    return None


def find_image(
    metadata: Mapping[str, Any], name: str, shape: tuple[int, ...], kinds: str = "iuf"
) -> str | None:
    """Full name of an image (y, x) of a cube of this shape, of numbers of these kinds, or None."""
    image = _find_dataset(metadata, name)
    if image is None or image.shape != shape[:2] or image.dtype.kind not in kinds:
        return None
    return str(image.name)


def find_flight_lines(
    metadata: Mapping[str, Any], shape: tuple[int, ...]
) -> tuple[str | None, tuple[Source, ...]]:
    """Full name of the image of flight lines, and what it counts; nothing if either lacks."""
    found = find_image(metadata, _LINES, shape, "iu")
    listed = plain(metadata[found].attrs.get(_LISTED)) if found else None
    names = listed.split(",") if isinstance(listed, str) else listed
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None, ()
    lines = tuple(source_from_name(name.strip()) for name in names)
    return (found, lines) if len(lines) < NO_SOURCE else (None, ())


def read_images(path: str, names: Sequence[str], rows: slice, cols: slice) -> list[np.ndarray]:
    """Windows of images as they are stored (y, x, ...); slices as in :meth:`Scene.read`.

    Raises SceneError: the file is damaged.
    """
    if not names:
        return []
    whole = slice(rows.start, rows.stop), slice(cols.start, cols.stop)
    step = slice(None, None, rows.step or 1), slice(None, None, cols.step or 1)
    try:
        with open_file(path) as file:  # HDF5 is slow at strides: they are taken in memory
            return [np.asarray(file[name][whole])[step] for name in names]
    except READ_ERRORS as error:
        raise unreadable(f"{', '.join(names)} of {path}", why=error) from error


@dataclass(frozen=True)
class QualityMask:
    """Hides the pixels that layers of a NEON file advise against.

    ``layers``: What is hidden, of ``weather``, ``shadow`` and ``cloud``, and by which image.
    ``clouds``: Classes of Haze_Cloud_Water_Map that count as clouds.
    """

    path: str
    layers: tuple[tuple[str, str], ...]
    clouds: tuple[int, ...]

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True where any of the layers advises against a pixel."""
        names, paths = zip(*self.layers, strict=True)
        images = zip(names, read_images(self.path, paths, rows, cols), strict=True)
        found = [_advises_against(name, image, self.clouds) for name, image in images]
        return np.logical_or.reduce(found)

    def fingerprint(self) -> Any:
        """The names; the file is the scene's own."""
        return {"quality": [name for name, _ in self.layers]}


def _advises_against(name: str, layer: np.ndarray, clouds: tuple[int, ...]) -> np.ndarray:
    """Bool (y, x) of one layer as stored."""
    if name == "shadow":
        return layer == 0
    if name == "cloud":
        return np.isin(layer, clouds)
    if layer.ndim == 2:
        return layer >= 2
    return layer[..., 0] == 255  # yellow and red


def open_quality_mask(
    path: str, dataset: str, shape: tuple[int, ...], names: tuple[str, ...]
) -> QualityMask:
    """The pixels of a cube that quality layers advise against; see :meth:`Scene.quality_mask`."""
    metadata = f"{dataset.rpartition('/')[0]}/Metadata"
    layers: list[tuple[str, str]] = []
    clouds: tuple[int, ...] = _ATCOR_CLOUDS
    try:
        with open_file(path) as file:
            for name in names:
                layer = _find_dataset(file.get(metadata, {}), _LAYERS[name])
                if layer is None or layer.shape[:2] != shape[:2]:
                    problem = "it is missing" if layer is None else f"its shape is {layer.shape}"
                    raise SceneError(
                        f"--mask {name} needs {_LAYERS[name]} in {path}: {problem}",
                        "Leave out that mask, or give NEON's mosaic tiles (DP3.30006)",
                    )
                layers.append((name, layer.name))
                if name == "cloud":
                    clouds = _cloud_classes(layer.attrs.get("Class_Names"))
    except READ_ERRORS as error:
        raise unreadable(f"The quality layers of {path}", why=error) from error
    return QualityMask(path, tuple(layers), clouds)


def _cloud_classes(listed: Any) -> tuple[int, ...]:
    """Classes whose names mean clouds; ATCOR's numbers if the file lists no names."""
    names = plain(listed) if listed is not None else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return _ATCOR_CLOUDS
    found = tuple(
        number
        for number, name in enumerate(names)
        if any(word in name.lower() for word in _CLOUD_WORDS) and "glint" not in name.lower()
    )
    return found or _ATCOR_CLOUDS
