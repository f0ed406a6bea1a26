"""One run from start to end: each stage reads files of the one before and writes its own."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.agreement import adjusted_rand_index
from hyperhpc.compute.classify import (
    ClassifyJob,
    OverviewFiles,
    classify_tile,
    write_nodata_tile,
)
from hyperhpc.compute.fitting import FitJob, fit_models, read_labellers
from hyperhpc.compute.models import Labeller
from hyperhpc.compute.overview import OverviewMetadata, finest_step, write_overview
from hyperhpc.compute.sample import (
    Sample,
    SampleJob,
    count_valid,
    sample_tile,
    tiles_per_side,
    uses_thinned_copy,
    write_nodata_sample,
)
from hyperhpc.compute.stores import set_attributes
from hyperhpc.compute.sums import SampleOnWorkers
from hyperhpc.compute.tiles import (
    DamagedTileError,
    SkipPolicy,
    check_no_bad_tiles,
    collect_bad_tiles,
    run_tiles,
    shorten,
)
from hyperhpc.compute.transpose import explain_transposing, transpose_scene
from hyperhpc.config import RunConfig
from hyperhpc.errors import (
    ConfigError,
    HyperhpcError,
    IncompleteRunError,
    ResourceError,
    SceneError,
)
from hyperhpc.files import remove_partial_files
from hyperhpc.pipeline.prepare import Prepared, prepare
from hyperhpc.pipeline.record import Journal
from hyperhpc.pipeline.results import CHUNK, create_results, drop_damaged, is_frame_whole
from hyperhpc.rundir.folder import (
    RunFolder,
    check_folder,
    claim_folder,
    disk_error,
    is_complete,
    read_json,
    write_json,
)
from hyperhpc.rundir.integrity import find_damage, write_checksums
from hyperhpc.rundir.lock import LOCK, Claim, hold_lock
from hyperhpc.rundir.plan import Plan, Tile
from hyperhpc.rundir.progress import Progress, StatusFile, StopRequest, go_on
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.schema import COLORS_NM
from hyperhpc.workers import (
    Workers,
    find_stale_connections,
    import_in_background,
    launch_workers,
    release_gang_tasks,
    remove_abandoned_scratch,
    remove_stale_connections,
    report_worker_losses,
    scheduler_errors,
)

# The passes over the tiles: each reads files of the one before and writes its own.


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
    plan, skips_bad_tiles = this.plan, this.config.skip_bad_tiles
    skip_policy = SkipPolicy(write_nodata_sample, {}, frozenset()) if skips_bad_tiles else None
    sample = Sample.at(
        this.folder.work,
        plan.area,
        this.config.stride,
        len(this.selection.bands),
        this.scene.dtype,
    )
    records = this.folder.records("sample")
    if not (sample.values.is_complete() and sample.mask.is_complete()):
        shutil.rmtree(records, ignore_errors=True)
        sample.values.create()
        sample.mask.create()
    job = SampleJob(scene, plan.area, this.config.stride, this.selection.bands, sample)
    times = tiles_per_side(scene, plan, this.config.stride, skips_bad_tiles=skips_bad_tiles)
    tiles = list(plan.tiles(times))
    with this.stage("sample", "reading the sample", _pixels(plan), len(tiles)) as s:
        results, resumed = run_tiles(
            workers, sample_tile, job, tiles, records, this.progress, this.claim, skip_policy
        )
        s.update(_totals(results, resumed))
    bad = collect_bad_tiles(results)
    if not any(record["valid"] for record in results.values()):
        rest = [tile for tile in plan.tiles() if tile.name not in bad]
        _check_any_valid(this, job, workers, rest, bad)
    this.journal.note_bad(bad)
    if not uses_thinned_copy(scene, plan.area, this.config.stride):
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
    if is_frame_whole(this) and all(file.is_complete() for file in job.overview.files()):
        drop_damaged(this, records)
    else:
        shutil.rmtree(records, ignore_errors=True)
        create_results(this)
        for file in job.overview.files():
            file.create()
    about = OverviewMetadata(
        job.overview.step,
        this.grid,
        [bound.index.name for bound in this.indices],
        list(this.model_names),
        this.scene.wavelength_nm[list(job.colors)].tolist(),
    )
    about.write(folder.work)
    tiles = list(plan.tiles())
    skip_policy = None
    if this.config.skip_bad_tiles:
        known = {entry["tile"]: entry["why"] for entry in this.journal.bad_tiles}
        skip_policy = SkipPolicy(write_nodata_tile, known, this.used)
    with this.stage("classify", "indices and labels", _pixels(plan), len(tiles)) as s:
        results, resumed = run_tiles(
            workers, classify_tile, job, tiles, records, this.progress, this.claim, skip_policy
        )
        s.update(_totals(results, resumed))
    bad = collect_bad_tiles(results)
    this.journal.note_bad(bad)
    remove_partial_files(folder.results)  # of workers that were lost
    set_attributes(folder.results, complete=True, **({"bad_tiles": sorted(bad)} if bad else {}))
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
    spectra = read_json(this.folder.cluster_spectra)
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


# A run that is complete, but whose files are not any more as it has written them.

_ANEW = "compute it anew: the same command with --restart"


def find_harm(folder: RunFolder) -> dict[str, str]:
    """Files of a complete run that are not as they were written, and what is wrong."""
    if not folder.checksums.exists():
        return {}
    return dict(find_damage(folder.out, read_json(folder.checksums)["files"]))


def mend(this: Run, damaged: Mapping[str, str]) -> None:
    """Compute the tiles again that damaged files belong to: they get the same bits.

    Nothing else of the run is changed, and a kill leaves what there was to mend.

    Raises
    ------
    IncompleteRunError
        Files are damaged that no tile writes, or tiles cannot be computed by themselves.
    """
    folder, plan, scene = this.folder, this.plan, this.scene
    start = f"{folder.results.name}/"
    first, what = next(iter(damaged.items()))
    found = [
        CHUNK.fullmatch(name.removeprefix(start)) if name.startswith(start) else None
        for name in damaged
    ]
    places = {(int(chunk[1]), int(chunk[2])) for chunk in found if chunk}
    if None in found or plan.is_transposed or this.config.estimator:
        raise IncompleteRunError(
            f"{len(damaged)} files of {folder.out} are not as they were written; "
            f"{first} {what}",
            _ANEW,
        )
    tall, wide = plan.tile_shape
    tiles = [tile for tile in plan.tiles() if (tile.y0 // tall, tile.x0 // wide) in places]
    this.progress.note(
        "warning: finished tiles were found damaged and are computed again: "
        f"{shorten([tile.name for tile in tiles])} ({first} {what})"
    )
    records = folder.records("mend")
    shutil.rmtree(records, ignore_errors=True)
    folder.work.mkdir(exist_ok=True)
    is_integer = np.issubdtype(np.dtype(scene.dtype), np.integer)
    labellers = read_labellers(read_json(folder.model), scene.scale_factor, is_integer)
    job = classify_job(this, scene, labellers)
    for file in job.overview.files():  # tiles write there too, though nobody will read it
        file.create()
    known = {entry["tile"]: entry["why"] for entry in this.journal.bad_tiles}
    used = frozenset(tile.name for tile in tiles if tile.name not in known)
    skip_policy = SkipPolicy(write_nodata_tile, known, used) if known else None
    n_pixels = sum(tile.shape[0] * tile.shape[1] for tile in tiles)
    with (
        launch_workers(this.config, this.progress.note) as workers,
        report_worker_losses(workers, this.progress.note),
        this.progress.stage("mending tiles", n_pixels, tiles=len(tiles)),
    ):
        run_tiles(
            workers, classify_tile, job, tiles, records, this.progress, this.claim, skip_policy
        )
    remove_partial_files(folder.results)
    left = find_harm(folder)
    if left:
        name, _ = next(iter(left.items()))
        raise IncompleteRunError(
            f"{name} of {folder.out} has come out otherwise than at first: other versions of "
            "the packages, or of the scene, have computed it",
            _ANEW,
        )


# What a run leaves that is killed in its last moments, when all its results are written.


def clear_leftovers(folder: RunFolder, launcher: str, note: Callable[[str], None]) -> None:
    """Do what is left to do in a complete OUT: away with the work, the keys and the lock.

    A run that is alive does it itself; an OUT that may only be read is left as it is.
    """
    remove_abandoned_scratch()
    is_left = folder.work.exists() or (folder.out / LOCK).exists()
    if not (is_left or find_stale_connections(folder.out)):
        return
    with contextlib.suppress(ConfigError, ResourceError), hold_lock(folder.out, note) as lock:
        remove_stale_connections(folder.out)
        remove_partial_files(folder.out)
        StatusFile(folder.status, Progress(), launcher, lock.claim).end("complete")
        shutil.rmtree(folder.work, ignore_errors=True)


class Run(Prepared):
    """A run while it is under way: what was chosen, and where things lie."""

    def __init__(
        self,
        prepared: Prepared,
        progress: Progress,
        command: str,
        beside: Collection[str],
        claim: Claim,
    ) -> None:
        super().__init__(**vars(prepared))
        self.progress, self.claim = progress, claim
        #: Tiles of the scene itself of which pixels are in the sample.
        self.used: frozenset[str] = frozenset()
        config = self.config
        self.folder = RunFolder(config.out)
        # Checked before, claimed here: nothing is written for a run that cannot start
        self.plan, self.is_new = claim_folder(
            self.folder,
            self.plan,
            scene=Path(self.scene.path),
            restart=config.restart,
            beside=beside,
        )
        remove_stale_connections(config.out)
        remove_partial_files(self.folder.out)
        self.journal = Journal(self, command)

    @property
    def grid(self) -> Grid:
        """Georeference of the area."""
        return self.scene.grid.part(self.plan.area.row0, self.plan.area.col0)

    @contextmanager
    def stage(
        self, name: str, title: str, total: int | None = None, tiles: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Time a stage, show it, and note it in the journal."""
        entry: dict[str, Any] = {"name": name}
        start = time.perf_counter()
        self.claim.check()
        with self.progress.stage(title, total, tiles=tiles):
            yield entry
        self.claim.check()
        entry["seconds"] = round(time.perf_counter() - start, 3)
        self.journal.add_stage(entry)


def run(
    config: RunConfig,
    progress: Progress | None = None,
    command: str = "",
    *,
    beside: Collection[str] = (),
) -> RunFolder:
    """Run the whole analysis, or go on with it; what a complete run has lost is mended.

    Parameters
    ----------
    config
        Scene, OUT and options.
    progress
        Told what is done; silent if None.
    command
        The command line, for the report.
    beside
        Names that OUT may hold besides the run.

    Returns
    -------
    The folder of the finished run.

    Raises
    ------
    ConfigError, SceneError, ResourceError, IncompleteRunError
        See :mod:`hyperhpc.errors`. A folder made by this very call is removed again if
        the options or the scene turn out to be unusable.
    """
    progress = progress or Progress()
    prepared = prepare(config)
    folder = RunFolder(config.out)
    found = check_folder(
        folder, prepared.plan, Path(prepared.scene.path), config.restart, beside
    )
    is_over = found is not None and is_complete(folder)
    damaged = find_harm(folder) if is_over else {}
    if is_over and not damaged:
        release_gang_tasks(config)
        clear_leftovers(folder, config.launcher, progress.note)
        progress.note(f"{config.out} is complete; --restart would begin anew")
        check_no_bad_tiles(read_json(folder.run).get("bad_tiles", []), folder.report)
        return folder
    for note in prepared.scene.notes:
        progress.note(f"note: {note}")
    with hold_lock(config.out, progress.note) as lock:
        this = Run(prepared, progress, command, beside, lock.claim)
        with _told(this):
            if damaged:
                mend(this, damaged)
            else:
                _go(this)
        shutil.rmtree(this.folder.work, ignore_errors=True)  # all of it is in the results now
    check_no_bad_tiles(this.journal.bad_tiles, folder.report)
    return folder


@contextmanager
def _told(this: Run) -> Iterator[None]:
    """Keep status.txt, to the end of the run, however it comes."""
    status = StatusFile(this.folder.status, this.progress, this.config.launcher, this.claim)
    this.progress = status
    try:
        yield
    except HyperhpcError as error:
        status.end("failed", error.message)
        if not (this.folder.plan.exists() or this.folder.logs.exists()):
            this.folder.status.unlink(missing_ok=True)  # nothing of the run is left
        raise
    except scheduler_errors():
        message = f"the scheduler was lost at {status.how_far()}; what is finished is kept"
        status.end("stopped", message)
        raise IncompleteRunError(
            message, "see the job's log for the reason, then give the same command again"
        ) from None
    except OSError as caught:
        failed = disk_error(caught, this.folder.out)
        status.end("failed", failed.message)
        raise failed from None
    except StopRequest:
        message = f"stopped before its end, at {status.how_far()}; what is finished is kept"
        status.end("stopped", message)
        raise IncompleteRunError(message, go_on(this.journal.command)) from None
    except BaseException as error:
        status.end("stopped", f"{type(error).__name__.strip('_')} at {status.how_far()}")
        raise
    status.end("complete")


def _go(this: Run) -> None:
    """All stages; a folder made by this call is removed if the run turns out impossible."""
    from hyperhpc.report import write_report

    try:
        _compute(this)
    except (ConfigError, SceneError) as error:
        if this.is_new and not isinstance(error, DamagedTileError):
            this.folder.remove()
        raise
    this.journal.write(complete=False)  # the report tells of pixels and memory too
    with this.stage("report", "drawing the report"):
        write_report(this.config.out, complete=True)  # run.json says so last of all
    this.journal.finish()


def _compute(this: Run) -> None:
    """All stages that need workers."""
    plan, config = this.plan, this.config
    this.folder.work.mkdir(exist_ok=True)
    write_json(this.folder.spectra, this.spectra)
    this.journal.write(complete=False)
    with launch_workers(config, this.progress.note) as workers, ExitStack() as stack:
        this.progress.watch_workers(workers.describe_count, workers.describe_memory)
        if workers.dashboard:
            this.progress.confide(f"dashboard: {workers.dashboard}")
        stack.enter_context(report_worker_losses(workers, this.journal.warn))
        import_in_background("hyperhpc.report.draw")
        scene = transpose(this, workers) if plan.is_transposed else this.scene
        if this.applied:
            this.applied.write(this.folder)
            labellers = this.applied.labellers(scene)
        else:
            labellers = fit(this, take_sample(this, scene, workers), workers)
        records = classify(this, scene, labellers, workers)
        this.journal.note_memory(workers)
    summarise(this, records)
    write_checksums(this.folder, records)


def fit(this: Run, sample: Sample, workers: Workers) -> list[Labeller]:
    """Stage 2: the models."""
    start = time.perf_counter()
    job = FitJob(
        this.config,
        SampleOnWorkers(sample, workers),
        this.folder,
        this.scene.wavelength_nm[this.selection.bands],
        this.scene.scale_factor,
        this.journal.warn,
    )
    labellers = fit_models(job, this.progress)
    this.journal.add_stage({"name": "fit", "seconds": round(time.perf_counter() - start, 3)})
    return labellers
