"""The levels of each map: where they are stored, and how a window of them is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import zarr

from hyperhpc.analysis.spectra import to_reflectance
from hyperhpc.schema import CLUSTER, COLORS, INDICES, QUICKLOOK
from hyperhpc.view.opened import Opened
from hyperhpc.view.windows import Level, Read


def map_levels(opened: Opened, name: str) -> list[Level]:
    """The levels of ``indices``, ``cluster`` or ``quicklook``, finest first.

    The finest of indices and clusters are the results; that of the quicklook is the scene,
    where the overview has not got every pixel.
    """
    overview = opened.outputs.overview
    assert overview is not None
    levels = []
    for step in overview.levels:
        array = overview.group.get(f"{step}/{name}")
        if isinstance(array, zarr.Array) and array.shape[0]:
            left, right, bottom, top = overview.extent(step)
            height, width = overview.shape(step)
            dx, dy = (right - left) / width, (top - bottom) / height
            levels.append(
                Level(step, (height, width), left, top, dx, dy, "overview.zarr", _reader(array))
            )
    grid = opened.grid
    where = (1, opened.shape, grid.xmin, grid.ymax, grid.px, grid.py)
    results = opened.outputs.results
    full = results.get(name) if results is not None else None
    if isinstance(full, zarr.Array):
        levels = [level for level in levels if level.step > 1]
        levels.insert(0, Level(*where, "results.zarr", _reader(full)))
    elif name == QUICKLOOK.name and opened.scene and levels and levels[0].step > 1:
        levels.insert(0, Level(*where, "the scene", *_scene_reader(opened)))
    return levels


def all_levels(opened: Opened) -> dict[str, list[Level]]:
    """Those of every map."""
    return {v.name: map_levels(opened, v.name) for v in (QUICKLOOK, INDICES, CLUSTER)}


def _reader(array: zarr.Array[Any]) -> Read:
    def read(layers: tuple[int, ...], rows: slice, cols: slice) -> np.ndarray:
        return np.stack([np.asarray(array[layer, rows, cols]) for layer in layers])

    return read


def _scene_reader(opened: Opened) -> tuple[Read, Callable[[slice, slice], int]]:
    """Reflectance of the quicklook's bands from the scene, and what reading it decodes."""
    scene, area = opened.scene, opened.plan.area
    assert scene is not None
    assert opened.outputs.overview is not None
    nearest = [
        int(np.abs(scene.wavelength_nm - nm).argmin())
        for nm in opened.outputs.overview.quicklook_nm[: len(COLORS)]
    ]

    def place(rows: slice, cols: slice) -> tuple[slice, slice]:
        return (
            slice(rows.start + area.row0, rows.stop + area.row0),
            slice(cols.start + area.col0, cols.stop + area.col0),
        )

    def read(layers: tuple[int, ...], rows: slice, cols: slice) -> np.ndarray:
        bands, where = np.unique([nearest[layer] for layer in layers], return_inverse=True)
        dn = scene.read(*place(rows, cols), bands)
        values = to_reflectance(dn, scene.scale_factor, scene.nodata)
        return np.moveaxis(values[..., where], -1, 0).astype(np.float32)

    def cost(rows: slice, cols: slice) -> int:
        count = np.dtype(scene.stored_dtype).itemsize * min(scene.chunks[2], scene.shape[2])
        if scene.chunks[2] < scene.shape[2]:
            count *= len(nearest)
        for span, side in zip(place(rows, cols), scene.chunks[:2], strict=True):
            count *= (-(-span.stop // side) - span.start // side) * side
        return count

    return read, cost
