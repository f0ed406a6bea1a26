"""The pyramids every picture is drawn from.

Pass 2 leaves the finest level as grid files (every 4th pixel; of small areas every 2nd, or
every one). Coarser levels take the mean of 4 x 4 pixels, or the most frequent cluster.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hyperhpc.compute.classify import OverviewFiles
from hyperhpc.compute.sample import GridFile
from hyperhpc.compute.stores import consolidate, create_group, create_store
from hyperhpc.files import remove_partial_files, temporary_path
from hyperhpc.rundir.folder import read_json, write_json
from hyperhpc.scene.cube import Grid
from hyperhpc.schema import CLUSTER, COLORS, NO_CLUSTER, OVERVIEW, Variable

#: Pixels on the longer side that the finest level needs: about what a picture can show.
ENOUGH_SIDE = 1400
#: The coarsest level is not larger than this on its longer side.
SMALLEST_SIDE = 512
FACTOR = 4
CHUNK = 512

Window = tuple[slice, slice]
Apply = Callable[[Callable[[Window], None], Sequence[Window]], Iterable[Any]]


def finest_step(shape: tuple[int, int]) -> int:
    """Every n-th pixel makes the finest level: 1 or 2 for a small area, else 4."""
    return next((step for step in (1, 2) if max(shape) <= step * ENOUGH_SIDE), FACTOR)


def levels_of(shape: tuple[int, int]) -> list[int]:
    """Steps of all levels, finest first: 4, 16, ... (from 1 or 2 on for a small area)."""
    levels = [finest_step(shape)]
    while len(levels) < 2 or max(shape) / levels[-1] > SMALLEST_SIDE:
        if max(shape) / levels[-1] <= FACTOR:
            break
        levels.append(levels[-1] * FACTOR)
    return levels


@dataclass(frozen=True)
class OverviewAbout:
    """What the grid files of the finest level do not say of themselves.

    Attributes
    ----------
    step
        Every so many pixels make the finest level.
    grid
        Georeference of the area's own pixels.
    index_names, model_names
        In the order of the layers.
    colors_nm
        Centres of the bands of the quicklook.
    """

    step: int
    grid: Grid
    index_names: list[str]
    model_names: list[str]
    colors_nm: list[float]

    def write(self, work: Path) -> None:
        """Keep it, for a report of the unfinished run."""
        write_json(work / "overview.json", asdict(self))

    @classmethod
    def read(cls, work: Path) -> OverviewAbout:
        """Back from the file."""
        value = read_json(work / "overview.json")
        return cls(**value | {"grid": Grid(**value["grid"])})


def write_overview(
    path: Path,
    files: OverviewFiles,
    about: OverviewAbout,
    shape: tuple[int, int],
    apply: Apply = map,
) -> None:
    """Write all levels: aside, then renamed.

    Parameters
    ----------
    shape
        Rows and columns of the area.
    apply
        Calls a function with each of some items, here or on workers.
    """
    grid = about.grid
    levels = levels_of(shape)
    part = temporary_path(path)
    root = create_store(part)
    root.attrs.update({"levels": levels, "quicklook_wavelength_nm": about.colors_nm})
    variables = dict(zip(OVERVIEW, (COLORS, about.index_names, about.model_names), strict=True))
    sources = dict(zip(variables, files.files(), strict=True))
    finer: str | None = None
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
        filling = partial(
            _fill,
            part,
            str(level),
            {v: sources[v] for v, names in variables.items() if names},
            finer,
        )
        for _ in apply(filling, list(_windows(size))):
            pass
        finer = str(level)
    remove_partial_files(part)
    consolidate(part)
    shutil.rmtree(path, ignore_errors=True)
    part.rename(path)


def _windows(shape: tuple[int, int]) -> Iterator[Window]:
    """The chunks of a level: no two tasks write the same file."""
    for row in range(0, shape[0], CHUNK):
        for col in range(0, shape[1], CHUNK):
            yield (
                slice(row, min(row + CHUNK, shape[0])),
                slice(col, min(col + CHUNK, shape[1])),
            )


def _fill(
    path: Path,
    level: str,
    sources: dict[Variable, GridFile],
    finer: str | None,
    window: Window,
) -> None:
    """Fill one window of all arrays of a level: from the grid files, or the finer level."""
    root = zarr.open_group(str(path), mode="r+")
    for variable, source in sources.items():
        array: zarr.Array = root[f"{level}/{variable.name}"]  # type: ignore[assignment]
        if finer is None:
            array[:, *window] = np.moveaxis(source.read_window(*window), -1, 0)
            continue
        y, x = (slice(span.start * FACTOR, span.stop * FACTOR) for span in window)
        below: zarr.Array = root[f"{finer}/{variable.name}"]  # type: ignore[assignment]
        reduce = _most_frequent if variable is CLUSTER else _mean
        for layer in range(array.shape[0]):
            pixels = np.asarray(below[layer, y, x])
            array[layer, *window] = reduce(_sixteen(pixels, variable))


def _sixteen(layer: np.ndarray, variable: Variable) -> list[np.ndarray]:
    """The pixels (y, x) of each place in a square of 4 x 4; missing beyond the edges."""
    missing = variable.missing if variable.missing is not None else 0
    pad = [(0, -side % FACTOR) for side in layer.shape]
    if any(after for _, after in pad):
        layer = np.pad(layer, pad, constant_values=missing)
    places = product(range(FACTOR), repeat=2)
    return [np.ascontiguousarray(layer[y::FACTOR, x::FACTOR]) for y, x in places]


def _mean(pixels: list[np.ndarray]) -> np.ndarray:
    """The mean of the pixels that are not NaN; NaN if all are."""
    total, count = np.zeros(pixels[0].shape), np.zeros(pixels[0].shape)
    for values in pixels:
        is_there = ~np.isnan(values)
        np.add(total, values, out=total, where=is_there)
        count += is_there
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _most_frequent(pixels: list[np.ndarray]) -> np.ndarray:
    """The most frequent label; of equals the lowest; missing only if all are."""
    best = np.full(pixels[0].shape, NO_CLUSTER, dtype=np.uint8)
    most = np.zeros(best.shape, dtype=np.uint8)
    for label in pixels:
        times = np.zeros(best.shape, dtype=np.uint8)
        for other in pixels:
            times += label == other
        times[label == NO_CLUSTER] = 0
        is_better = (times > most) | ((times == most) & (label < best))
        np.copyto(best, label, where=is_better)
        np.copyto(most, times, where=is_better)
    return best
