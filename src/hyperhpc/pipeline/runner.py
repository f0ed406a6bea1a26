"""One run from start to end."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from hyperhpc.compute.tiles import DamagedTileError, check_no_bad_tiles
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError, SceneError
from hyperhpc.pipeline import passes
from hyperhpc.pipeline.context import RunContext
from hyperhpc.pipeline.header import describe_choices, describe_options, run_header
from hyperhpc.pipeline.managed import Session, managed_run
from hyperhpc.pipeline.passes import Stages, TileRecords
from hyperhpc.pipeline.prepare import prepare
from hyperhpc.pipeline.record import RunRecord
from hyperhpc.pipeline.repair import clear_leftovers, find_damaged_files, repair_run
from hyperhpc.rundir.folder import (
    RunFolder,
    check_folder,
    claim_folder,
    describe_copied_scene,
    is_complete,
    note_unreadable,
)
from hyperhpc.rundir.integrity import update_drawn, write_checksums
from hyperhpc.rundir.progress import Progress
from hyperhpc.sealed import read_json
from hyperhpc.workers import Workers, import_in_background, release_gang_tasks


def run(
    config: RunConfig,
    progress: Progress | None = None,
    command: str = "",
    *,
    extra_names: Collection[str] = (),
) -> RunFolder:
    """Run the whole analysis, or resume it; a complete run with damaged files is repaired.

    ``command``: The command line, for the report and for hints.
    ``extra_names``: Names that OUT may hold besides those of a run.

    Returns: the folder of the finished run.
    Raises ConfigError, SceneError, ResourceError, IncompleteRunError; a folder made by this very
    call is removed again if the options or the scene turn out to be unusable.
    """
    progress = progress or Progress()
    ctx = prepare(config)
    config = ctx.config
    folder, scene_path = ctx.folder, Path(ctx.scene.path)
    found = check_folder(folder, ctx.plan, scene_path, config.restart, extra_names)
    is_over = found is not None and is_complete(folder)
    damaged = find_damaged_files(folder) if is_over else {}
    if is_over and not damaged:
        release_gang_tasks(config)
        clear_leftovers(folder, config.launcher, progress.note)
        progress.note(f"{config.out} is complete; --restart would start from the beginning")
    else:
        for note in ctx.scene.notes:
            progress.note(f"note: {note}")
        if found and not is_over and (why := describe_copied_scene(found, ctx.plan)):
            progress.note(f"warning: {why}")

        def claim() -> tuple[RunContext, bool]:
            plan, is_new = claim_folder(
                folder, ctx.plan, scene=scene_path, restart=config.restart, extra_names=extra_names
            )
            return replace(ctx, plan=plan), is_new

        with managed_run(folder, config, progress, command, claim) as session:
            ctx, is_new = session.claimed
            if damaged:
                repair_run(ctx, session, damaged)
            else:
                run_stages(ctx, session, command, is_new=is_new)
            session.claim.check()
            shutil.rmtree(folder.work, ignore_errors=True)  # all of it is in the results now
    check_no_bad_tiles(read_json(folder.run).get("bad_tiles", []), folder.report)
    return folder


def run_stages(ctx: RunContext, session: Session, command: str, *, is_new: bool) -> None:
    """All stages; a folder made by this call is removed if the run turns out impossible."""
    from hyperhpc.report import write_report

    ctx.folder.checksums.unlink(missing_ok=True)  # of files that are written again now
    record = RunRecord(ctx.folder.run, run_header(ctx, command), session.progress.note)
    for text in ctx.scene.warnings:
        record.warn(text)
    stages = Stages(session, record)
    try:
        run_compute(ctx, stages)
    except (ConfigError, SceneError) as error:
        if isinstance(error, DamagedTileError):
            note_unreadable(ctx.folder, error.message)
        if is_new and not isinstance(error, DamagedTileError):
            ctx.folder.remove()
        raise
    record.write()  # the report shows pixels and memory too
    with stages.stage("report", "drawing the report"):
        # run.json says that the run is complete last of all
        write_report(ctx.folder.out, complete=True, figures=ctx.config.figures)
        update_drawn(ctx.folder)
    record.finish()


def run_compute(ctx: RunContext, stages: Stages) -> None:
    """All stages that need workers, and what is summed up of them."""
    folder, record = ctx.folder, stages.record
    folder.work.mkdir(exist_ok=True)
    folder.write_result(folder.spectra, ctx.spectra)
    record.write()
    with stages.session.workers(record.warn) as workers:
        import_in_background("hyperhpc.report.draw")
        records = _run_passes(ctx, stages, workers)
        record.measure_memory(workers)
    record.set_pixels(passes.summarise(ctx, records))
    record.set_unmixing(passes.summarise_fractions(ctx, records))
    write_checksums(folder, records)


def _run_passes(ctx: RunContext, stages: Stages, workers: Workers) -> TileRecords:
    bad, used = stages.record.known_bad_tiles(), frozenset[str]()
    scene = passes.transpose(ctx, stages, workers) if ctx.plan.is_transposed else ctx.scene
    if ctx.applied:
        ctx.applied.write(ctx.folder)
        labellers = ctx.applied.labellers(scene)
    else:
        taken = passes.take_sample(ctx, stages, scene, workers)
        ctx = replace(ctx, config=replace(ctx.config, stride=taken.stride))
        stages.record.revise(describe_options(ctx), describe_choices(ctx))
        labellers = passes.fit(ctx, stages, taken.sample, workers)
        bad, used = bad | taken.bad, taken.used
    return passes.classify(ctx, stages, scene, labellers, workers, bad, used)
