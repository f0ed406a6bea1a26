"""One run from start to end: each stage reads files of the one before and writes its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hyperhpc.compute.fitting import FitJob, fit_models
from hyperhpc.compute.models import Labeller
from hyperhpc.compute.sample import Sample
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError, HyperhpcError, IncompleteRunError, SceneError
from hyperhpc.pipeline.damage import DamagedTileError, check_none_bad
from hyperhpc.pipeline.leftovers import clear_leftovers
from hyperhpc.pipeline.manifest import (
    RunFolder,
    disk_error,
    is_complete,
    read_json,
    remove_parts,
    write_json,
)
from hyperhpc.pipeline.mend import find_harm, mend
from hyperhpc.pipeline.passes import classify, summarise, take_sample, transpose
from hyperhpc.pipeline.prepare import Prepared, prepare
from hyperhpc.pipeline.progress import Progress
from hyperhpc.pipeline.record import Journal
from hyperhpc.pipeline.stop import StopRequest, go_on
from hyperhpc.pipeline.sums import SampleOnWorkers
from hyperhpc.rundir.folder import check_folder, claim_folder
from hyperhpc.rundir.integrity import write_checksums
from hyperhpc.rundir.lock import Claim, hold_lock
from hyperhpc.rundir.progress import StatusFile
from hyperhpc.scene.cube import Grid
from hyperhpc.workers import (
    Workers,
    import_early,
    launch_workers,
    losses_told,
    release_gang,
    remove_stale,
    scheduler_errors,
)


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
        remove_stale(config.out)
        remove_parts(self.folder)
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
        release_gang(config)
        clear_leftovers(folder, config.launcher, progress.note)
        progress.note(f"{config.out} is complete; --restart would begin anew")
        check_none_bad(read_json(folder.run).get("bad_tiles", []), folder.report)
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
    check_none_bad(this.journal.bad_tiles, folder.report)
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
        this.progress.watch_workers(workers.count_up, workers.memory_used)
        if workers.dashboard:
            this.progress.confide(f"dashboard: {workers.dashboard}")
        stack.enter_context(losses_told(workers, this.journal.warn))
        import_early("hyperhpc.report.draw")
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
