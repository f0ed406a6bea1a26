"""One run from start to end: each stage reads files of the one before and writes its own."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.agreement import adjusted_rand_index
from hyperhpc.analysis.indices import BoundIndex, choose_indices
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError, SceneError
from hyperhpc.pipeline.classify import ClassifyJob, OverviewFiles, classify_tile
from hyperhpc.pipeline.fit import SampleOnWorkers
from hyperhpc.pipeline.fitting import FitJob, check_models, fit_models
from hyperhpc.pipeline.folder import claim_folder
from hyperhpc.pipeline.journal import Journal
from hyperhpc.pipeline.manifest import RunFolder, read_json, write_json
from hyperhpc.pipeline.models import Labeller
from hyperhpc.pipeline.overview import finest_step, write_overview
from hyperhpc.pipeline.plan import Plan, make_plan
from hyperhpc.pipeline.progress import Progress
from hyperhpc.pipeline.sample import Sample, SampleJob, count_valid, sample_tile
from hyperhpc.pipeline.selection import Selection, select_bands, spectra_at
from hyperhpc.pipeline.stores import consolidate, create_group, create_store
from hyperhpc.pipeline.tiles import run_tiles
from hyperhpc.pipeline.transpose import (
    TransposeJob,
    band_groups,
    bands_at_once,
    create_transposed,
    transpose_bands,
)
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.schema import COLORS_NM, RESULTS
from hyperhpc.workers import Workers, check_workers, launch_workers


class Run:
    """A run while it is under way: what was chosen, and where things lie."""

    def __init__(
        self, config: RunConfig, progress: Progress, command: str, beside: Collection[str]
    ) -> None:
        self.config, self.progress = config, progress
        self.scene: Scene = open_scene(config.scene, config.group)
        self.selection: Selection = select_bands(
            self.scene, config.drop, seed_compat=config.seed_compat
        )
        self.indices: list[BoundIndex]
        self.indices, self.skipped = choose_indices(
            config.indices,
            config.index,
            self.scene.wavelength_nm,
            seed_compat_bands=self.selection.bands if config.seed_compat else None,
        )
        self.model_names = check_models(config)
        self.spectra = spectra_at(self.scene, config.points, self.selection.bands)
        check_workers(
            config.launcher,
            count=config.workers,
            threads=config.threads_per_worker,
            memory_bytes=config.memory_bytes,
        )
        self.folder = RunFolder(config.out)
        # Checked above, claimed here: nothing is written for a run that cannot start
        self.plan, self.is_new = claim_folder(
            self.folder,
            make_plan(self.scene, config),
            scene=Path(self.scene.path),
            restart=config.restart,
            beside=beside,
        )
        self.journal = Journal(self, command)

    @property
    def grid(self) -> Grid:
        """Georeference of the area."""
        area, grid = self.plan.area, self.scene.grid
        return replace(
            grid,
            xmin=grid.xmin + area.col0 * grid.px,
            ymax=grid.ymax - area.row0 * grid.py,
        )

    @contextmanager
    def stage(
        self, name: str, title: str, total: int | None = None, tiles: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Time a stage, show it, and note it in the journal."""
        entry: dict[str, Any] = {"name": name}
        start = time.perf_counter()
        with self.progress.stage(title, total, tiles=tiles):
            yield entry
        entry["seconds"] = round(time.perf_counter() - start, 3)
        self.journal.add_stage(entry)


def run(
    config: RunConfig,
    progress: Progress | None = None,
    command: str = "",
    *,
    beside: Collection[str] = (),
) -> RunFolder:
    """Run the whole analysis, or go on with it.

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
    from hyperhpc.report import write_report

    this = Run(config, progress or Progress(), command, beside)
    if this.journal.was_complete and this.folder.is_whole():
        this.progress.note(f"{config.out} is complete; --restart would begin anew")
        return this.folder
    try:
        _go(this)
    except (ConfigError, SceneError):
        if this.is_new:
            this.folder.remove()
        raise
    with this.stage("report", "drawing the report"):
        this.journal.write(complete=True)  # as the report is to show it
        write_report(config.out)
    this.journal.finish()
    shutil.rmtree(this.folder.work, ignore_errors=True)  # all of it is in the results now
    return this.folder


def _go(this: Run) -> None:
    """All stages that need workers."""
    plan, config = this.plan, this.config
    this.folder.work.mkdir(exist_ok=True)
    write_json(this.folder.spectra, this.spectra)
    this.journal.write(complete=False)
    with launch_workers(
        config.launcher,
        count=config.workers,
        threads=config.threads_per_worker,
        memory_bytes=config.memory_bytes,
        dashboard=config.dashboard,
    ) as workers:
        if workers.dashboard:
            this.progress.note(f"dashboard: {workers.dashboard}")
        scene = transpose(this, workers) if plan.is_transposed else this.scene
        sample = take_sample(this, scene, workers)
        labellers = fit(this, sample, workers)
        records = classify(this, scene, labellers, workers)
        this.journal.note_memory(workers)
    summarise(this, records)


def transpose(this: Run, workers: Workers) -> Scene:
    """Stage 0, only for scenes stored band by band."""
    area, path = this.plan.area, this.folder.work / "transposed.zarr"
    records = this.folder.records("transpose")
    if not path.exists():
        shutil.rmtree(records, ignore_errors=True)
    # The groups are chunks of the store: fixed by the first run, like the tiles
    groups_file = this.folder.work / "band-groups.json"
    if path.exists() and groups_file.exists():
        depth = read_json(groups_file)["bands"]
    else:
        depth = bands_at_once(
            this.scene, area, this.config.memory_bytes, this.config.threads_per_worker
        )
        write_json(groups_file, {"bands": depth})
    groups = band_groups(this.scene, area, depth)
    volume = area.shape[0] * area.shape[1] * this.scene.shape[2] * 2
    this.progress.note(
        f"the scene is stored in chunks of {this.scene.chunks} (rows, columns, bands): "
        f"it is transposed first, {volume / 2**30:.2f} GiB (before compression) to {path}"
    )
    with this.stage("transpose", "transposing bands", sum(_size(g) for g in groups)) as s:
        scene = create_transposed(this.scene, area, groups, path)
        job = TransposeJob(this.scene, area, path)
        results, resumed = run_tiles(
            workers, transpose_bands, job, groups, records, this.progress
        )
        s.update(_totals(results, resumed))
    return scene


def take_sample(this: Run, scene: Scene, workers: Workers) -> Sample:
    """Stage 1: the sample."""
    plan = this.plan
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
    tiles = list(plan.tiles())
    with this.stage("sample", "reading the sample", _pixels(plan), len(tiles)) as s:
        results, resumed = run_tiles(workers, sample_tile, job, tiles, records, this.progress)
        s.update(_totals(results, resumed))
    if not any(record["valid"] for record in results.values()):
        _check_any_valid(this, job, workers)
    return sample


def _check_any_valid(this: Run, job: SampleJob, workers: Workers) -> None:
    """Tell a scene without a valid pixel from a sample that has missed them all."""
    folder = this.folder.records("count")
    with this.stage("count", "looking for data", _pixels(this.plan)):
        records, _ = run_tiles(
            workers, count_valid, job, this.plan.tiles(), folder, this.progress
        )
    if not any(record["valid"] for record in records.values()):
        raise SceneError(
            f"the scene has no valid pixel among {_pixels(this.plan)}",
            f"check its no-data value: hyperhpc info {shlex.quote(str(this.config.scene))}",
        )


def fit(this: Run, sample: Sample, workers: Workers) -> list[Labeller]:
    """Stage 2: the models."""
    start = time.perf_counter()
    job = FitJob(
        this.config,
        SampleOnWorkers(sample, workers),
        this.folder,
        this.scene.wavelength_nm[this.selection.bands],
        this.scene.scale_factor,
    )
    labellers = fit_models(job, this.progress)
    this.journal.add_stage({"name": "fit", "seconds": round(time.perf_counter() - start, 3)})
    return labellers


def classify(
    this: Run, scene: Scene, labellers: list[Labeller], workers: Workers
) -> dict[str, dict[str, Any]]:
    """Stage 3: indices and labels of the whole area, and the overviews."""
    plan, folder = this.plan, this.folder
    names = [bound.index.name for bound in this.indices]
    step = finest_step(plan.area.shape)
    files = OverviewFiles.at(folder.work, plan.area, step, len(names), len(labellers))
    records = folder.records("classify")
    if not (folder.results.exists() and all(file.is_whole() for file in files.files())):
        shutil.rmtree(records, ignore_errors=True)
        _create_results(this, names)
        for file in files.files():
            file.create()
    centres = this.scene.wavelength_nm
    colors = [int(np.argmin(np.abs(centres - nm))) for nm in COLORS_NM]
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
    with this.stage("classify", "indices and labels", _pixels(plan), len(tiles)) as s:
        results, resumed = run_tiles(workers, classify_tile, job, tiles, records, this.progress)
        s.update(_totals(results, resumed))
    with this.stage("overview", "building overviews"):
        write_overview(
            folder.overview,
            files,
            this.grid,
            plan.area.shape,
            names,
            this.model_names,
            centres[colors].tolist(),
        )
    return results


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
        {"title": "hyperhpc results", "Conventions": "CF-1.11"},
    )
    consolidate(part)
    part.rename(this.folder.results)


def summarise(this: Run, records: dict[str, dict[str, Any]]) -> None:
    """clusters.json: spectra of the fitted sample, areas and agreement of the whole area."""
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


def _size(tile: Any) -> int:
    return tile.shape[0] * tile.shape[1]


def _totals(records: dict[str, dict[str, Any]], resumed: int) -> dict[str, Any]:
    return {
        "tiles": len(records),
        "tiles_resumed": resumed,
        "bytes_read": sum(r["bytes_read"] for r in records.values()),
        "bytes_written": sum(r["bytes_written"] for r in records.values()),
    }


def out_of(path: str | Path) -> RunFolder:
    """The folder of a run that exists.

    Raises
    ------
    ConfigError
        If there is no run.
    """
    folder = RunFolder(Path(path))
    if not folder.plan.is_file():
        raise ConfigError(
            f"{path} holds no run of hyperhpc", f"make one with: hyperhpc run SCENE {path}"
        )
    return folder
