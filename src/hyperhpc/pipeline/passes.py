"""The passes over the tiles: each reads files of the one before and writes its own."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.analysis.agreement import adjusted_rand_index
from hyperhpc.compute.classify import ClassifyJob, OverviewFiles, blank_tile, classify_tile
from hyperhpc.compute.models import Labeller
from hyperhpc.compute.overview import OverviewAbout, finest_step, write_overview
from hyperhpc.compute.sample import (
    Sample,
    SampleJob,
    blank_sample,
    count_valid,
    is_from_copy,
    sample_tile,
    tiles_at_once,
)
from hyperhpc.compute.stores import mark, remove_halves
from hyperhpc.compute.tiles import run_tiles
from hyperhpc.compute.transpose import explain_transposing, transpose_scene
from hyperhpc.errors import SceneError
from hyperhpc.pipeline.damage import Skipping, bad_tiles
from hyperhpc.pipeline.manifest import read_json, write_json
from hyperhpc.pipeline.results import create_results, drop_damaged, is_frame_whole
from hyperhpc.rundir.plan import Plan, Tile
from hyperhpc.scene.cube import Scene
from hyperhpc.schema import COLORS_NM
from hyperhpc.workers import Workers

if TYPE_CHECKING:
    from hyperhpc.pipeline.runner import Run


def transpose(this: Run, workers: Workers) -> Scene:
    """Stage 0, only for scenes stored band by band."""
    area, work = this.plan.area, this.folder.work
    this.progress.note(explain_transposing(this.scene, area, work))
    n_values = area.shape[0] * area.shape[1] * this.scene.shape[2]
    with this.stage("transpose", "transposing bands", n_values) as s:
        scene, results, resumed = transpose_scene(
            this.scene, area, work, this.config, workers, this.progress, this.claim
        )
        s.update(_totals(results, resumed))
    return scene


def take_sample(this: Run, scene: Scene, workers: Workers) -> Sample:
    """Stage 1: the sample."""
    plan, is_skipping = this.plan, this.config.skip_bad_tiles
    skipping = Skipping(blank_sample, {}, frozenset()) if is_skipping else None
    sample = Sample.at(
        this.folder.work,
        plan.area,
        this.config.stride,
        len(this.selection.bands),
        this.scene.dtype,
    )
    records = this.folder.records("sample")
    if not (sample.values.is_whole() and sample.mask.is_whole()):
        shutil.rmtree(records, ignore_errors=True)
        sample.values.create()
        sample.mask.create()
    job = SampleJob(scene, plan.area, this.config.stride, this.selection.bands, sample)
    times = tiles_at_once(scene, plan, this.config.stride, is_skipping=is_skipping)
    tiles = list(plan.tiles(times))
    with this.stage("sample", "reading the sample", _pixels(plan), len(tiles)) as s:
        results, resumed = run_tiles(
            workers, sample_tile, job, tiles, records, this.progress, this.claim, skipping
        )
        s.update(_totals(results, resumed))
    bad = bad_tiles(results)
    if not any(record["valid"] for record in results.values()):
        rest = [tile for tile in plan.tiles() if tile.name not in bad]
        _check_any_valid(this, job, workers, rest, bad)
    this.journal.note_bad(bad)
    if not is_from_copy(scene, plan.area, this.config.stride):
        this.used = frozenset(name for name, record in results.items() if record["sampled"])
    return sample


def _check_any_valid(
    this: Run, job: SampleJob, workers: Workers, tiles: list[Tile], bad: dict[str, str]
) -> None:
    """Tell a scene without a valid pixel from a sample that has missed them all."""
    folder = this.folder.records("count")
    with this.stage("count", "looking for data", _pixels(this.plan)):
        records, _ = run_tiles(
            workers, count_valid, job, tiles, folder, this.progress, this.claim
        )
    if not any(record["valid"] for record in records.values()):
        if bad:
            name, why = next(iter(bad.items()))
            raise SceneError(
                f"the tiles that can be read hold no valid pixel; {len(bad)} cannot be read, "
                f"{name} for one: {why}",
                "copy the scene again",
            )
        raise _no_valid_pixel(this)


def _no_valid_pixel(this: Run) -> SceneError:
    return SceneError(
        f"the scene has no valid pixel among {_pixels(this.plan)}",
        f"check its no-data value: hyperhpc info {shlex.quote(str(this.config.scene))}",
    )


def classify_job(this: Run, scene: Scene, labellers: list[Labeller]) -> ClassifyJob:
    """What each tile of stage 3 needs; nothing is written."""
    step = finest_step(this.plan.area.shape)
    return ClassifyJob(
        scene,
        this.plan.area,
        this.selection.bands,
        this.selection.is_window_band,
        this.indices,
        labellers,
        [int(np.argmin(np.abs(this.scene.wavelength_nm - nm))) for nm in COLORS_NM],
        this.folder.results,
        OverviewFiles.at(
            this.folder.work, this.plan.area, step, len(this.indices), len(labellers)
        ),
        this.config.index_bits,
    )


def classify(
    this: Run, scene: Scene, labellers: list[Labeller], workers: Workers
) -> dict[str, dict[str, Any]]:
    """Stage 3: indices and labels of the whole area, and the overviews."""
    plan, folder = this.plan, this.folder
    job = classify_job(this, scene, labellers)
    records = folder.records("classify")
    if is_frame_whole(this) and all(file.is_whole() for file in job.overview.files()):
        drop_damaged(this, records)
    else:
        shutil.rmtree(records, ignore_errors=True)
        create_results(this)
        for file in job.overview.files():
            file.create()
    about = OverviewAbout(
        job.overview.step,
        this.grid,
        [bound.index.name for bound in this.indices],
        list(this.model_names),
        this.scene.wavelength_nm[list(job.colors)].tolist(),
    )
    about.write(folder.work)
    tiles = list(plan.tiles())
    skipping = None
    if this.config.skip_bad_tiles:
        known = {entry["tile"]: entry["why"] for entry in this.journal.bad_tiles}
        skipping = Skipping(blank_tile, known, this.used)
    with this.stage("classify", "indices and labels", _pixels(plan), len(tiles)) as s:
        results, resumed = run_tiles(
            workers, classify_tile, job, tiles, records, this.progress, this.claim, skipping
        )
        s.update(_totals(results, resumed))
    bad = bad_tiles(results)
    this.journal.note_bad(bad)
    remove_halves(folder.results)  # of workers that were lost
    mark(folder.results, complete=True, **({"bad_tiles": sorted(bad)} if bad else {}))
    with this.stage("overview", "building overviews"):
        write_overview(folder.overview, job.overview, about, plan.area.shape, workers.apply)
    return results


def summarise(this: Run, records: dict[str, dict[str, Any]]) -> None:
    """clusters.json: spectra of the fitted sample, areas and agreement of the whole area.

    Raises
    ------
    SceneError
        If no pixel is valid, which the sample would have found.
    """
    if not any(record["valid"] for record in records.values()):
        raise _no_valid_pixel(this)
    spectra = read_json(this.folder.work / "cluster-spectra.json")
    names = list(this.model_names)
    models = {
        name: spectra[name]
        | {"pixels": np.sum([r["pixels"][m] for r in records.values()], axis=0).tolist()}
        for m, name in enumerate(names)
    }
    agreement = []
    for pair in next(iter(records.values()))["confusion"]:
        a, b = map(int, pair.split("-"))
        confusion = np.sum([r["confusion"][pair] for r in records.values()], axis=0)
        agreement.append(
            {
                "models": [names[a], names[b]],
                "adjusted_rand_index": adjusted_rand_index(confusion),
                "confusion": confusion.tolist(),
            }
        )
    write_json(this.folder.clusters, {"models": models, "agreement": agreement})
    this.journal.note_pixels(records)


def _pixels(plan: Plan) -> int:
    return plan.area.shape[0] * plan.area.shape[1]


def _totals(records: dict[str, dict[str, Any]], resumed: int) -> dict[str, Any]:
    return {
        "tiles": len(records),
        "tiles_resumed": resumed,
        "bytes_read": sum(r["bytes_read"] for r in records.values()),
        "bytes_written": sum(r["bytes_written"] for r in records.values()),
    }
