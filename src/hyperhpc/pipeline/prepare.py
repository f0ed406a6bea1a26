"""All that is found out and checked before a run writes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hyperhpc.analysis.indices import BoundIndex, choose_indices
from hyperhpc.compute.applied import AppliedModel, read_applied
from hyperhpc.compute.fitting import check_models
from hyperhpc.compute.selection import Selection, select_bands, spectra_at, usable_nm
from hyperhpc.config import RunConfig
from hyperhpc.pipeline.estimate import estimate
from hyperhpc.pipeline.manifest import RunFolder
from hyperhpc.rundir.folder import check_folder
from hyperhpc.rundir.plan import Plan, make_plan
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.thinned import check_thinned
from hyperhpc.workers import check_workers, planned_workers


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
    if config.model:
        applied = read_applied(config.model, config.models, scene)
        selection = applied.select(selection)
    indices, skipped = choose_indices(
        config.indices,
        config.index,
        scene.wavelength_nm if config.seed_compat else usable_nm(scene),
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
