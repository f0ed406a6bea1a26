"""Scenes whose rows do not run from north to south, brought to a north-up grid."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from threading import get_ident
from typing import Any

import numpy as np

from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import Grid, Scene, empty_layer, scene_fields
from hyperhpc.scene.files import FileScene
from hyperhpc.scene.fingerprint import MOST_FILES
from hyperhpc.scene.georef import grid_in_pixels, is_same_crs
from hyperhpc.scene.origins import ORIGIN_KINDS
from hyperhpc.scene.views import WrappedScene, window_shape
from hyperhpc.scene.window import normalise

#: Side of the pieces in which a window is read, which limits the memory for pixels of the file.
_SIDE = 128
#: Centres this close to an edge between two pixels (in pixels) count as on it: float64 is
#: inexact at coordinates of several million.
_ON_EDGE = 1e-8
_ONE_PIXEL = slice(0, 1), slice(0, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class WarpedScene(WrappedScene):
    """Another scene on a north-up grid: each pixel is the nearest one of it, with the same bits.

    ``origin``, ``steps``: Position in the other scene, as column and row, of the upper-left
        corner of this grid; and how far (2, 2) one column and one row of this grid lead there.
    ``outside_value``: What pixels outside the other scene hold: a no-data value, or NaN.
    """

    origin: tuple[float, float]
    steps: tuple[tuple[float, float], tuple[float, float]]
    outside_value: float

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window, piece by piece; see :meth:`Scene.read`."""
        n_bands = np.arange(self.shape[2])[slice(None) if bands is None else bands].size
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        out = np.full((*window_shape(rows, cols), n_bands), self.outside_value, self.dtype)
        self._gather(out, rows, cols, lambda y, x: self.inner.read(y, x, bands))
        return out

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """See :meth:`Scene.read_origins`."""
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        found = {}
        for name, one in self.inner.read_origins(*_ONE_PIXEL).items():
            found[name] = np.full(window_shape(rows, cols), ORIGIN_KINDS[name][1], one.dtype)
            read = partial(_read_origin, self.inner, name)
            self._gather(found[name], rows, cols, read)
        return found

    def read_zenith(self, rows: slice, cols: slice) -> np.ndarray | None:
        """See :meth:`Scene.read_zenith`."""
        if (one := self.inner.read_zenith(*_ONE_PIXEL)) is None:
            return None
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        out = np.full(window_shape(rows, cols), np.nan, one.dtype)
        self._gather(out, rows, cols, lambda y, x: np.asarray(self.inner.read_zenith(y, x)))
        return out

    def read_layers(
        self, rows: slice, cols: slice, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """See :meth:`Scene.read_layers`."""
        layers = self.inner.layers()
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        found = {}
        for name in names:
            found[name] = empty_layer(layers[name], window_shape(rows, cols))
            self._gather(found[name], rows, cols, partial(_read_layer, self.inner, name))
        return found

    def read_causes(self, rows: slice, cols: slice) -> np.ndarray:
        """See :meth:`Scene.read_causes`; 0 outside the other scene."""
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        found = np.zeros(window_shape(rows, cols), np.uint8)
        self._gather(found, rows, cols, self.inner.read_causes)
        return found

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """See :meth:`Scene.fingerprint`."""
        return self.inner.fingerprint(most_files) | {
            "warped": [*self.origin, *self.steps[0], *self.steps[1]]
        }

    def _gather(
        self, out: np.ndarray, rows: slice, cols: slice, read: Callable[[slice, slice], np.ndarray]
    ) -> None:
        """Put the values of the other scene into those pixels of a window that lie in it."""
        for piece, row, col in self._pieces(rows, cols):
            height, width = self.inner.shape[:2]
            is_inside = (row >= 0) & (row < height) & (col >= 0) & (col < width)
            if is_inside.any():
                row, col = row[is_inside], col[is_inside]
                top, left = int(row.min()), int(col.min())
                found = read(slice(top, int(row.max()) + 1), slice(left, int(col.max()) + 1))
                out[piece][is_inside] = found[row - top, col - left]

    def _pieces(
        self, rows: slice, cols: slice
    ) -> Iterator[tuple[tuple[slice, slice], np.ndarray, np.ndarray]]:
        """Pieces of a window, and the nearest row and column (y, x) of the other scene."""
        side = max(1, _SIDE // max(rows.step, cols.step))
        height, width = window_shape(rows, cols)
        for top in range(0, height, side):
            y = rows.start + rows.step * np.arange(top, min(top + side, height)) + 0.5
            for left in range(0, width, side):
                x = cols.start + cols.step * np.arange(left, min(left + side, width)) + 0.5
                row, col = self._place(y[:, np.newaxis], x)
                piece = slice(top, top + y.size), slice(left, left + x.size)
                yield (
                    piece,
                    np.floor(row + _ON_EDGE).astype(np.int64),
                    np.floor(col + _ON_EDGE).astype(np.int64),
                )

    def _place(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column in the other scene of positions in this grid, in pixels from its corner.

        ``y``, ``x``: Shapes (y, 1) and (x).
        """
        (col_by_col, col_by_row), (row_by_col, row_by_row) = self.steps
        col = self.origin[0] + col_by_col * x + col_by_row * y
        row = self.origin[1] + row_by_col * x + row_by_row * y
        return row, col


@dataclass(frozen=True, kw_only=True, eq=False)
class ReprojectedScene(WarpedScene):
    """Another scene on a grid of another reference system; its nearest pixels, as they are.

    ``crs``: WKT of the reference systems of this grid and of the other scene.
    ``six``: Geotransform of the other scene: GDAL's six numbers.
    ``origin``, ``steps``: Not used: nothing is proportional.
    """

    crs: tuple[str, str]
    six: tuple[float, ...]

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """See :meth:`Scene.fingerprint`."""
        grid = self.grid
        numbers = [grid.xmin, grid.ymax, grid.px, grid.py, *self.six]
        return self.inner.fingerprint(most_files) | {"reprojected": [*self.crs, *numbers]}

    def _place(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :meth:`WarpedScene._place`; -1 where there is no such place."""
        there = np.broadcast_arrays(
            self.grid.xmin + x * self.grid.px, self.grid.ymax - y * self.grid.py
        )
        xmin, a, b, ymax, d, e = self.six
        place = np.array(_transformer(*self.crs, get_ident()).transform(*there))
        place[:, ~np.isfinite(place).all(axis=0)] = np.nan
        to_source = np.linalg.inv([[a, b], [d, e]])
        col, row = np.tensordot(to_source, place - np.array([xmin, ymax])[:, None, None], 1)
        return np.nan_to_num(row, nan=-1.0), np.nan_to_num(col, nan=-1.0)


@lru_cache(maxsize=64)  # pyproj's objects are for one thread each
def _transformer(source: str, target: str, _thread: int) -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(source, target, always_xy=True)


def _read_origin(scene: Scene, name: str, rows: slice, cols: slice) -> np.ndarray:
    return scene.read_origins(rows, cols)[name]


def _read_layer(scene: Scene, name: str, rows: slice, cols: slice) -> np.ndarray:
    return scene.read_layers(rows, cols, (name,))[name]


def warp_scene(scene: FileScene) -> WarpedScene:
    """A scene with a geotransform of its own on a north-up grid of the same pixel size.

    Pixels outside the scene are no-data.
    """
    assert scene.geotransform is not None
    grid, shape = _north_up(scene, scene.geotransform)
    return _warp(scene, scene.geotransform, grid, shape)


def align_scenes(scenes: Sequence[Scene]) -> list[Scene]:
    """Scenes on the grid of the first, also those of other reference systems."""
    first = scenes[0].grid
    return [scenes[0], *(_align(scene, first) for scene in scenes[1:])]


def _align(scene: Scene, target: Grid) -> Scene:
    grid = scene.grid
    off = (grid.xmin - target.xmin) / target.px, (grid.ymax - target.ymax) / target.py
    is_on_grid = np.allclose([grid.px, grid.py], [target.px, target.py], rtol=1e-6, atol=0)
    is_same = is_same_crs(grid, target)
    lacks = grid == grid_in_pixels(scene.shape[0]) or (not is_same and not grid.wkt)
    if lacks or (target.wkt is None and not is_same):
        return scene
    if is_same and is_on_grid and np.allclose(off, np.rint(off), atol=0.01):
        return scene
    six: tuple[float, ...] = (grid.xmin, grid.px, 0.0, grid.ymax, 0.0, -grid.py)
    if isinstance(scene, WarpedScene) and isinstance(scene.inner, FileScene):  # never twice
        scene = scene.inner
        six = scene.geotransform or six
    if not is_same:
        return _reproject(scene, six, (str(target.wkt), str(grid.wkt)), target)
    target = replace(target, wkt=grid.wkt, epsg=grid.epsg)
    return _warp(scene, six, *_covering(target, _corners(six, scene)))


def _reproject(
    scene: Scene, six: tuple[float, ...], crs: tuple[str, str], target: Grid
) -> ReprojectedScene:
    """A scene with this geotransform in another reference system, on a grid like the target."""
    outline = _outline(six, scene)
    x, y = _transformer(crs[1], crs[0], get_ident()).transform(*outline)
    if not np.isfinite([x, y]).all():
        raise SceneError(
            f"{scene.path} does not lie where the reference system of the first scene is defined",
            "Give files of one region",
        )
    grid, shape = _covering(target, (x, y))
    fields = _fields(scene, grid, shape)
    return ReprojectedScene(**fields, origin=(0, 0), steps=((0, 0), (0, 0)), crs=crs, six=six)


def _outline(six: tuple[float, ...], scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Points on the four edges of a scene, also between its corners: edges become curves."""
    height, width = scene.shape[:2]
    part = np.linspace(0, 1, 65)
    col = np.concatenate([part, part, 0 * part, 0 * part + 1]) * width
    row = np.concatenate([0 * part, 0 * part + 1, part, part]) * height
    xmin, a, b, ymax, d, e = six
    return xmin + a * col + b * row, ymax + d * col + e * row


def _warp(scene: Scene, six: tuple[float, ...], grid: Grid, shape: tuple[int, int]) -> WarpedScene:
    """A scene with this geotransform, on a north-up grid."""
    xmin, a, b, ymax, d, e = six
    to_source = np.linalg.inv([[a, b], [d, e]])
    # Differences first: the product of large coordinates would lose digits
    origin = to_source @ (grid.xmin - xmin, grid.ymax - ymax)
    steps = to_source @ np.diag([grid.px, -grid.py])
    return WarpedScene(
        **_fields(scene, grid, shape),
        origin=(float(origin[0]), float(origin[1])),
        steps=((float(steps[0, 0]), float(steps[0, 1])), (float(steps[1, 0]), float(steps[1, 1]))),
    )


def _fields(scene: Scene, grid: Grid, shape: tuple[int, int]) -> dict[str, Any]:
    """Fields of a warped scene, but for those that say how."""
    value, nodata, notes = _mark_outside(scene)
    notes.append(
        f"Warped to north-up pixels of {grid.px:g} x {grid.py:g} (nearest neighbour): "
        f"{shape[0]} x {shape[1]} from {scene.shape[0]} x {scene.shape[1]}."
    )
    return scene_fields(scene) | {
        "shape": (*shape, scene.shape[2]),
        "grid": grid,
        "nodata": nodata,
        "chunks": (min(_SIDE, shape[0]), min(_SIDE, shape[1]), scene.chunks[2]),
        "shards": None,
        "thinned": None,
        "notes": (*scene.notes, *notes),
        "inner": scene,
        "outside_value": value,
    }


def _north_up(scene: FileScene, six: tuple[float, ...]) -> tuple[Grid, tuple[int, int]]:
    """North-up grid that holds all pixels of a scene, and its rows and columns.

    Its corner is a multiple of the pixel size, so that scenes with the same pixels share one grid;
    where rows only run in another direction, pixels stay where they are.
    """
    x0, a, b, y0, d, e = six
    height, width = scene.shape[:2]
    sides = math.hypot(a, d), math.hypot(b, e)
    tiny = 1e-9 * max(sides)
    is_turned = abs(a) < abs(d)  # by about a right angle: columns run from north to south
    px, py = sides[::-1] if is_turned else sides
    x = np.array([0, a * width, b * height, a * width + b * height])
    y = np.array([0, d * width, e * height, d * width + e * height])
    if max(abs(a), abs(e)) < tiny or max(abs(b), abs(d)) < tiny:
        shape = (width, height) if is_turned else (height, width)
        return replace(scene.grid, xmin=x0 + x.min(), ymax=y0 + y.max(), px=px, py=py), shape
    target = replace(scene.grid, xmin=0.0, ymax=0.0, px=px, py=py)
    return _covering(target, _corners(six, scene))


def _corners(six: tuple[float, ...], scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """X and y of the corners of a scene."""
    x0, a, b, y0, d, e = six
    height, width = scene.shape[:2]
    x = x0 + np.array([0, a * width, b * height, a * width + b * height])
    return x, y0 + np.array([0, d * width, e * height, d * width + e * height])


def _covering(grid: Grid, place: tuple[np.ndarray, np.ndarray]) -> tuple[Grid, tuple[int, int]]:
    """The part of a grid, without an end, that holds all these x and y; rows and columns."""
    # Counted from the corner of the grid; a millionth of a pixel is no further pixel
    x, y = (place[0] - grid.xmin) / grid.px, (grid.ymax - place[1]) / grid.py
    left, right = math.floor(x.min() + 1e-6), math.ceil(x.max() - 1e-6)
    top, bottom = math.floor(y.min() + 1e-6), math.ceil(y.max() - 1e-6)
    return grid.part(top, left), (bottom - top, right - left)


def _mark_outside(scene: Scene) -> tuple[float, tuple[float, ...], list[str]]:
    """What pixels outside a scene hold, its no-data values with that one, and notes."""
    if not scene.is_integer:
        return math.nan, scene.nodata, []
    if scene.nodata:
        return scene.nodata[0], scene.nodata, []
    limits = np.iinfo(scene.dtype)
    value = float(limits.min if limits.min else limits.max)
    return value, (value,), [f"No no-data value is declared: {value:g} marks pixels outside."]


def refuse_rotated(scene: FileScene, options: SceneOptions) -> SceneError:
    """The error for a scene that has to be warped; its hint is the command that does it."""
    stem = os.path.splitext(os.path.basename(scene.path))[0]
    words = ["hyperhpc", "ingest", scene.path, f"{stem}.zarr", *options.as_words()]
    return SceneError(
        f"{scene.path} is rotated or mirrored (geotransform {scene.geotransform}); rows must "
        "run from north to south, columns from west to east",
        "Type this (gdalwarp would lose scale and bad bands, and make the corners data without "
        f"-dstnodata): {shlex.join(words)} --resample nearest",
    )
