"""The thinned copy of a cube in a store: every 4th row and column.

A sample for a fit needs one pixel in sixteen. Chunks hold neighbours, so without this copy
all chunks must be read and decoded for it.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from itertools import product

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import THINNED_STEP, Grid, Scene

#: Group next to the cube that holds the copy, under the name of the cube.
THINNED_GROUP = "every4th"
#: Attribute that marks the copy, so that it is not opened as a separate cube.
THINNED_ATTRIBUTE = "thinned_step"


def thinned_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(rows, columns, bands) of the copy of a cube."""
    return (-(-shape[0] // THINNED_STEP), -(-shape[1] // THINNED_STEP), shape[2])


def thinned_grid(grid: Grid) -> Grid:
    """The grid of the copy: its pixel centres are those of the pixels copied."""
    first = 0.5 - THINNED_STEP / 2
    xmin, ymax = grid.xmin + first * grid.px, grid.ymax - first * grid.py
    px, py = grid.px * THINNED_STEP, grid.py * THINNED_STEP
    return replace(grid, xmin=xmin, ymax=ymax, px=px, py=py)


def choose_thinned(scene: Scene, rows: range, cols: range) -> tuple[Scene, range, range]:
    """The thinned copy and the rows and columns there, if it has all these; else the scene."""
    step = THINNED_STEP
    if scene.thinned is None or any(s.start % step or s.step % step for s in (rows, cols)):
        return scene, rows, cols
    rows, cols = (
        range(span.start // step, -(-span.stop // step), span.step // step) for span in (rows, cols)
    )
    return scene.thinned, rows, cols


def check_thinned(scene: Scene) -> None:
    """Compare nine pixels all over the scene with their copies; SceneError if they differ."""
    if scene.thinned is None:
        return
    height, width, _ = scene.thinned.shape
    for row, col in product({0, height // 2, height - 1}, {0, width // 2, width - 1}):
        if not _is_copied(scene, scene.thinned, row, col):
            y, x = row * THINNED_STEP, col * THINNED_STEP
            raise SceneError(
                f"{scene.path} was changed after its thinned copy was written: they differ in "
                f"row {y}, column {x}",
                f"Remove the copy, which only saves time: rm -r {shlex.quote(scene.thinned.path)}",
            )


def _is_copied(scene: Scene, thinned: Scene, row: int, col: int) -> bool:
    try:
        copy = _pixel(thinned, row, col)
        pixel = _pixel(scene, row * THINNED_STEP, col * THINNED_STEP)
    except SceneError:
        return True  # a damaged chunk is reported when its tile is read
    return np.array_equal(copy, pixel, equal_nan=True)


def _pixel(scene: Scene, row: int, col: int) -> np.ndarray:
    """The spectrum of one pixel (band), read as a tile is."""
    ((_, _, dn),) = scene.blocks(slice(row, row + 1), slice(col, col + 1))
    return dn[0, 0].copy()
