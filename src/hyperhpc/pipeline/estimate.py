"""What a plan will cost: tasks, bytes, files, memory and time, before anything runs.

Sizes are before compression. The time is a guess from rates measured on two cores of a
server (docs/performance.md), good to a factor of two or so; all else follows from the plan.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.compute.overview import finest_step
from hyperhpc.compute.sample import is_from_copy, tiles_at_once
from hyperhpc.rundir.plan import (
    SUBSAMPLE,
    SUBSAMPLE_FACTOR,
    TILE_FACTOR,
    pixel_bytes,
    starts_at_once,
)
from hyperhpc.scene.cube import THINNED_STEP
from hyperhpc.schema import COLORS
from hyperhpc.workers.sizes import BASE_BYTES

if TYPE_CHECKING:
    from hyperhpc.pipeline.prepare import Prepared

#: Pixels a second and thread, of scenes of 426 bands: transposing, sampling, classifying.
_RATES = {"transpose": 0.3e6, "sample": 1.0e6, "classify": 0.4e6}
#: Sampled pixels a second and thread in one pass of a fit, and how many passes it takes.
_FIT_RATE, _FIT_PASSES = 1.0e6, 25
#: Start-up, starts of the models, overviews and report, seconds.
_FIXED_S, _FIT_FIXED_S = 15.0, 15.0


def estimate(prepared: Prepared, workers: int) -> dict[str, Any]:
    """Costs of a run with so many workers, as ``hyperhpc plan`` tells them."""
    plan, scene, config = prepared.plan, prepared.scene, prepared.config
    n_pixels = plan.area.shape[0] * plan.area.shape[1]
    n_tiles = plan.n_tiles()
    passes = ["transpose"] * plan.is_transposed
    passes += [] if prepared.applied else ["sample"]
    passes += ["classify"]
    n_maps = len(prepared.indices) + len(prepared.model_names)
    n_sampled = (
        0 if prepared.applied else math.prod(-(-s // config.stride) for s in plan.area.shape)
    )
    stored = scene.shape[2] * np.dtype(scene.stored_dtype).itemsize
    n_read: dict[str, float] = dict.fromkeys(passes, n_pixels)
    if "sample" in passes and is_from_copy(scene, plan.area, config.stride):
        n_read["sample"] = n_pixels / THINNED_STEP**2
    times = tiles_at_once(scene, plan, config.stride, is_skipping=config.skip_bad_tiles)
    tasks = {name: plan.n_tiles(times if name == "sample" else 1) for name in passes}
    return {
        "tiles": n_tiles,
        "tile_shape": list(plan.tile_shape),
        "passes": passes,
        "tasks": sum(tasks.values()),
        "bytes_to_read": int(stored * sum(n_read.values())),
        "bytes_to_write": _bytes_written(prepared, n_pixels, n_sampled),
        "files_to_create": n_tiles * n_maps + 60,
        "free_bytes": _free(config.out),
        "peak_memory_per_worker_mib": _peak(prepared) // 2**20,
        "seconds": round(_seconds(n_read, n_sampled, workers * config.threads_per_worker)),
    }


def _bytes_written(prepared: Prepared, n_pixels: int, n_sampled: int) -> int:
    """Results, sample and overviews."""
    pixel = 4 * len(prepared.indices) + len(prepared.model_names)
    sample = n_sampled * len(prepared.selection.bands) * np.dtype(prepared.scene.dtype).itemsize
    step = finest_step(prepared.plan.area.shape)
    overview = n_pixels // step**2 * (pixel + 4 * len(COLORS)) * 4 // 3
    transposed = n_pixels * prepared.scene.shape[2] * 2 if prepared.plan.is_transposed else 0
    return n_pixels * pixel + sample + overview + transposed


def _free(out: Path) -> int:
    """Free bytes on the file system that OUT is or will be on."""
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _peak(prepared: Prepared) -> int:
    """The most a worker will use, bytes: tiles in each thread, or a start of a model."""
    config, scene, plan = prepared.config, prepared.scene, prepared.plan
    height, width = plan.tile_shape
    tile = height * width * pixel_bytes(scene) * TILE_FACTOR * config.threads_per_worker
    n_pixels = min(SUBSAMPLE, math.prod(-(-s // config.stride) for s in plan.area.shape))
    band_bytes = scene.shape[2] * np.dtype(scene.dtype).itemsize
    at_once = starts_at_once(
        band_bytes, n_pixels, config.memory_bytes, config.threads_per_worker
    )
    starts = 0 if prepared.applied else SUBSAMPLE_FACTOR * at_once * n_pixels * band_bytes
    return int(BASE_BYTES + max(tile, starts))


def _seconds(n_read: dict[str, float], n_sampled: int, threads: int) -> float:
    seconds = _FIXED_S + sum(n / _RATES[name] / threads for name, n in n_read.items())
    if n_sampled:
        seconds += _FIT_FIXED_S + n_sampled * _FIT_PASSES / _FIT_RATE / threads
    return seconds
