"""The resolutions of each map: where they are stored, and how a window of them is read.

A window is read at the resolution of the screen, whatever the size of the scene.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr

from hyperhpc.analysis.spectra import to_reflectance
from hyperhpc.schema import COLORS, QUICKLOOK
from hyperhpc.view.viewed_run import ViewedRun

#: Pixels read per pixel of the screen, at most: the finest level within this is taken.
OVERSAMPLING = 4
#: Bytes of the scene that may be decoded for a window; else the overview is shown.
SCENE_BYTES = 256 * 2**20

#: Reads a window: (positions along the first dimension, rows, columns) to (position, y, x).
Read = Callable[[tuple[int, ...], slice, slice], np.ndarray]


@dataclass(frozen=True)
class Viewport:
    """What the screen shows: edges in the CRS, and the screen's width and height in pixels."""

    x0: float
    x1: float
    y0: float
    y1: float
    width: int
    height: int

    def fitted(self, aspect: float = 1.0) -> Viewport:
        """The same centre, enlarged so that pixels have the shape they have on the ground.

        ``aspect``: Length of a unit of x on the ground over that of y; 1 except for degrees.
        """
        unit = max((self.x1 - self.x0) * aspect / self.width, (self.y1 - self.y0) / self.height)
        half_x, half_y = unit * self.width / aspect / 2, unit * self.height / 2
        return self.resized(half_x, half_y, self.width, self.height)

    def resized(self, half_x: float, half_y: float, width: int, height: int) -> Viewport:
        """The same centre with other half lengths of the sides and another screen."""
        x, y = (self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2
        return Viewport(x - half_x, x + half_x, y - half_y, y + half_y, width, height)


@dataclass(frozen=True)
class MapWindow:
    """A part of a map that was read.

    ``values``: (position, y, x), rows from north to south.
    ``extent``: Outer edges: left, bottom, width, height.
    ``step``: Side of one of these pixels in pixels of the scene.
    ``source``: Name of the store.
    """

    values: np.ndarray
    extent: tuple[float, float, float, float]
    step: int
    source: str


@dataclass(frozen=True)
class Level:
    """One resolution of a map: where its pixels are, and how they are read.

    ``left``, ``top``: Outer corner of the first pixel.
    ``dx``, ``dy``: Size of a pixel.
    ``decoded_bytes``: Bytes that reading a window decodes; only for the scene.
    """

    step: int
    shape: tuple[int, int]
    left: float
    top: float
    dx: float
    dy: float
    source: str
    read: Read
    decoded_bytes: Callable[[slice, slice], int] | None = None

    @property
    def is_scene(self) -> bool:
        """True if it is read from the scene, which takes its time."""
        return self.decoded_bytes is not None

    def slices(self, viewport: Viewport) -> tuple[slice, slice]:
        """Rows and columns inside the viewport; empty where it shows none."""
        rows = _index_range(
            (self.top - viewport.y1) / self.dy, (self.top - viewport.y0) / self.dy, self.shape[0]
        )
        cols = _index_range(
            (viewport.x0 - self.left) / self.dx, (viewport.x1 - self.left) / self.dx, self.shape[1]
        )
        return rows, cols

    def read_window(self, positions: tuple[int, ...], rows: slice, cols: slice) -> MapWindow:
        """Read rows and columns of some positions along the first dimension."""
        height, width = rows.stop - rows.start, cols.stop - cols.start
        left, bottom = self.left + cols.start * self.dx, self.top - rows.stop * self.dy
        extent = (left, bottom, width * self.dx, height * self.dy)
        return MapWindow(self.read(positions, rows, cols), extent, self.step, self.source)


def _index_range(low: float, high: float, size: int) -> slice:
    start = min(max(math.floor(low), 0), size)
    return slice(start, max(start, min(math.ceil(high), size)))


def choose_level(levels: list[Level], viewport: Viewport) -> tuple[Level, slice, slice] | None:
    """The finest level within the limits, with its rows and columns inside the viewport.

    ``levels``: Finest first. Returns None where the viewport shows nothing of the map.
    """
    for level in levels:
        rows, cols = level.slices(viewport)
        n_pixels = (rows.stop - rows.start) * (cols.stop - cols.start)
        if not n_pixels:
            return None
        most = OVERSAMPLING * viewport.width * viewport.height
        if n_pixels > most and level is not levels[-1]:
            continue
        if level.decoded_bytes is None or level.decoded_bytes(rows, cols) <= SCENE_BYTES:
            return level, rows, cols
    return None


def list_levels(viewed: ViewedRun, name: str) -> list[Level]:
    """The levels of ``indices``, ``cluster`` or ``quicklook``, finest first.

    The finest level of indices and clusters is ``results.zarr``; the finest one of the
    quicklook is the scene, where the overview does not hold every pixel.
    """
    overview, folder = viewed.overview, viewed.results.folder
    overview_name = folder.overview.name
    levels = []
    for step in overview.levels:
        array = overview.group.get(f"{step}/{name}")
        if isinstance(array, zarr.Array) and array.shape[0]:
            left, right, bottom, top = overview.extent(step)
            height, width = overview.shape(step)
            dx, dy = (right - left) / width, (top - bottom) / height
            levels.append(
                Level(step, (height, width), left, top, dx, dy, overview_name, _reader(array))
            )
    grid = viewed.grid
    finest = (1, viewed.shape, grid.xmin, grid.ymax, grid.px, grid.py)
    results = viewed.results.store
    full = results.get(name) if results is not None else None
    if isinstance(full, zarr.Array):
        levels = [level for level in levels if level.step > 1]
        levels.insert(0, Level(*finest, folder.results.name, _reader(full)))
    elif name == QUICKLOOK.name and viewed.scene and levels and levels[0].step > 1:
        levels.insert(0, Level(*finest, "the scene", *_scene_reader(viewed)))
    return levels


def _reader(array: zarr.Array[Any]) -> Read:
    def read(positions: tuple[int, ...], rows: slice, cols: slice) -> np.ndarray:
        return np.stack([np.asarray(array[position, rows, cols]) for position in positions])

    return read


def _scene_reader(viewed: ViewedRun) -> tuple[Read, Callable[[slice, slice], int]]:
    """Reflectance of the quicklook's bands from the scene, and what reading it decodes."""
    scene, area = viewed.scene, viewed.plan.area
    assert scene is not None
    nearest = [
        int(np.abs(scene.wavelength_nm - nm).argmin())
        for nm in viewed.overview.quicklook_nm[: len(COLORS)]
    ]

    def in_scene(rows: slice, cols: slice) -> tuple[slice, slice]:
        return (
            slice(rows.start + area.row0, rows.stop + area.row0),
            slice(cols.start + area.col0, cols.stop + area.col0),
        )

    def read(positions: tuple[int, ...], rows: slice, cols: slice) -> np.ndarray:
        bands, inverse = np.unique([nearest[i] for i in positions], return_inverse=True)
        dn = scene.read(*in_scene(rows, cols), bands)
        values = to_reflectance(dn, scene.scale_factor, scene.nodata)
        return np.moveaxis(values[..., inverse], -1, 0).astype(np.float32)

    def decoded_bytes(rows: slice, cols: slice) -> int:
        count = np.dtype(scene.stored_dtype).itemsize * min(scene.chunks[2], scene.shape[2])
        if scene.chunks[2] < scene.shape[2]:
            count *= len(nearest)
        for span, side in zip(in_scene(rows, cols), scene.chunks[:2], strict=True):
            count *= (-(-span.stop // side) - span.start // side) * side
        return count

    return read, decoded_bytes
