"""Pixels that NEON's own quality layers advise against.

Layers lie in ``Metadata/Ancillary_Imagery`` of a tile. What their values mean:

- ``Weather_Quality_Indicator``: cloud cover during the flight, below 10 %, 10 to 50 %, above;
  colours in DP3.30006.001 (green, yellow, red), 1 to 3 in .002. NEON recommends the first.
- ``Cast_Shadow``: 0 in shadow, 1 in light; 241 or -9999 where there is no data.
- ``Haze_Cloud_Water_Map``: classes of ATCOR, whose names the file may list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene.ancillary import find_image, read_images
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.formats.neon import NeonScene
from hyperhpc.scene.hdf5_files import READ_ERRORS, open_file
from hyperhpc.scene.masked import MaskedScene, count_hidden, mask_scene
from hyperhpc.scene.metadata import plain

_LAYERS = {
    "weather": "Weather_Quality_Indicator",
    "shadow": "Cast_Shadow",
    "cloud": "Haze_Cloud_Water_Map",
}
#: ATCOR's classes of cirrus over water and land, haze over land, and clouds.
_ATCOR_CLOUDS = (2, 3, 4, 8, 9, 10, 11, 12, 15, 16, 18, 19)
_CLOUD_WORDS = ("cloud", "cirrus", "haze")


@dataclass(frozen=True)
class QualityMask:
    """Hides the pixels that layers of a NEON file advise against.

    Attributes
    ----------
    path
        The file.
    layers
        What is hidden, of ``weather``, ``shadow`` and ``cloud``, and by which image of it.
    clouds
        Classes of Haze_Cloud_Water_Map that count as clouds.
    """

    path: str
    layers: tuple[tuple[str, str], ...]
    clouds: tuple[int, ...]

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True where any of the layers advises against a pixel."""
        layers = read_images(self.path, tuple(layer for _, layer in self.layers), rows, cols)
        found = [
            _advises_against(name, layer, self.clouds)
            for (name, _), layer in zip(self.layers, layers, strict=True)
        ]
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


def mask_quality(scene: NeonScene, names: tuple[str, ...]) -> MaskedScene:
    """A NEON scene without the pixels that its quality layers advise against.

    Parameters
    ----------
    names
        Of :data:`hyperhpc.config.MASKS`.

    Raises
    ------
    SceneError
        A layer is missing, or not of the shape of the cube.
    """
    metadata = f"{scene.dataset.rpartition('/')[0]}/Metadata"
    layers: list[tuple[str, str]] = []
    clouds: tuple[int, ...] = _ATCOR_CLOUDS
    try:
        with open_file(scene.path) as file:
            for name in names:
                found = find_image(file[metadata], _LAYERS[name]) if metadata in file else None
                shape = file[found].shape if found else ()
                if found is None or tuple(shape[:2]) != scene.shape[:2]:
                    problem = f"its shape is {shape}" if found else "it is missing"
                    raise SceneError(
                        f"--mask {name} needs {_LAYERS[name]} in {scene.path}: {problem}.",
                        "Leave that mask out, or give NEON's mosaic tiles (DP3.30006).",
                    )
                layers.append((name, found))
                if name == "cloud":
                    clouds = _cloud_classes(file[found].attrs.get("Class_Names"))
    except READ_ERRORS as error:
        raise SceneError(
            f"The quality layers of {scene.path} cannot be read: {cause(error)}.",
            "The file is truncated or damaged; download it again.",
        ) from error
    return mask_scene(scene, QualityMask(scene.path, tuple(layers), clouds))


def tell_hidden(scene: Scene, members: Sequence[Scene], names: tuple[str, ...]) -> Scene:
    """A scene with a note on how many pixels of its files are left out."""
    n_hidden = sum(
        count_hidden(member.mask, member.shape)
        for member in members
        if isinstance(member, MaskedScene)
    )
    note = f"{n_hidden} pixels are left out by their quality ({', '.join(names)})."
    return dataclasses.replace(scene, notes=(*scene.notes, note))


def _cloud_classes(listed: Any) -> tuple[int, ...]:
    """Classes whose names speak of clouds; ATCOR's own numbers where no names are listed."""
    names = plain(listed) if listed is not None else []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return _ATCOR_CLOUDS
    found = tuple(
        number
        for number, name in enumerate(names)
        if any(word in name.lower() for word in _CLOUD_WORDS) and "glint" not in name.lower()
    )
    return found or _ATCOR_CLOUDS
