"""The overview store: the levels of detail that every picture is drawn from.

The classify pass writes the finest level as grid files (every 4th pixel; every 2nd or every
one of a small area). A pixel of a coarser level stands for 4 x 4 pixels of the level before: their
mean reflectance, their mean fractions, their median index (a ratio may be extreme in a single
pixel, and its mean would spread that over the level), their most frequent cluster. Missing pixels
are left out; why pixels are missing, most of the 16 say, those that have data included.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from hyperhpc.compute.classify import OverviewFiles
from hyperhpc.compute.grid_file import GridFile
from hyperhpc.compute.stores import consolidate, create_group, create_store
from hyperhpc.files import atomic_write, check_guard, remove_partial_files, remove_path
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.formats.zarr_guard import GuardedStore
from hyperhpc.schema import (
    CLUSTER,
    COLORS,
    FRACTION,
    INDICES,
    NO_CLUSTER,
    NODATA_CAUSE,
    OVERVIEW,
    QUICKLOOK,
    UNMIXING,
    UNMIXING_RMSE,
    Variable,
)
from hyperhpc.sealed import read_json, write_sealed

#: A finest level of every 1st or 2nd pixel has at most this many on its longer side.
MAX_FINE_SIDE = 1400
#: The coarsest level has at most this many pixels on its longer side.
MAX_COARSE_SIDE = 512
#: Pixels of a level that make one of the next, on a side.
FACTOR = 4
CHUNK = 512

Window = tuple[slice, slice]
Apply = Callable[[Callable[[Window], None], Sequence[Window]], Iterable[Any]]


def finest_step(shape: tuple[int, int]) -> int:
    """Step of the finest level: every pixel or every 2nd of a small area, else every 4th."""
    return next((step for step in (1, 2) if max(shape) <= step * MAX_FINE_SIDE), FACTOR)


def overview_steps(shape: tuple[int, int]) -> list[int]:
    """Steps of all levels, finest first: 4, 16, ... (small areas begin with 1 or 2)."""
    steps = [finest_step(shape)]
    while (side := max(shape) / steps[-1]) > MAX_COARSE_SIDE or (len(steps) < 2 and side > FACTOR):
        steps.append(steps[-1] * FACTOR)
    return steps


@dataclass(frozen=True)
class OverviewMetadata:
    """What the grid files of the finest level, every ``step``-th pixel, do not hold themselves.

    ``grid``: Georeference of the area's own pixels. ``colors_nm``: Centres of its colours.
    ``causes``: What the codes of ``NODATA_CAUSE`` mean.
    """

    step: int
    grid: Grid
    index_names: list[str]
    model_names: list[str]
    colors_nm: list[float]
    #: None of a run that another version began.
    causes: list[str] = field(default_factory=list)
    endmember_names: list[str] = field(default_factory=list)

    def labels(self) -> dict[Variable, Sequence[str]]:
        """The arrays of a level, each with the names of its layers or the meanings of its codes."""
        labels = COLORS, self.index_names, self.model_names, self.causes
        unmixing = dict.fromkeys(UNMIXING, self.endmember_names) if self.endmember_names else {}
        return dict(zip(OVERVIEW, labels, strict=True)) | unmixing

    def write(self, work: Path) -> None:
        """Write it to a file, for a report of the unfinished run."""
        write_sealed(work / "overview.json", asdict(self))

    @classmethod
    def read(cls, work: Path) -> OverviewMetadata:
        """Read it from that file."""
        value = read_json(work / "overview.json")
        return cls(**value | {"grid": Grid(**value["grid"])})


def write_overview(
    path: Path,
    files: OverviewFiles,
    about: OverviewMetadata,
    shape: tuple[int, int],
    apply: Apply = map,
) -> None:
    """Write all levels of an area of ``shape`` to a temporary store, which replaces ``path``.

    ``apply``: Calls a function with each of some items, in this process or on workers.
    """
    steps = overview_steps(shape)
    variables = about.labels()
    sources = {v: file for v, file in zip(variables, files.files(), strict=True) if variables[v]}
    with atomic_write(path) as part:
        root = create_store(part)
        root.attrs.update({"levels": steps, "quicklook_wavelength_nm": about.colors_nm})
        finer: str | None = None
        for step in steps:
            group = root.create_group(str(step))
            size = (-(-shape[0] // step), -(-shape[1] // step))
            grid = _level_grid(about.grid, step, steps[0])
            create_group(group, variables, grid, size, (CHUNK, CHUNK), {"level": step})
            fill = partial(_fill, part, str(step), sources, finer)
            deque(apply(fill, list(_windows(size))), maxlen=0)
            finer = str(step)
        remove_partial_files(part)
        consolidate(part)
        check_guard(path)
        remove_path(path)


def _level_grid(grid: Grid, step: int, finest: int) -> Grid:
    """Georeference of a level.

    Centres of the finest level are those of the picked pixels, and that of a mean lies in
    the middle of its pixels.
    """
    half = (step - finest) / 2
    return replace(
        grid,
        xmin=grid.xmin + grid.px * (0.5 + half - step / 2),
        ymax=grid.ymax - grid.py * (0.5 + half - step / 2),
        px=grid.px * step,
        py=grid.py * step,
    )


def _windows(shape: tuple[int, int]) -> Iterator[Window]:
    """The chunks of a level: no two tasks write the same file."""
    for row, col in product(range(0, shape[0], CHUNK), range(0, shape[1], CHUNK)):
        yield slice(row, min(row + CHUNK, shape[0])), slice(col, min(col + CHUNK, shape[1]))


def _fill(
    path: Path, level: str, sources: dict[Variable, GridFile], finer: str | None, window: Window
) -> None:
    """Fill one window of all arrays of a level, from the grid files or the finer level."""
    root = zarr.open_group(GuardedStore(path), mode="r+")
    for variable, source in sources.items():
        array: zarr.Array = root[f"{level}/{variable.name}"]  # type: ignore[assignment]
        array = array.with_config({"write_empty_chunks": False})
        if finer is None:
            layers = np.moveaxis(source.read_window(*window), -1, 0)
            array[..., *window] = layers[0] if variable.is_single else layers
            continue
        y, x = (slice(span.start * FACTOR, span.stop * FACTOR) for span in window)
        finer_array: zarr.Array = root[f"{finer}/{variable.name}"]  # type: ignore[assignment]
        reduce = _REDUCE[variable.name]  # a copy, on a worker
        for layer in [...] if variable.is_single else range(array.shape[0]):
            pixels = np.asarray(finer_array[layer, y, x])
            array[layer, *window] = reduce(_split_squares(pixels, variable))


def _split_squares(layer: np.ndarray, variable: Variable) -> list[np.ndarray]:
    """For each place in a square of 4 x 4 the pixels (y, x) of all squares, the last filled up."""
    pad = [(0, -side % FACTOR) for side in layer.shape]
    if any(after for _, after in pad):
        layer = np.pad(layer, pad, constant_values=variable.missing or 0)
    offsets = product(range(FACTOR), repeat=2)
    return [np.ascontiguousarray(layer[y::FACTOR, x::FACTOR]) for y, x in offsets]


def _mean(pixels: list[np.ndarray]) -> np.ndarray:
    """The mean of the pixels that are not NaN; NaN if all are."""
    total, count = np.zeros(pixels[0].shape), np.zeros(pixels[0].shape)
    for values in pixels:
        has_value = ~np.isnan(values)
        np.add(total, values, out=total, where=has_value)
        count += has_value
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _median(pixels: list[np.ndarray]) -> np.ndarray:
    """The median of the pixels that are not NaN; NaN if all are."""
    values = np.sort(np.stack(pixels, axis=-1), axis=-1)  # NaN come last
    count = (~np.isnan(values)).sum(axis=-1, keepdims=True)
    middle = [np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(pixels) - 1)]
    below, above = (np.take_along_axis(values, place, -1)[..., 0] for place in middle)
    # An infinity is no index, so that half of each is finite, and of equal ones it is exact
    return np.where(count[..., 0] > 0, below / 2 + above / 2, np.nan)


def _most_frequent(pixels: list[np.ndarray]) -> np.ndarray:
    """The most frequent label, the lowest of equally frequent ones; missing only if all are."""
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


_REDUCE = {
    QUICKLOOK.name: _mean,
    INDICES.name: _median,
    CLUSTER.name: _most_frequent,
    NODATA_CAUSE.name: _most_frequent,
    FRACTION.name: _mean,
    UNMIXING_RMSE.name: _mean,
}
