"""All that is found out and checked before a run writes anything."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.indices import BoundIndex, choose_indices
from hyperhpc.compute.applied import AppliedModel, read_applied
from hyperhpc.compute.fitting import check_models
from hyperhpc.compute.overview import finest_step
from hyperhpc.compute.sample import tiles_per_side, uses_thinned_copy
from hyperhpc.compute.selection import Selection, select_bands, spectra_at, usable_centres_nm
from hyperhpc.config import RunConfig
from hyperhpc.rundir.folder import RunFolder, check_folder
from hyperhpc.rundir.plan import (
    SUBSAMPLE,
    SUBSAMPLE_FACTOR,
    TILE_FACTOR,
    Plan,
    make_plan,
    pixel_bytes,
    starts_at_once,
)
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import THINNED_STEP, Scene
from hyperhpc.scene.thinned import check_thinned
from hyperhpc.schema import COLORS
from hyperhpc.workers import check_workers, planned_workers
from hyperhpc.workers.sizes import BASE_BYTES

# What a plan will cost: tasks, bytes, files, memory and time, before anything runs.
#
# Sizes are before compression. The time is a guess from rates measured on two cores of a
# server (docs/performance.md), good to a factor of two or so; all else follows from the plan.

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
    if "sample" in passes and uses_thinned_copy(scene, plan.area, config.stride):
        n_read["sample"] = n_pixels / THINNED_STEP**2
    times = tiles_per_side(scene, plan, config.stride, skips_bad_tiles=config.skip_bad_tiles)
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


@dataclass
class Prepared:
    """What a run was asked for, and what its scene was found to be."""

    config: RunConfig
    scene: Scene
    selection: Selection
    indices: list[BoundIndex]
    skipped: dict[str, str]
    model_names: Sequence[str]
    spectra: list[dict[str, Any]]
    plan: Plan
    applied: AppliedModel | None


def prepare(config: RunConfig, *, is_plan: bool = False) -> Prepared:
    """Open the scene, choose bands, indices, models and tiles; refuse what cannot be done.

    Parameters
    ----------
    is_plan
        Nothing will be started.

    Raises
    ------
    ConfigError, SceneError, ResourceError, SlurmError
        See :mod:`hyperhpc.errors`.
    """
    scene = open_scene(config.scene, options=config.scene_options)
    check_thinned(scene)
    selection = select_bands(scene, config.drop, seed_compat=config.seed_compat)
    applied = None
    if config.apply_model:
        applied = read_applied(config.apply_model, config.models, scene)
        selection = applied.select(selection)
    indices, skipped = choose_indices(
        config.indices,
        config.formula,
        scene.wavelength_nm if config.seed_compat else usable_centres_nm(scene),
        seed_compat_bands=selection.bands if config.seed_compat else None,
    )
    model_names = applied.names if applied else check_models(config)
    spectra = spectra_at(scene, config.points, selection.bands)
    check_workers(config, is_plan=is_plan)
    plan = make_plan(scene, config)
    by_content = {"model": applied and applied.digest, **digests(scene, config)}
    plan = replace(plan, options=plan.options | by_content)
    return Prepared(
        config, scene, selection, indices, skipped, model_names, spectra, plan, applied
    )


def digests(scene: Scene, config: RunConfig) -> dict[str, str | None]:
    """SHA-256 of what options take from files: band centres, and areas of interest."""
    centres, area = scene.wavelength_nm.tobytes(), config.aoi and config.aoi.read_bytes()
    return {
        "wavelengths": hashlib.sha256(centres).hexdigest() if config.wavelengths else None,
        "aoi": hashlib.sha256(area).hexdigest() if area else None,
    }


def describe_plan(config: RunConfig) -> dict[str, Any]:
    """What a run with these options would do; nothing is written.

    Returns
    -------
    The keys of ``hyperhpc plan --json``.

    Raises
    ------
    ConfigError, SceneError, ResourceError, SlurmError
        As the run itself would.
    """
    prepared = prepare(config, is_plan=True)
    folder = RunFolder(config.out)
    found = check_folder(folder, prepared.plan, Path(prepared.scene.path), config.restart)
    plan = found or prepared.plan
    workers = planned_workers(config)
    return {
        "scene": prepared.scene.path,
        "out": str(config.out),
        "continues": found is not None,
        "pixels": plan.area.shape[0] * plan.area.shape[1],
        "shape": list(plan.area.shape),
        "bands": f"{len(prepared.selection.bands)} of {prepared.scene.shape[2]}",
        "indices": [bound.index.name for bound in prepared.indices],
        "models": list(prepared.model_names),
        "launcher": config.launcher,
        "workers": workers,
        "threads_per_worker": config.threads_per_worker,
        "memory_per_worker_mib": config.memory_bytes // 2**20,
        **estimate(replace(prepared, plan=plan), workers),
    }
