"""The levels of each map: where they are stored, and how a window of them is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from hyperhpc.analysis.spectra import to_reflectance
from hyperhpc.schema import CLUSTER, COLORS, INDICES, QUICKLOOK
from hyperhpc.view.viewed_run import Opened

# A window of a map at the resolution of the screen, whatever the size of the scene.

#: Pixels read for one of the screen, at most: the finest level within this is taken.
OVERSAMPLING = 4
#: Bytes of the scene that may be decoded for a window; else the overview is shown.
SCENE_BYTES = 256 * 2**20

#: Reads layers of a window: (layers, rows, columns) to (layer, y, x).
Read = Callable[[tuple[int, ...], slice, slice], np.ndarray]


@dataclass(frozen=True)
class View:
    """What a screen shows: edges in the CRS, and the screen's width and height in pixels."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: int
    height: int

    def fitted(self, aspect: float = 1.0) -> View:
        """The same middle, grown so that pixels have the shape they have on the ground.

        Parameters
        ----------
        aspect
            Length of a unit of x over one of y; 1 but for degrees.
        """
        unit = max((self.x1 - self.x0) * aspect / self.width, (self.y1 - self.y0) / self.height)
        half_x, half_y = unit * self.width / aspect / 2, unit * self.height / 2
        x, y = (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2
        return View(x - half_x, x + half_x, y - half_y, y + half_y, self.width, self.height)


@dataclass(frozen=True)
class Piece:
    """What was read.

    Attributes
    ----------
    values
        (layer, y, x), rows from north to south.
    extent
        Outer edges: left, bottom, width, height.
    step
        Pixels of the scene on the side of one of these.
    source
        The store's name.
    """

    values: np.ndarray
    extent: tuple[float, float, float, float]
    step: int
    source: str


@dataclass(frozen=True)
class Level:
    """One resolution of a map: where its pixels are, and how they are read.

    Attributes
    ----------
    left, top
        Outer corner of the first pixel.
    dx, dy
        Size of a pixel.
    cost
        Bytes that reading a window decodes, if that has to be asked.
    """

    step: int
    shape: tuple[int, int]
    left: float
    top: float
    dx: float
    dy: float
    source: str
    read: Read
    cost: Callable[[slice, slice], int] | None = None

    def slices(self, view: View) -> tuple[slice, slice]:
        """Rows and columns that the view shows; empty where it shows none."""
        rows = _span(
            (self.top - view.y1) / self.dy, (self.top - view.y0) / self.dy, self.shape[0]
        )
        cols = _span(
            (view.x0 - self.left) / self.dx, (view.x1 - self.left) / self.dx, self.shape[1]
        )
        return rows, cols

    def piece(self, layers: tuple[int, ...], rows: slice, cols: slice) -> Piece:
        """Read a window."""
        height, width = rows.stop - rows.start, cols.stop - cols.start
        left, bottom = self.left + cols.start * self.dx, self.top - rows.stop * self.dy
        extent = (left, bottom, width * self.dx, height * self.dy)
        return Piece(self.read(layers, rows, cols), extent, self.step, self.source)


def _span(low: float, high: float, size: int) -> slice:
    start = min(max(math.floor(low), 0), size)
    return slice(start, max(start, min(math.ceil(high), size)))


def choose_level(levels: list[Level], view: View) -> tuple[Level, slice, slice] | None:
    """What a view is read from: the finest level within the limits, and rows and columns.

    Parameters
    ----------
    levels
        Finest first.

    Returns
    -------
    None where the view shows nothing of the map.
    """
    for level in levels:
        rows, cols = level.slices(view)
        n_pixels = (rows.stop - rows.start) * (cols.stop - cols.start)
        if not n_pixels:
            return None
        if n_pixels > OVERSAMPLING * view.width * view.height and level is not levels[-1]:
            continue
        if level.cost is None or level.cost(rows, cols) <= SCENE_BYTES:
            return level, rows, cols
    return None


def map_levels(opened: Opened, name: str) -> list[Level]:
    """The levels of ``indices``, ``cluster`` or ``quicklook``, finest first.

    The finest of indices and clusters are the results; that of the quicklook is the scene,
    where the overview has not got every pixel.
    """
    overview = opened.outputs.pyramid
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
    results = opened.outputs.store
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
    assert opened.outputs.pyramid is not None
    nearest = [
        int(np.abs(scene.wavelength_nm - nm).argmin())
        for nm in opened.outputs.pyramid.quicklook_nm[: len(COLORS)]
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
