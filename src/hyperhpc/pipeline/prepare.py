"""What is found out and checked before a run writes anything, and what it will cost."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.indices import choose_indices
from hyperhpc.compute.endmembers import read_endmembers
from hyperhpc.compute.fit.applied import read_applied
from hyperhpc.compute.fit.fitting import check_models
from hyperhpc.compute.overview import finest_step
from hyperhpc.compute.sample import tiles_per_side, uses_thinned_copy
from hyperhpc.compute.selection import (
    bind_conditions,
    place_spectra,
    resolve_drop,
    select_bands,
    usable_centres_nm,
)
from hyperhpc.config import SHAPE, RunConfig
from hyperhpc.pipeline.context import RunContext
from hyperhpc.rundir.bbox import check_points
from hyperhpc.rundir.folder import check_folder
from hyperhpc.rundir.memory import n_sampled, peak_bytes
from hyperhpc.rundir.plan import make_plan, note_bbox
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import THINNED_STEP, Scene
from hyperhpc.scene.points import GivenPoints, place_points, split_layer
from hyperhpc.scene.thinned import check_thinned
from hyperhpc.scene.views import MaskedScene
from hyperhpc.schema import COLORS
from hyperhpc.workers import check_workers, planned_workers

#: Pixels a second and thread, of scenes of 426 bands, on two cores of a server
#: (docs/performance.md): good to a factor of two or so.
_RATES = {"transpose": 0.3e6, "sample": 1.0e6, "classify": 0.4e6}
#: Sampled pixels a second and thread in one pass of a fit, and how many passes it takes.
_FIT_RATE, _FIT_PASSES = 1.0e6, 25
#: Start-up, starts of the models, overviews and report, seconds.
_FIXED_S, _FIT_FIXED_S = 15.0, 15.0
#: So few pixels go to one worker on this machine: starting a second one takes longer than its
#: share of the work (docs/performance.md).
_FEW_PIXELS = 50_000


def prepare(config: RunConfig, *, is_plan: bool = False) -> RunContext:
    """Open the scene, choose bands, indices, models and tiles; refuse what cannot be done.

    Raises ConfigError, SceneError, ResourceError, SlurmError.
    """
    given = GivenPoints(config.points, config.points_file, config.point_crs)
    options, given = split_layer(config.scene_options, given)
    scene = note_bbox(open_scene(config.scene, options=options), config.bbox)
    check_thinned(scene)
    scene, config = resolve_drop(scene, config)
    selection, applied = select_bands(scene, config.drop, seed_compat=config.seed_compat), None
    if config.apply_model:
        applied = read_applied(config.apply_model, config.models, scene)
        selection = applied.select(selection)
    indices, skipped = choose_indices(
        config.indices,
        config.formula,
        scene.wavelength_nm if config.seed_compat else usable_centres_nm(scene),
        seed_compat_bands=selection.bands if config.seed_compat else None,
    )
    conditions = bind_conditions(scene, config, selection)
    model_names = list(applied.model["models"]) if applied else check_models(config)
    endmembers = None
    if config.unmix:
        good_nm, by_shape = scene.wavelength_nm[selection.bands], config.unmix_by == SHAPE
        endmembers = read_endmembers(config.unmix, good_nm, by_shape=by_shape)
    points = place_points(scene, given)
    check_points(config.bbox, points.places)
    scene = replace(scene, notes=(*scene.notes, *points.notes))
    spectra = place_spectra(scene, points, selection.bands)
    check_workers(config, is_plan=is_plan)
    plan = make_plan(scene, config)
    height, width = plan.area.shape
    if config.launcher == "local" and config.workers is None and height * width <= _FEW_PIXELS:
        config = replace(config, workers=1)
    # Files count by their content, not by their names
    by_content = {
        "model": applied and applied.digest,
        "points_file": points.digest,
        **digests(scene, config),
        **({"unmix": endmembers.digest} if endmembers else {}),
    }
    plan = replace(plan, options=plan.options | by_content)
    return RunContext(
        config,
        scene,
        selection,
        indices,
        skipped,
        conditions,
        model_names,
        spectra,
        plan,
        applied,
        endmembers,
    )


def digests(scene: Scene, config: RunConfig) -> dict[str, str | None]:
    """SHA-256 of what options take from files: band centres, and areas of interest."""
    centres = hashlib.sha256(scene.wavelength_nm.tobytes()).hexdigest()
    return {
        "wavelengths": centres if config.wavelengths else None,
        "aoi": _digest_of_areas(scene) if config.aoi else None,
    }


def _digest_of_areas(scene: Scene) -> str:
    """SHA-256 of the polygons of --aoi, whose mask is the last that a scene gets."""
    assert isinstance(scene, MaskedScene)
    digest: str = scene.mask.fingerprint()["aoi"]
    return digest


def describe_plan(config: RunConfig) -> dict[str, Any]:
    """What a run would do, by the keys of ``hyperhpc plan --json``; nothing is written.

    Raises ConfigError, SceneError, ResourceError, SlurmError: as the run itself would.
    """
    ctx = prepare(config, is_plan=True)
    found = check_folder(ctx.folder, ctx.plan, Path(ctx.scene.path), config.restart)
    ctx = replace(ctx, plan=found or ctx.plan)
    workers = planned_workers(ctx.config)
    return {
        "scene": ctx.scene.path,
        "out": str(config.out),
        "continues": found is not None,
        "pixels": ctx.n_pixels,
        "shape": list(ctx.plan.area.shape),
        "bands": f"{len(ctx.selection.bands)} of {ctx.scene.shape[2]}",
        "indices": ctx.index_names,
        "models": list(ctx.model_names),
        **({"where": ctx.conditions.texts} if len(ctx.conditions) else {}),
        "launcher": config.launcher,
        "workers": workers,
        "threads_per_worker": config.threads_per_worker,
        "memory_per_worker_mib": config.memory_bytes // 2**20,
        **estimate(ctx, workers),
        "notes": [*ctx.scene.notes, *ctx.scene.warnings],
    }


def estimate(ctx: RunContext, workers: int) -> dict[str, Any]:
    """Tasks, bytes before compression, files, memory and a guess of the seconds of a run."""
    plan, scene, config = ctx.plan, ctx.scene, ctx.config
    is_needed = {"transpose": plan.is_transposed, "sample": not ctx.applied, "classify": True}
    passes = [name for name, needed in is_needed.items() if needed]
    sampled = 0 if ctx.applied else n_sampled(plan.area.shape, ctx.stride)
    n_read: dict[str, float] = dict.fromkeys(passes, ctx.n_pixels)
    if "sample" in passes and uses_thinned_copy(scene, plan.area, ctx.stride):
        n_read["sample"] = ctx.n_pixels / THINNED_STEP**2
    times = tiles_per_side(scene, plan, ctx.stride, skips_bad_tiles=config.skip_bad_tiles)
    n_maps = len(ctx.indices) + len(ctx.model_names) + _n_mixtures(ctx)
    stored_bytes = scene.shape[2] * np.dtype(scene.stored_dtype).itemsize
    threads = workers * config.threads_per_worker
    seconds = _FIXED_S + sum(n / _RATES[name] / threads for name, n in n_read.items())
    if sampled:
        seconds += _FIT_FIXED_S + sampled * _FIT_PASSES / _FIT_RATE / threads
    peak = peak_bytes(
        scene, plan.tile_shape, sampled, config.memory_bytes, config.threads_per_worker
    )
    return {
        "tiles": plan.n_tiles(),
        "tile_shape": list(plan.tile_shape),
        "passes": passes,
        "tasks": sum(plan.n_tiles(times if name == "sample" else 1) for name in passes),
        "bytes_to_read": int(stored_bytes * sum(n_read.values())),
        "bytes_to_write": _bytes_written(ctx, sampled),
        "files_to_create": plan.n_tiles() * n_maps + 60,
        "free_bytes": _free_bytes(config.out),
        "peak_memory_per_worker_mib": peak // 2**20,
        "seconds": round(seconds),
    }


def _n_mixtures(ctx: RunContext) -> int:
    """Maps of fractions, and of their residual."""
    return len(ctx.endmember_names) + 1 if ctx.endmembers else 0


def _bytes_written(ctx: RunContext, sampled: int) -> int:
    """Results, sample, overviews, and the transposed scene."""
    plan, scene = ctx.plan, ctx.scene
    pixel = 4 * (len(ctx.indices) + _n_mixtures(ctx)) + len(ctx.model_names)
    sample = sampled * len(ctx.selection.bands) * np.dtype(scene.dtype).itemsize
    step = finest_step(plan.area.shape)
    overview = ctx.n_pixels // step**2 * (pixel + 4 * len(COLORS)) * 4 // 3
    transposed = ctx.n_pixels * scene.shape[2] * 2 if plan.is_transposed else 0
    return ctx.n_pixels * pixel + sample + overview + transposed


def _free_bytes(out: Path) -> int:
    """Free bytes on the file system that OUT is or will be on."""
    folder = out.absolute()
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
