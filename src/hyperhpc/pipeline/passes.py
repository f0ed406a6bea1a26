"""The passes over the tiles: each reads files of the one before and writes its own."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.analysis.agreement import adjusted_rand_index
from hyperhpc.errors import SceneError
from hyperhpc.pipeline.checksums import find_damage
from hyperhpc.pipeline.classify import ClassifyJob, OverviewFiles, blank_tile, classify_tile
from hyperhpc.pipeline.damage import Skipping, bad_tiles
from hyperhpc.pipeline.manifest import read_json, write_json
from hyperhpc.pipeline.models import Labeller
from hyperhpc.pipeline.overview import OverviewAbout, finest_step, write_overview
from hyperhpc.pipeline.plan import Plan, Tile
from hyperhpc.pipeline.sample import (
    Sample,
    SampleJob,
    blank_sample,
    count_valid,
    is_from_copy,
    sample_tile,
    tiles_at_once,
)
from hyperhpc.pipeline.stores import consolidate, create_group, create_store, mark
from hyperhpc.pipeline.tiles import run_tiles, shorten
from hyperhpc.pipeline.transpose import explain_transposing, transpose_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.schema import COLORS_NM, RESULTS
from hyperhpc.workers import Workers

if TYPE_CHECKING:
    from hyperhpc.pipeline.stages import Run


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


def classify(
    this: Run, scene: Scene, labellers: list[Labeller], workers: Workers
) -> dict[str, dict[str, Any]]:
    """Stage 3: indices and labels of the whole area, and the overviews."""
    plan, folder = this.plan, this.folder
    names = [bound.index.name for bound in this.indices]
    step = finest_step(plan.area.shape)
    files = OverviewFiles.at(folder.work, plan.area, step, len(names), len(labellers))
    records = folder.records("classify")
    colors = [int(np.argmin(np.abs(this.scene.wavelength_nm - nm))) for nm in COLORS_NM]
    about = OverviewAbout(
        step,
        this.grid,
        names,
        list(this.model_names),
        this.scene.wavelength_nm[colors].tolist(),
    )
    if folder.results.exists() and all(file.is_whole() for file in files.files()):
        _drop_damaged(this, records)
    else:
        shutil.rmtree(records, ignore_errors=True)
        _create_results(this, names)
        for file in files.files():
            file.create()
    about.write(folder.work)
    job = ClassifyJob(
        scene,
        plan.area,
        this.selection.bands,
        this.selection.is_window_band,
        this.indices,
        labellers,
        colors,
        folder.results,
        files,
    )
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
    mark(folder.results, complete=True, **({"bad_tiles": sorted(bad)} if bad else {}))
    with this.stage("overview", "building overviews"):
        write_overview(folder.overview, files, about, plan.area.shape, workers.apply)
    return results


def _drop_damaged(this: Run, records: Path) -> None:
    """Forget the tiles whose files are not as they were written; remove half-written ones."""
    results = this.folder.results
    for part in results.rglob("*.partial"):
        part.unlink(missing_ok=True)
    paths: dict[str, Path] = {}
    sums: dict[str, Any] = {}
    for path in records.glob("*.json"):
        files = read_json(path).get("files", {})
        paths |= dict.fromkeys(files, path)
        sums |= files
    damaged = dict(find_damage(results, sums))
    if damaged:
        mark(results, complete=False)  # first: a start after a kill here finds the damage again
        for name in damaged:
            paths[name].unlink(missing_ok=True)
        tiles = sorted({paths[name].stem for name in damaged})
        name, what = next(iter(damaged.items()))
        this.journal.warn(
            f"finished tiles were found damaged and are computed again: {shorten(tiles)} "
            f"({results.name}/{name} {what})"
        )


def _create_results(this: Run, names: list[str]) -> None:
    part = this.folder.results.with_name(".results.zarr.part")
    for path in (part, this.folder.results):
        shutil.rmtree(path, ignore_errors=True)
    create_group(
        create_store(part),
        dict(zip(RESULTS, (names, this.model_names), strict=True)),
        this.grid,
        this.plan.area.shape,
        this.plan.tile_shape,
        {"title": "hyperhpc results", "Conventions": "CF-1.11", "complete": False},
    )
    consolidate(part)
    part.rename(this.folder.results)


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
