"""Which file of a scene is damaged: found only when a window could not be read."""

from __future__ import annotations

import os
from collections import deque
from itertools import product

from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.window import describe_window, mirror


def find_damaged_chunk(scene: Scene, rows: slice, cols: slice, bands: slice) -> str | None:
    """Read the stored chunks of a window one by one; the first that cannot be read, in words.

    Parameters
    ----------
    rows, cols, bands
        Slices with start and stop, step 1.
    """
    unit = scene.shards or scene.chunks
    ranges = [
        range(part.start // size * size, part.stop, size)
        for part, size in zip((rows, cols, bands), unit, strict=True)
    ]
    for first in product(*ranges):
        place = [
            slice(max(start, part.start), min(start + size, part.stop))
            for start, part, size in zip(first, (rows, cols, bands), unit, strict=True)
        ]
        try:
            if place[2].stop - place[2].start == scene.shape[2]:
                deque(scene.blocks(place[0], place[1]), maxlen=0)  # as the passes read it
            else:
                scene.read(*place)
        except SceneError:
            return _name(scene, place)
    return None


def _name(scene: Scene, place: list[slice]) -> str:
    from hyperhpc.scene.formats.zarr import ZarrScene, open_array

    if not isinstance(scene, ZarrScene):
        return f"the chunk at {describe_window(*place)}"
    array = open_array(scene.store, scene.array, scene.zarr_format)
    if scene.is_south_up:
        place = [mirror(place[0], scene.shape[0]), *place[1:]]
    stored = array.shards or array.chunks
    key = [0, 0, 0]
    for axis, part in zip(scene.order, place, strict=True):
        key[axis] = part.start // stored[axis]
    name = array.metadata.encode_chunk_key(tuple(key))
    return f"chunk file {os.path.join(scene.store, scene.array, name)}"
