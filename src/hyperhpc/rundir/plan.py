"""The plan of a run, made before anything is read: area, tiles, options.

Tiles are whole stored chunks wherever the area allows, so that each byte of the scene is
decoded once per pass. The first run fixes the tile grid in plan.json; a continued run
takes it from there, whatever its workers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from hyperhpc.config import ENOUGH_PIXELS, STRIDE, RunConfig
from hyperhpc.errors import ConfigError, ResourceError
from hyperhpc.rundir import memory
from hyperhpc.rundir.bbox import Box, box_text, check_order, overlaps
from hyperhpc.scene.cube import Scene
from hyperhpc.sealed import SEAL

#: A tile of this size keeps the overhead of a task below a percent.
TARGET_TILE_BYTES = 192 * 2**20
#: At least so many tiles, so that small scenes are shared among workers too.
TARGET_TILES = 16
#: Side of the smallest tile that memory must allow.
SMALL_TILE = 128


@dataclass(frozen=True)
class Area:
    """Rows and columns of the scene that are analysed: [row0, row1) x [col0, col1)."""

    row0: int
    row1: int
    col0: int
    col1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.row1 - self.row0, self.col1 - self.col0

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """Rows and columns of the scene that a tile of this area covers."""
        rows = slice(self.row0 + tile.y0, self.row0 + tile.y1)
        return rows, slice(self.col0 + tile.x0, self.col0 + tile.x1)


@dataclass(frozen=True)
class Tile:
    """Unit of work: rows and columns relative to the area, [y0, y1) x [x0, x1)."""

    name: str
    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.y1 - self.y0, self.x1 - self.x0


@dataclass(frozen=True)
class Slab(Tile):
    """Some bands of a tile, [b0, b1)."""

    b0: int
    b1: int

    @property
    def shape(self) -> tuple[int, int]:
        """(pixels, bands)."""
        return (self.y1 - self.y0) * (self.x1 - self.x0), self.b1 - self.b0


@dataclass(frozen=True)
class Plan:
    """What is fixed by the first run.

    ``tile_shape``: Rows and columns of a tile; at the lower and right edge it may be smaller.
    ``is_transposed``: True if the scene is first turned from bands into tiles, in OUT/work.
    ``options``: Options that change results.
    ``fingerprint``: What differs if the scene has changed.
    """

    area: Area
    tile_shape: tuple[int, int]
    is_transposed: bool
    options: dict[str, Any]
    fingerprint: dict[str, Any]

    def tiles(self, times: int = 1) -> Iterator[Tile]:
        """All tiles, along rows; or larger ones, of so many on a side."""
        (height, width), (tall, wide) = self.area.shape, (n * times for n in self.tile_shape)
        suffix = "" if times == 1 else f"-of-{times}x{times}"
        for y, x in product(range(0, height, tall), range(0, width, wide)):
            name = f"{y // tall:04d}-{x // wide:04d}{suffix}"
            yield Tile(name, y, min(y + tall, height), x, min(x + wide, width))

    def n_tiles(self, times: int = 1) -> int:
        """How many these are."""
        sides = zip(self.area.shape, self.tile_shape, strict=True)
        return math.prod(-(-side // (n * times)) for side, n in sides)

    def to_json(self) -> dict[str, Any]:
        """As plan.json holds it."""
        return asdict(self) | {"tile_shape": list(self.tile_shape)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Back from plan.json."""
        area, tile_shape = Area(**value["area"]), tuple(value["tile_shape"])
        known = {name: item for name, item in value.items() if name != SEAL}
        return cls(**known | {"area": area, "tile_shape": tile_shape})


def choose_area(scene: Scene, bbox: Box | None) -> Area:
    """Pixels whose centres lie in the bounding box, and in that of the scene's interest.

    Raises ConfigError: if the box is reversed, holds no pixel centre of the scene, or fits it
    only in another order of its numbers.
    """
    height, width, _ = scene.shape
    box, what = bbox or scene.aoi_bounds, "The bounding box"
    if box is None:
        return Area(0, height, 0, width)
    if bbox:
        check_order(bbox, scene.bounds)
        if not overlaps(bbox, scene.bounds):
            raise _no_pixel(f"{what} {box_text(bbox)} lies outside", scene)
    if bbox and scene.aoi_bounds:
        (x0, y0, x1, y1), (u0, v0, u1, v1) = bbox, scene.aoi_bounds
        box = max(x0, u0), max(y0, v0), min(x1, u1), min(y1, v1)
        what = "The common part of bounding box and area of interest,"
    grid = scene.grid
    xs, ys = grid.x_centres(0, width), grid.y_centres(0, height)
    cols = np.flatnonzero((xs >= box[0]) & (xs <= box[2]))
    rows = np.flatnonzero((ys >= box[1]) & (ys <= box[3]))
    if not (rows.size and cols.size):
        raise _no_pixel(f"{what} {box_text(box)} holds no pixel centre of", scene)
    return Area(int(rows[0]), int(rows[-1]) + 1, int(cols[0]), int(cols[-1]) + 1)


def _no_pixel(problem: str, scene: Scene) -> ConfigError:
    crs = f", in its reference system, EPSG:{scene.grid.epsg}" if scene.grid.epsg else ""
    return ConfigError(
        f"{problem} the scene, which spans {box_text(scene.bounds)}",
        f"Give a box that overlaps the scene{crs}",
    )


def note_bbox(scene: Scene, bbox: Box | None) -> Scene:
    """A scene with a note of what remains of a box that reaches beyond it.

    Infinite edges mean the edges of the scene, and half a pixel is taken for rounding: neither
    is noted.

    Raises ConfigError: as :func:`choose_area`.
    """
    if bbox is None:
        return scene
    area = choose_area(scene, bbox)
    xmin, ymin, xmax, ymax = scene.bounds
    x_beyond, y_beyond = (xmin - bbox[0], bbox[2] - xmax), (ymin - bbox[1], bbox[3] - ymax)
    pixels = [*(x / scene.grid.px for x in x_beyond), *(y / scene.grid.py for y in y_beyond)]
    if not any(0.5 < n < math.inf for n in pixels):
        return scene
    rows, cols = area.shape
    part = scene.grid.bounds((area.row0, area.row1), (area.col0, area.col1))
    note = (
        f"The bounding box {box_text(bbox)} reaches beyond the scene, which spans "
        f"{box_text(scene.bounds)}; {rows} x {cols} pixels remain, which span {box_text(part)}."
    )
    return replace(scene, notes=(*scene.notes, note))


def make_plan(scene: Scene, config: RunConfig) -> Plan:
    """Choose area and tiles.

    Raises ConfigError: if the bounding box misses the scene; ResourceError: if the memory of a
    worker does not hold even a small tile, or a stored chunk.
    """
    area = choose_area(scene, config.bbox)
    _check_memory(scene, area, config)
    check_chunk(scene, config)
    largest = memory.max_tile_bytes(config.memory_bytes, config.threads_per_worker)
    per_pixel = memory.pixel_bytes(scene)
    # A chunk of few bands costs the memory of all bands when its pixels are wanted
    unit = (min(scene.chunks[0], scene.shape[0]), min(scene.chunks[1], scene.shape[1]))
    is_transposed = unit[0] * unit[1] * per_pixel > largest
    if is_transposed:
        unit = (SMALL_TILE, SMALL_TILE)
    tile = _grow(unit, area.shape, min(TARGET_TILE_BYTES, largest) / per_pixel)
    return Plan(area, tile, is_transposed, config.result_options(), scene.fingerprint())


def list_strides(given: int | None, shape: tuple[int, int]) -> list[int]:
    """Strides of the sample to try in turn, until one leaves enough valid pixels.

    ``given``: By the user; it is taken whatever it leaves.
    ``shape``: Rows and columns of the area.
    """
    if given is not None:
        return [given]
    return [
        stride
        for stride in range(STRIDE, 0, -1)
        if stride == 1 or memory.n_sampled(shape, stride) >= ENOUGH_PIXELS
    ]


def _check_memory(scene: Scene, area: Area, config: RunConfig) -> None:
    """Raise ResourceError if a worker can hold neither a small tile nor the subsample."""
    threads, stride = config.threads_per_worker, list_strides(config.stride, area.shape)[0]
    tiles = memory.tiles_peak(SMALL_TILE**2 * memory.pixel_bytes(scene), threads)
    n_pixels = min(memory.SUBSAMPLE, memory.n_sampled(area.shape, stride))
    starts = memory.starts_peak(scene.shape[2] * np.dtype(scene.dtype).itemsize, n_pixels)
    need = memory.needed_mib(max(tiles, starts))
    if config.memory_bytes < need * 2**20:
        what = "tiles" if tiles > starts else f"fitting models to {n_pixels} pixels"
        what += f" of {scene.shape[2]} bands"
        raise _too_little(config, what, need, are_threads_to_blame=tiles > starts)


def check_chunk(scene: Scene, config: RunConfig) -> None:
    """Raise ResourceError if one stored chunk, of all bands or few, is too large."""
    sides = [min(pair) for pair in zip(scene.chunks, scene.shape, strict=True)]
    nbytes = math.prod(sides) * memory.pixel_bytes(scene) // scene.shape[2]
    threads = config.threads_per_worker
    if nbytes > memory.max_tile_bytes(config.memory_bytes, threads):
        what = (
            f"the chunks of the scene: one holds {sides[0]} x {sides[1]} pixels of "
            f"{sides[2]} bands, {nbytes / 2**20:.0f} MiB"
        )
        need = memory.needed_mib(memory.tiles_peak(nbytes, threads)) + 1
        raise _too_little(config, what, need)


def _too_little(
    config: RunConfig, what: str, need_mib: int, *, are_threads_to_blame: bool = True
) -> ResourceError:
    fewer = are_threads_to_blame and config.threads_per_worker > 1
    or_fewer = " or fewer --threads-per-worker" if fewer else ""
    return ResourceError(
        f"--memory-per-worker {config.memory_per_worker} is too little for {what}; at least "
        f"{need_mib} MiB are needed",
        f"Give --memory-per-worker {need_mib}MiB{or_fewer}",
    )


def _grow(unit: tuple[int, int], area: tuple[int, int], pixels: float) -> tuple[int, int]:
    """Whole chunks, nearly square, within so many pixels, and not too few tiles."""
    pixels = min(pixels, max(area[0] * area[1] / TARGET_TILES, 64 * 64))
    times = [1, 1]
    while True:
        size = [unit[i] * times[i] for i in (0, 1)]
        # The shorter side grows first; a side that spans the area grows no more
        for i in sorted((0, 1), key=lambda i: size[i]):
            grown = size[i] + unit[i]
            if size[i] < area[i] and grown * size[1 - i] <= pixels:
                times[i] += 1
                break
        else:
            return min(size[0], area[0]), min(size[1], area[1])
