"""The passes of a run: each reads the files of the one before and writes its own."""

from __future__ import annotations

import shlex
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.analysis.agreement import adjusted_rand_index
from hyperhpc.analysis.evaluation import CAUSES
from hyperhpc.analysis.noise import BandQuality
from hyperhpc.analysis.residuals import measure_carbon_dioxide
from hyperhpc.compute import sample as sampling
from hyperhpc.compute.classify import ClassifyJob, OverviewFiles, classify_tile, write_nodata_tile
from hyperhpc.compute.fit.fitting import FitJob, fit_models
from hyperhpc.compute.fit.models import Labeller, nan_to_none
from hyperhpc.compute.fit.starts import Subsample, measure_subsample, write_subsample
from hyperhpc.compute.fit.sums import SampleOnWorkers
from hyperhpc.compute.overview import OverviewMetadata, finest_step, write_overview
from hyperhpc.compute.results_store import create_results, drop_damaged_tiles, is_store_intact
from hyperhpc.compute.sample import Sample, SampleJob
from hyperhpc.compute.stores import set_attributes
from hyperhpc.compute.tiles import (
    SkipPolicy,
    collect_bad_tiles,
    describe_bad_tiles,
    drop_damaged_records,
    run_tiles,
)
from hyperhpc.compute.transpose import explain_transposing, transpose_scene
from hyperhpc.config import ENOUGH_PIXELS, STRIDE
from hyperhpc.errors import SceneError
from hyperhpc.files import remove_partial_files
from hyperhpc.pipeline.conditions import count_masked, no_pixel_left
from hyperhpc.pipeline.context import RunContext
from hyperhpc.pipeline.header import say_every
from hyperhpc.pipeline.managed import Session
from hyperhpc.pipeline.record import RunRecord
from hyperhpc.rundir.plan import list_strides
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.probe import explain_median, is_bright
from hyperhpc.schema import COLORS_NM
from hyperhpc.sealed import read_json
from hyperhpc.workers import Workers

#: What each tile of a pass has recorded, by the tile's name.
TileRecords = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Stages:
    """Shows each stage, times it and records it in run.json."""

    session: Session
    record: RunRecord

    @contextmanager
    def stage(
        self, name: str, title: str, total: int | None = None, tiles: int = 0
    ) -> Iterator[dict[str, Any]]:
        """One stage; what is put into the entry it yields is recorded with it."""
        entry: dict[str, Any] = {"name": name}
        start = time.perf_counter()
        self.session.claim.check()
        with self.session.progress.stage(title, total, tiles=tiles):
            yield entry
        self.session.claim.check()
        entry["seconds"] = round(time.perf_counter() - start, 3)
        self.record.add_stage(entry)


@dataclass(frozen=True)
class TakenSample:
    """The outcome of the sample pass.

    ``stride``: Rows and columns from one pixel to the next.
    ``bad``: Tiles that cannot be read, and why.
    ``used``: Tiles of the scene itself of which pixels are in the sample.
    """

    sample: Sample
    stride: int
    bad: dict[str, str]
    used: frozenset[str]


def transpose(ctx: RunContext, stages: Stages, workers: Workers) -> Scene:
    """Turn a scene that is stored band by band into one that is read tile by tile."""
    session, area, work = stages.session, ctx.plan.area, ctx.folder.work
    session.progress.note(explain_transposing(ctx.scene, area, work))
    n_values = ctx.n_pixels * ctx.scene.shape[2]
    with stages.stage("transpose", "transposing bands", n_values) as entry:
        scene, records, resumed = transpose_scene(
            ctx.scene, area, work, ctx.config, workers, session.progress, session.claim
        )
        entry.update(_totals(records, resumed))
    return scene


def take_sample(ctx: RunContext, stages: Stages, scene: Scene, workers: Workers) -> TakenSample:
    """The sample pass: every n-th row and column, of the bands of the models.

    It is repeated with a smaller n, unless that was given, while it leaves too few valid pixels.

    Raises SceneError: the scene has no valid pixel.
    """
    session, config = stages.session, ctx.config
    strides = list_strides(config.stride, ctx.plan.area.shape)
    has_valid = False
    for stride in strides:
        taken, n_valid = _take_one(
            ctx, stages, scene, workers, stride, is_first=stride == strides[0]
        )
        if not (n_valid or has_valid):
            _check_any_valid(ctx, stages, scene, workers, taken)
        has_valid = True
        if n_valid >= ENOUGH_PIXELS:
            break
    if config.stride is None and taken.stride < STRIDE:
        session.progress.note(
            f"note: models are fitted to {n_valid} pixels, of {say_every(taken.stride)} row and "
            f"column; those of {say_every(STRIDE)} are fewer than {ENOUGH_PIXELS}"
        )
    _check_reflectance(ctx, taken.sample)
    _note_carbon_dioxide(ctx, stages.record, taken.sample)
    stages.record.add_bad_tiles(describe_bad_tiles(ctx.plan.tiles(), ctx.plan.area, taken.bad))
    return taken


def _take_one(
    ctx: RunContext, stages: Stages, scene: Scene, workers: Workers, stride: int, *, is_first: bool
) -> tuple[TakenSample, int]:
    """The sample of one stride, and its number of valid pixels."""
    session, plan, config = stages.session, ctx.plan, ctx.config
    skip_policy = (
        SkipPolicy(sampling.write_nodata_sample, {}, frozenset()) if config.skip_bad_tiles else None
    )
    # Each stride has files of its own, so that a run that was stopped knows which it has tried
    name = "sample" if is_first else f"sample-{stride}"
    folder = ctx.folder.records(name)
    work = ctx.folder.work if is_first else ctx.folder.work / f"{name}-files"
    work.mkdir(exist_ok=True)
    sample = Sample.at(work, plan.area, stride, len(ctx.selection.bands), ctx.scene.dtype)
    if not (sample.values.is_complete() and sample.mask.is_complete()):
        shutil.rmtree(folder, ignore_errors=True)
        sample.values.create()
        sample.mask.create()
    grid_files = (sample.values, sample.mask)
    drop_damaged_records(work, folder, stages.record.warn, grid_files)
    job = SampleJob(scene, plan.area, stride, ctx.selection.bands, sample, ctx.conditions)
    times = sampling.tiles_per_side(scene, plan, stride, skips_bad_tiles=config.skip_bad_tiles)
    tiles = list(plan.tiles(times))
    with stages.stage("sample", "reading the sample", ctx.n_pixels, len(tiles)) as entry:
        records, resumed = run_tiles(
            workers,
            sampling.sample_tile,
            job,
            tiles,
            folder,
            session.progress,
            session.claim,
            skip_policy,
        )
        entry.update(_totals(records, resumed))
    is_copy_read = sampling.uses_thinned_copy(scene, plan.area, stride)
    used = (name for name, record in records.items() if record["sampled"] and not is_copy_read)
    taken = TakenSample(sample, stride, collect_bad_tiles(records), frozenset(used))
    return taken, sum(record["valid"] for record in records.values())


def _blocks_all_over(sample: Sample) -> Iterator[np.ndarray]:
    """Valid pixels, DN (pixel, band), of some blocks spread over the sample; see Sample.blocks."""
    return sample.blocks(range(0, sample.n_blocks, max(1, sample.n_blocks // 16)))


def _check_reflectance(ctx: RunContext, sample: Sample) -> None:
    """Refuse numbers that cannot be reflectance, by the median of blocks all over the sample."""
    is_wanted = is_bright(ctx.scene.wavelength_nm[ctx.selection.bands])
    values = np.concatenate([part[::16, is_wanted].ravel() for part in _blocks_all_over(sample)])
    if not values.size:
        return
    if why := explain_median(float(np.median(values)) / ctx.scene.scale_factor):
        hint = "If they are reflectance, say what to divide them by: --scale 100, or --scale 10000"
        raise SceneError(why, hint)


def _note_carbon_dioxide(ctx: RunContext, record: RunRecord, sample: Sample) -> None:
    """Say at CAI if the residual of carbon dioxide exceeds its signal, by pixels of all over."""
    if "cai" not in ctx.index_names:
        return
    parts = [part[:: max(1, len(part) // 1024)].copy() for part in _blocks_all_over(sample)]
    centres_nm = ctx.scene.wavelength_nm[ctx.selection.bands]
    dn, scale_factor = np.concatenate(parts), ctx.scene.scale_factor
    found = measure_carbon_dioxide(dn, centres_nm, scale_factor) if len(dn) else None
    if found and found.exceeds_signal:
        record.note_index("cai", found.describe())


def _check_any_valid(
    ctx: RunContext, stages: Stages, scene: Scene, workers: Workers, taken: TakenSample
) -> None:
    """Tell a scene without a valid pixel from a sample that has missed them all."""
    session, folder, bad = stages.session, ctx.folder.records("count"), taken.bad
    bands, sample = ctx.selection.bands, taken.sample
    job = SampleJob(scene, ctx.plan.area, taken.stride, bands, sample, ctx.conditions)
    tiles = [tile for tile in ctx.plan.tiles() if tile.name not in bad]
    with stages.stage("count", "looking for data", ctx.n_pixels):
        records, _ = run_tiles(
            workers, sampling.count_valid, job, tiles, folder, session.progress, session.claim
        )
    if any(record["clustered"] for record in records.values()):
        return
    if n_valid := sum(record["valid"] for record in records.values()):
        raise no_pixel_left(ctx, n_valid, list(records.values()))
    if bad:
        name, why = next(iter(bad.items()))
        raise SceneError(
            f"The tiles that can be read hold no valid pixel; {len(bad)} cannot be read, "
            f"{name} for one: {why}",
            "Copy the scene again",
        )
    raise _no_valid_pixel(ctx)


def _no_valid_pixel(ctx: RunContext) -> SceneError:
    options = ctx.config.scene_options.as_words()
    words = ["hyperhpc", "info", str(ctx.config.scene), *options]
    return SceneError(
        f"The scene has no valid pixel among {ctx.n_pixels}",
        f"Check its no-data value: {shlex.join(words)}",
    )


def fit(ctx: RunContext, stages: Stages, sample: Sample, workers: Workers) -> list[Labeller]:
    """Fit the models to the sample."""
    start = time.perf_counter()
    data = SampleOnWorkers(sample, workers, stages.session.claim)
    good_nm = ctx.scene.wavelength_nm[ctx.selection.bands]
    scale_factor, warn = ctx.scene.scale_factor, stages.record.warn
    job = FitJob(ctx.config, data, ctx.folder, good_nm, scale_factor, warn)
    had_models = ctx.folder.model.exists()
    labellers = fit_models(job, stages.session.progress)
    if not stages.record.has_band_quality:
        subsample = Subsample.at(ctx.folder.work)
        if had_models:  # the files of an earlier call have no checksum
            data.call(write_subsample, sample, ctx.config.seed, subsample)
        _record_bands(ctx, stages, data.call(measure_subsample, subsample, good_nm, scale_factor))
    stages.record.add_stage({"name": "fit", "seconds": round(time.perf_counter() - start, 3)})
    return labellers


def _record_bands(ctx: RunContext, stages: Stages, quality: BandQuality | None) -> None:
    """Record the noise of the bands, and warn of interpolated ones and of the indices of them."""
    if quality is None:
        return
    good_nm = ctx.scene.wavelength_nm[ctx.selection.bands]
    runs = quality.straight_runs(good_nm)
    stages.record.set_band_quality(
        {
            "wavelength_nm": good_nm.tolist(),
            "noise": nan_to_none(quality.noise),
            "signal": quality.signal.tolist(),
            "interpolated_nm": [list(run) for run in runs],
        }
    )
    if not runs:
        return
    numbers = set(ctx.selection.bands[quality.is_straight].tolist())
    used = {
        bound.index.name: ", ".join(f"{ctx.scene.wavelength_nm[band]:.1f}" for band in bands)
        for bound in ctx.indices
        if (bands := sorted(numbers.intersection(bound.bands)))
    }
    users = "; no index uses them"
    if used:
        users = "; used by " + ", ".join(f"{name} ({nm} nm)" for name, nm in used.items())
    stages.record.warn(
        f"the bands at {', '.join(f'{a:.1f}-{b:.1f}' for a, b in runs)} nm lie on a straight line "
        "between their neighbours in every pixel looked at, as interpolated bands do: they "
        f"hold no measurement of their own{users}"
    )


def classify_job(ctx: RunContext, scene: Scene, labellers: list[Labeller]) -> ClassifyJob:
    """What each tile of the classify pass needs; nothing is written."""
    area, indices = ctx.plan.area, ctx.indices
    step = finest_step(area.shape)
    return ClassifyJob(
        scene,
        ctx.scene,
        area,
        ctx.selection.bands,
        ctx.selection.is_window_band,
        indices,
        labellers,
        [int(np.argmin(np.abs(ctx.scene.wavelength_nm - nm))) for nm in COLORS_NM],
        ctx.folder.results,
        OverviewFiles.at(
            ctx.folder.work, area, step, len(indices), len(labellers), len(ctx.endmember_names)
        ),
        ctx.config.index_bits,
        ctx.endmembers,
        ctx.conditions,
    )


def classify(
    ctx: RunContext,
    stages: Stages,
    scene: Scene,
    labellers: list[Labeller],
    workers: Workers,
    known_bad: Mapping[str, str],
    used: frozenset[str],
) -> TileRecords:
    """The classify pass: indices and labels of the whole area, and the overviews.

    ``known_bad``, ``used``: As in :class:`SkipPolicy`.
    """
    plan, folder, session, record = ctx.plan, ctx.folder, stages.session, stages.record
    job = classify_job(ctx, scene, labellers)
    records = folder.records("classify")
    if is_store_intact(folder, record.warn) and all(f.is_complete() for f in job.overview.files()):
        drop_damaged_tiles(folder, records, record.warn, job.overview.files())
    else:
        shutil.rmtree(records, ignore_errors=True)
        create_results(
            folder, plan, ctx.grid, ctx.index_names, ctx.model_names, ctx.endmember_names
        )
        for file in job.overview.files():
            file.create()
    step, colors_nm = job.overview.step, ctx.scene.wavelength_nm[list(job.colors)].tolist()
    about = OverviewMetadata(
        step, ctx.grid, ctx.index_names, list(ctx.model_names), colors_nm, list(job.causes),
        ctx.endmember_names,
    )  # fmt: skip
    about.write(folder.work)
    tiles = list(plan.tiles())
    is_skipping = ctx.config.skip_bad_tiles
    skip_policy = SkipPolicy(write_nodata_tile, known_bad, used) if is_skipping else None
    with stages.stage("classify", "indices and labels", ctx.n_pixels, len(tiles)) as entry:
        found, resumed = run_tiles(
            workers, classify_tile, job, tiles, records, session.progress, session.claim,
            skip_policy,
        )  # fmt: skip
        entry.update(_totals(found, resumed))
    if len(ctx.conditions) and not any(tile["clustered"] for tile in found.values()):
        record.warn("no pixel meets --where, so that no pixel has a cluster")
    bad = collect_bad_tiles(found)
    record.add_bad_tiles(describe_bad_tiles(plan.tiles(), plan.area, bad))
    remove_partial_files(folder.results)  # of workers that were lost
    set_attributes(folder.results, complete=True, **({"bad_tiles": sorted(bad)} if bad else {}))
    with stages.stage("overview", "building overviews"):
        write_overview(folder.overview, job.overview, about, plan.area.shape, workers.apply)
    return found


def summarise(ctx: RunContext, records: TileRecords) -> dict[str, Any]:
    """Write clusters.json; return valid and no-data pixels, and missing values of each index.

    ``undefined`` says how many of these are missing for each of ``CAUSES``; ``nodata_causes``
    why the no-data pixels are, as far as the tiles say (those of older runs do not).

    Raises SceneError: if no pixel is valid, which the sample pass would have found.
    """
    tiles = list(records.values())
    if not any(tile["valid"] for tile in tiles):
        raise _no_valid_pixel(ctx)
    spectra = read_json(ctx.folder.cluster_spectra)
    names = list(ctx.model_names)
    models = {}
    for m, name in enumerate(names):
        pixels = np.sum([tile["pixels"][m] for tile in tiles], axis=0)
        models[name] = spectra[name] | {"pixels": pixels.tolist()}
    agreement = []
    for pair in tiles[0]["confusion"]:
        a, b = map(int, pair.split("-"))
        confusion = np.sum([tile["confusion"][pair] for tile in tiles], axis=0)
        agreement.append(
            {
                "models": [names[a], names[b]],
                "adjusted_rand_index": adjusted_rand_index(confusion),
                "confusion": confusion.tolist(),
            }
        )
    found = {"models": models, "agreement": agreement} | count_masked(ctx, tiles)
    ctx.folder.write_result(ctx.folder.clusters, found)
    valid, nodata = (sum(tile[key] for tile in tiles) for key in ("valid", "nodata"))
    missing, undefined = {}, {}
    for i, name in enumerate(ctx.index_names):
        missing[name] = sum(tile["missing"][i] for tile in tiles)
        undefined[name] = {
            cause: sum(tile["undefined"][cause][i] for tile in tiles) for cause in CAUSES
        }
    causes: Counter[str] = Counter()
    for tile in tiles:
        causes.update(tile.get("causes", {}))
    counts = {"total": valid + nodata, "valid": valid, "nodata": nodata}
    counts["nodata_causes"] = {cause: n for cause, n in causes.items() if n}
    return counts | {"missing": missing, "undefined": undefined}


def summarise_fractions(ctx: RunContext, records: TileRecords) -> dict[str, Any]:
    """What run.json says of the fractions of ``--unmix``; empty without it."""
    if not ctx.endmembers:
        return {}
    tiles = [tile["unmixing"] for tile in records.values()]
    about = ctx.endmembers.describe(ctx.scene.wavelength_nm[ctx.selection.bands])
    return about | ctx.endmembers.summarise(tiles)


def _totals(records: TileRecords, resumed: int) -> dict[str, Any]:
    counts = {"tiles": len(records), "tiles_resumed": resumed}
    sums = {k: sum(r[k] for r in records.values()) for k in ("bytes_read", "bytes_written")}
    return counts | sums
