"""The pyramids every picture is drawn from.

Pass 2 leaves the finest level as grid files (every 4th pixel, or every pixel of a small
area). Coarser levels take the mean of 4 x 4 pixels, or the most frequent cluster.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import zarr

from hyperhpc.pipeline.classify import OverviewFiles
from hyperhpc.pipeline.gridfile import GridFile
from hyperhpc.pipeline.stores import consolidate, create_group, create_store
from hyperhpc.scene.cube import Grid
from hyperhpc.schema import CLUSTER, COLORS, NO_CLUSTER, OVERVIEW, Variable

#: Areas up to this many pixels on the longer side keep all of them.
WHOLE_SIDE = 2048
#: The coarsest level is not larger than this on its longer side.
SMALLEST_SIDE = 512
FACTOR = 4
CHUNK = 512


def finest_step(shape: tuple[int, int]) -> int:
    """1 for a small area, else 4: every n-th pixel makes the finest level."""
    return 1 if max(shape) <= WHOLE_SIDE else FACTOR


def levels_of(shape: tuple[int, int]) -> list[int]:
    """Steps of all levels, finest first: 4, 16, ... (and 1 for a small area)."""
    levels = [finest_step(shape)]
    while len(levels) < 2 or max(shape) / levels[-1] > SMALLEST_SIDE:
        if max(shape) / levels[-1] <= FACTOR:
            break
        levels.append(levels[-1] * FACTOR)
    return levels


def write_overview(
    path: Path,
    files: OverviewFiles,
    grid: Grid,
    shape: tuple[int, int],
    index_names: Sequence[str],
    model_names: Sequence[str],
    colors_nm: Sequence[float],
) -> None:
    """Write all levels: aside, then renamed.

    Parameters
    ----------
    grid
        Georeference of the area's own pixels.
    shape
        Its rows and columns.
    """
    levels = levels_of(shape)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    root = create_store(part)
    root.attrs.update(
        {"levels": levels, "quicklook_wavelength_nm": [float(c) for c in colors_nm]}
    )
    variables = dict(zip(OVERVIEW, (COLORS, index_names, model_names), strict=True))
    sources = dict(zip(variables, files.files(), strict=True))
    finer: zarr.Group | None = None
    for level in levels:
        group = root.create_group(str(level))
        size = (-(-shape[0] // level), -(-shape[1] // level))
        # Coordinates of the finest level are those of the pixels picked; a mean lies
        # in the middle of what it is the mean of
        base = levels[0]
        half = (level - base) / 2
        level_grid = replace(
            grid,
            xmin=grid.xmin + grid.px * (0.5 + half - level / 2),
            ymax=grid.ymax - grid.py * (0.5 + half - level / 2),
            px=grid.px * level,
            py=grid.py * level,
        )
        create_group(group, variables, level_grid, size, (CHUNK, CHUNK), {"level": level})
        for variable in variables:
            if variables[variable]:
                _fill(group, variable, sources[variable], finer)
        finer = group
    consolidate(part)
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def _fill(
    group: zarr.Group, variable: Variable, source: GridFile, finer: zarr.Group | None
) -> None:
    """Fill one array by bands of rows, from the grid file or from the finer level."""
    array: zarr.Array = group[variable.name]  # type: ignore[assignment]
    height = array.shape[1]
    for row in range(0, height, CHUNK):
        stop = min(row + CHUNK, height)
        if finer is None:
            array[:, row:stop] = np.moveaxis(source.read_rows(row, stop), -1, 0)
        else:
            window = np.asarray(finer[variable.name][:, row * FACTOR : stop * FACTOR])  # type: ignore[index]
            reduce = _most_frequent if variable is CLUSTER else _mean
            array[:, row:stop] = reduce(_blocks(window, variable))


def _blocks(window: np.ndarray, variable: Variable) -> np.ndarray:
    """(layer, y, x) as (layer, y / 4, x / 4, 16), padded with the missing value."""
    layers, height, width = window.shape
    missing = variable.missing if variable.missing is not None else 0
    pad = ((0, 0), (0, -height % FACTOR), (0, -width % FACTOR))
    padded = np.pad(window, pad, constant_values=missing)
    blocks = padded.reshape(layers, -1, FACTOR, padded.shape[2] // FACTOR, FACTOR)
    return np.moveaxis(blocks, 2, 3).reshape(
        layers, padded.shape[1] // FACTOR, padded.shape[2] // FACTOR, FACTOR * FACTOR
    )


def _mean(blocks: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN
        return np.nanmean(blocks, axis=-1)


def _most_frequent(blocks: np.ndarray) -> np.ndarray:
    """The most frequent label; of equals the lowest; missing only if all are."""
    best = np.full(blocks.shape[:-1], NO_CLUSTER, dtype=np.uint8)
    most = np.zeros(blocks.shape[:-1], dtype=np.uint8)
    ordered = np.sort(blocks, axis=-1)
    for i in range(blocks.shape[-1]):
        label = ordered[..., i]
        times = (ordered == label[..., None]).sum(axis=-1, dtype=np.uint8)
        is_better = (times > most) & (label != NO_CLUSTER)
        best[is_better], most[is_better] = label[is_better], times[is_better]
    return best
