"""How much memory a worker needs: the one model of plan, estimate and error messages."""

from __future__ import annotations

import math

import numpy as np

from hyperhpc.scene.cube import Scene
from hyperhpc.workers.sizes import BASE_BYTES

#: Share of ``--memory-per-worker`` that is planned for; the rest is for what is not foreseen.
PLANNED_SHARE = 0.9
#: Peak memory of a task over the bytes of its tile: stored chunks, DN, results.
TILE_FACTOR = 3.0
#: The most sampled pixels that the starts of the models are tried on, in memory.
SUBSAMPLE = 200_000
#: Peak memory of a start over the bytes of its pixels: DN, coarse values, distances.
SUBSAMPLE_FACTOR = 2.5


def pixel_bytes(scene: Scene) -> int:
    """Bytes of one pixel with all bands, as stored or as read, whichever is larger."""
    widths = (np.dtype(scene.stored_dtype).itemsize, np.dtype(scene.dtype).itemsize)
    return scene.shape[2] * max(widths)


def data_bytes(memory_bytes: int) -> float:
    """Bytes of a worker's memory that are planned for data."""
    return memory_bytes * PLANNED_SHARE - BASE_BYTES


def needed_mib(n_bytes: float) -> int:
    """Least memory of a worker, MiB, of which so many bytes are left for data."""
    return math.ceil((n_bytes + BASE_BYTES) / PLANNED_SHARE / 2**20)


def max_tile_bytes(memory_bytes: int, threads: int) -> int:
    """Most bytes of a tile, if each thread of a worker has one and all shall fit."""
    return int(data_bytes(memory_bytes) / threads / TILE_FACTOR)


def tiles_peak(tile_bytes: float, threads: int) -> float:
    """Peak memory, bytes, of tiles in all threads of a worker."""
    return tile_bytes * TILE_FACTOR * threads


def n_sampled(shape: tuple[int, int], stride: int) -> int:
    """Pixels in every ``stride``-th row and column of an area of (rows, columns)."""
    return math.prod(-(-side // stride) for side in shape)


def starts_peak(band_bytes: int, n_pixels: int, at_once: int = 1) -> float:
    """Peak memory, bytes, of starts tried at the same time on pixels of so many bytes."""
    return n_pixels * band_bytes * SUBSAMPLE_FACTOR * at_once


def starts_at_once(band_bytes: int, n_pixels: int, memory_bytes: int, threads: int) -> int:
    """How many threads of a worker may hold the subsample at the same time (0: none)."""
    return min(threads, int(data_bytes(memory_bytes) // starts_peak(band_bytes, n_pixels)))


def peak_bytes(
    scene: Scene, tile_shape: tuple[int, int], sampled: int, memory_bytes: int, threads: int
) -> int:
    """The most memory a worker will use: tiles in each thread, or starts on a sample, if any."""
    tiles = tiles_peak(math.prod(tile_shape) * pixel_bytes(scene), threads)
    starts = 0.0
    if sampled:
        band_bytes = scene.shape[2] * np.dtype(scene.dtype).itemsize
        n_pixels = min(SUBSAMPLE, sampled)
        at_once = starts_at_once(band_bytes, n_pixels, memory_bytes, threads)
        starts = starts_peak(band_bytes, n_pixels, at_once)
    return int(BASE_BYTES + max(tiles, starts))
