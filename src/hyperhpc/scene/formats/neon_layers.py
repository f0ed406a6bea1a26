"""Images in a NEON file besides the cube: angles, flight lines, days and quality layers.

They lie in the group Metadata. What the codes of the quality layers mean is for
:mod:`hyperhpc.scene.quality` to find out, from the attributes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from hyperhpc.scene.cube import LAYERS, NO_SOURCE, SUN_LAYERS, Layer, Source
from hyperhpc.scene.files import unreadable
from hyperhpc.scene.formats.hdf5 import READ_ERRORS, check_own, open_file
from hyperhpc.scene.metadata import can_hold, plain
from hyperhpc.scene.origins import source_from_name
from hyperhpc.scene.window import length

#: The day of each pixel, in tiles of DP3.30006.002.
DATES = "Acquisition_Date"
#: The flight line of each pixel, in all tiles, and the attribute that lists the lines.
_LINES, _LISTED = "Data_Selection_Index", "Data_Files"

#: Marks of pixels without a value in layers of bytes, and in all others.
_BYTE_MISSING, _MISSING = 241, -9999


def _find_dataset(metadata: Mapping[str, Any], name: str) -> h5py.Dataset | None:
    """An image in this group or in Ancillary_Imagery, whatever its capitals."""
    for group in (metadata, metadata.get("Ancillary_Imagery")):
        members = group if isinstance(group, Mapping) else {}
        for key in members:
            if key.lower() == name.lower() and isinstance(members[key], h5py.Dataset):
                check_own(members[key])
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
            for name in names:
                check_own(file[name])
            return [np.asarray(file[name][whole])[step] for name in names]
    except READ_ERRORS as error:
        raise unreadable(f"{', '.join(names)} of {path}", why=error) from error


# Layers besides the cube, for masks and stores.


def find_layers(path: str, dataset: str, shape: tuple[int, ...]) -> dict[str, Layer]:
    """The layers of a cube, by the names of :data:`hyperhpc.scene.cube.LAYERS`.

    ``dataset``: Full name of the cube. ``shape``: Of the cube.

    Raises SceneError: the file is damaged.
    """
    try:
        with open_file(path) as file:
            about = file.get(_metadata_of(dataset), {})
            images = {name: _find_dataset(about, name) for name in LAYERS}
            found = {
                name: _describe(image)
                for name, image in images.items()
                if image is not None and _is_layer(image, shape)
            }
            has_lines = find_flight_lines(about, shape)[0] is not None
            angles = {name: _read_sun(about, name) for name in SUN_LAYERS}
    except READ_ERRORS as error:
        raise unreadable(f"The layers of {path}", why=error) from error
    for name, known in angles.items():
        if len(known) == 1 or (known and has_lines):
            attributes = {"Units": "degrees", "Description": "of the flight line of each pixel"}
            found.setdefault(name, Layer("float32", _MISSING, 1, attributes))
    return found


def read_layers(
    path: str, dataset: str, shape: tuple[int, ...], rows: slice, cols: slice,
    names: Collection[str],
) -> dict[str, np.ndarray]:  # fmt: skip
    """Windows of layers; see :meth:`Scene.read_layers`.

    Raises SceneError: the file is damaged.
    """
    try:
        with open_file(path) as file:
            about = file.get(_metadata_of(dataset), {})
            images = {name: _find_dataset(about, name) for name in names}
            places = {name: image.name for name, image in images.items() if image is not None}
            angles = {name: _read_sun(about, name) for name in set(names) - set(places)}
            lines, sources = find_flight_lines(about, shape) if angles else (None, ())
    except READ_ERRORS as error:
        raise unreadable(f"The layers of {path}", why=error) from error
    if angles and lines:
        places[""] = lines
    read = read_images(path, list(places.values()), rows, cols)
    found = {name: _native(image) for name, image in zip(places, read, strict=True)}
    numbers = found.pop("", None)
    for name, known in angles.items():
        table = np.array([_angle_of(line.name, known) for line in sources] + [_MISSING], np.float32)
        if numbers is None or len(known) == 1:
            size = length(rows), length(cols)
            found[name] = np.full(size, next(iter(known.values())), np.float32)
        else:
            is_line = (numbers >= 0) & (numbers < len(sources))
            found[name] = table[np.where(is_line, numbers, len(sources))]
    return found


def _metadata_of(dataset: str) -> str:
    return f"{dataset.rpartition('/')[0]}/Metadata"


def _is_layer(image: h5py.Dataset, shape: tuple[int, ...]) -> bool:
    """True for numbers (y, x), or a picture (y, x, 3), of a cube of this shape."""
    return image.dtype.kind in "iuf" and image.shape in (shape[:2], (*shape[:2], 3))


def _describe(image: h5py.Dataset) -> Layer:
    """A layer without its values; attributes that are no text and no number are left out."""
    attributes = {name: plain(value) for name, value in image.attrs.items()}
    usual = _BYTE_MISSING if image.dtype.itemsize == 1 else _MISSING
    declared = attributes.get("Data_Ignore_Value")
    is_number = isinstance(declared, int | float) and can_hold(image.dtype, declared)
    missing = float(declared) if is_number and declared is not None else float(usual)
    known = {name: value for name, value in attributes.items() if _is_plain(value)}
    planes = image.shape[2] if image.ndim == 3 else 1
    return Layer(image.dtype.newbyteorder("=").name, missing, planes, known)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float)


def _native(image: np.ndarray) -> np.ndarray:
    return image.astype(image.dtype.newbyteorder("="), copy=False)


def _read_sun(about: Mapping[str, Any], name: str) -> dict[str, float]:
    """An angle of the sun by group of Logs: one per flight line, or one with an empty name."""
    logs = about.get("Logs")
    groups = dict(logs) if isinstance(logs, Mapping) else {}
    inside = {key: group for key, group in groups.items() if isinstance(group, Mapping)}
    values = {key: group.get(name) for key, group in {"": groups, **inside}.items()}
    found = {
        key: value
        for key, value in values.items()
        if isinstance(value, h5py.Dataset) and value.size == 1 and value.dtype.kind in "iuf"
    }
    for value in found.values():
        check_own(value)
    return {key: float(np.ravel(value[()])[0]) for key, value in found.items()}


def _angle_of(line: str, known: Mapping[str, float]) -> float:
    """The angle of a flight line, whose file has the name of its group of Logs in its own."""
    return next((angle for key, angle in known.items() if key and key in line), _MISSING)
