"""Pixels of a scene that commands look at before a run: every n-th row and column."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hyperhpc.analysis.condition import BoundConditions
from hyperhpc.compute.sample import Sample, SampleJob, sample_tile
from hyperhpc.compute.selection import bind_conditions, resolve_drop, select_bands
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError
from hyperhpc.rundir.plan import Plan, make_plan, note_bbox
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import THINNED_STEP, Scene


@dataclass(frozen=True)
class SampledScene:
    """A scene, its good bands, and which of its pixels are looked at.

    ``conditions``: Only pixels that meet them are looked at.
    ``plan``: Area and tiles. ``stride``: Rows and columns from one pixel to the next.
    """

    config: RunConfig
    scene: Scene
    bands: np.ndarray
    conditions: BoundConditions
    plan: Plan
    stride: int


def open_sampled(config: RunConfig, wanted: int) -> SampledScene:
    """Open the scene; without ``--stride`` about twice as many pixels are taken as ``wanted``.

    Raises ConfigError, SceneError, ResourceError: as for a run with these options; or the scene
    is stored band by band.
    """
    scene = note_bbox(open_scene(config.scene, options=config.scene_options), config.bbox)
    plan = make_plan(scene, config)
    if plan.is_transposed:
        words = ["hyperhpc", "ingest", scene.path, "scene.zarr", *config.scene_options.as_words()]
        raise ConfigError(
            f"{scene.path} is stored band by band: each sampled pixel would cost a whole image",
            f"Store it by pixels: {shlex.join(words)}",
        )
    scene, config = resolve_drop(scene, config)
    selection = select_bands(scene, config.drop)
    conditions = bind_conditions(scene, config, selection)
    stride = max(1, math.isqrt(math.prod(plan.area.shape) // (2 * wanted)))
    if stride > 2:  # a multiple of this step can be read from a thinned copy
        stride = -(-stride // THINNED_STEP) * THINNED_STEP
    stride = config.stride or stride
    return SampledScene(config, scene, selection.bands, conditions, plan, stride)


def read_sample(sampled: SampledScene, work: Path, progress: Progress) -> Sample:
    """Read the pixels, as the sample pass of a run does, into files in the folder ``work``."""
    plan, stride, scene = sampled.plan, sampled.stride, sampled.scene
    sample = Sample.at(work, plan.area, stride, len(sampled.bands), scene.dtype)
    sample.values.create()
    sample.mask.create()
    job = SampleJob(scene, plan.area, stride, sampled.bands, sample, sampled.conditions)
    with progress.stage("reading the sample", plan.n_tiles(), "tiles"):
        for tile in plan.tiles():
            sample_tile(job, tile)
            progress.advance(1)
    return sample
