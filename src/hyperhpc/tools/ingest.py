"""Write any scene as the store that the analysis reads fastest.

One task writes one shard, and then its record, in ``OUT.part``; so what was stopped can be
resumed, and the store gets its name when it is whole.
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.compute.tiles import DamagedTileError, drop_damaged_records, run_tiles
from hyperhpc.compute.transpose import explain_transposing, transpose_scene
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError, IncompleteRunError, ResourceError, SceneError
from hyperhpc.files import remove_partial_files
from hyperhpc.pipeline.managed import Session, managed_run
from hyperhpc.pipeline.prepare import digests
from hyperhpc.rundir.folder import (
    RunFolder,
    check_same,
    describe_copied_scene,
    note_unreadable,
    partial_store,
    read_plan,
)
from hyperhpc.rundir.integrity import files_of
from hyperhpc.rundir.memory import max_tile_bytes, pixel_bytes
from hyperhpc.rundir.plan import Area, Plan, Tile, check_chunk, choose_area, note_bbox
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import LINE_ARRAY, SOURCE_ARRAY, Scene
from hyperhpc.scene.formats import zarr_write
from hyperhpc.scene.mosaic import layers_left_out
from hyperhpc.scene.origins import origin_names
from hyperhpc.sealed import measure_file, read_sums, write_sealed, write_sums
from hyperhpc.workers import Workers, check_workers

_SMALLEST_SIDE = 64
_COPY = (
    "Copy that file again with its time (cp -p), then give the same command: it resumes; "
    "with --restart if its time is another"
)


@dataclass(frozen=True)
class IngestJob:
    """What each shard needs.

    ``scene``, ``origin``: The scene, perhaps transposed, and as it was opened.
    ``layers``: Names of its layers that are kept.
    """

    scene: Scene
    origin: Scene
    area: Area
    store: Path
    layers: tuple[str, ...]


def ingest(
    sources: Sequence[Path], config: RunConfig, progress: Progress, command: str
) -> list[int]:
    """Write a scene as a Zarr store, or resume that; a finished one of the same plan is kept.

    ``config``: ``out`` is the store; options of the scene, bounding box and workers count.
    ``command``: The command line, for the hint how to resume.

    Returns: the bytes of each file of the store.
    Raises ConfigError: OUT exists and is no store of ``ingest``, or was made with other options
    or of another scene; SceneError: the scene cannot be opened or read; ResourceError: memory,
    disk or permissions do not suffice; IncompleteRunError: it was stopped, and what is finished
    is kept; or files of a finished store are missing.
    """
    out, folder = config.out, partial_store(config.out)
    # Killed when the store had got its name, and before the rest was removed
    is_named = (
        RunFolder(out).checksums.is_file()
        and folder.plan.is_file()
        and not folder.store.exists()
        and not config.restart
    )
    is_there = os.path.lexists(out) and not is_named
    if is_there and (config.restart or not RunFolder(out).made_by.is_file()):
        raise ConfigError(f"{out} exists", "Choose another name, or remove it first")
    scene = note_bbox(open_scene(list(sources), options=config.scene_options), config.bbox)
    for source in sources:
        if source.resolve() in out.resolve().parents:
            raise ConfigError(f"{out} lies inside the scene {source}", "Name another OUT")
    plan = _make_plan(scene, config)
    check_workers(config)
    if is_there:
        _check_finished(RunFolder(out), plan)
        progress.note(f"{out} is complete; nothing was changed")
    elif folder.plan.is_file() and not config.restart:
        found = read_plan(folder)
        hint = "Name another OUT, or give --restart to start from the beginning"
        check_same(folder, found, plan, hint)
        if why := describe_copied_scene(found, plan):
            progress.note(f"warning: {why}")
        plan = replace(found, fingerprint=plan.fingerprint)
    if not (is_named or is_there):
        for message in scene.messages:
            progress.note(message)
        inner = replace(config, out=folder.out)
        clear = partial(_clear, folder) if config.restart else lambda: None
        with managed_run(folder, inner, progress, command, clear) as session:
            try:
                _write_store(scene, plan, out, session)
            except DamagedTileError as error:
                note_unreadable(folder, error.message)
                raise SceneError(error.message, _COPY) from None
            session.claim.check()
            folder.store.rename(out)
    if not folder.store.exists():
        shutil.rmtree(folder.work, ignore_errors=True)  # first: the rest must still have its plan
        shutil.rmtree(folder.out, ignore_errors=True)
    return [value[0] for value in read_sums(RunFolder(out).checksums).values() if value]


def _check_finished(folder: RunFolder, plan: Plan) -> None:
    """Refuse a finished store of another plan, or one that has lost something.

    The lengths of its files are compared; ``hyperhpc verify`` reads them all.
    """
    check_same(folder, read_plan(folder, folder.made_by), plan, "Name another OUT")
    for name, value in read_sums(folder.checksums).items():
        path = folder.out / name
        if value and not (path.is_file() and path.stat().st_size == value[0]):
            raise IncompleteRunError(
                f"{path} is missing or has another length than was written",
                f"See all that is damaged: hyperhpc verify {shlex.quote(str(folder.out))}",
            )


def _make_plan(scene: Scene, config: RunConfig) -> Plan:
    """Shards as large as memory allows; ResourceError if it does not allow the smallest."""
    area = choose_area(scene, config.bbox)
    check_chunk(scene, config)
    largest = max_tile_bytes(config.memory_bytes, config.threads_per_worker)
    side = zarr_write.default_side(scene.shape[2])
    while side**2 * pixel_bytes(scene) > largest and side > _SMALLEST_SIDE:
        side //= 2
    if side**2 * pixel_bytes(scene) > largest:
        raise ResourceError(
            f"--memory-per-worker {config.memory_per_worker} is too little for shards of "
            f"{side} x {side} pixels of {scene.shape[2]} bands",
            "Give more memory or fewer --threads-per-worker",
        )
    chunk = math.prod(scene.chunks[:2])
    is_wide = chunk > side**2 and scene.chunks[2] < scene.shape[2]
    is_transposed = is_wide or chunk * pixel_bytes(scene) > largest
    names = ("group", "scale", "nodata", "overlap", "mask", "bands", "resample_bands", "resample")
    options = {name: config.result_options()[name] for name in (*names, "bbox")}
    options |= digests(scene, config)
    return Plan(area, (side, side), is_transposed, options, scene.fingerprint())


def _clear(folder: RunFolder) -> None:
    """Remove what an earlier call has written; the lock stays."""
    folder.plan.unlink(missing_ok=True)
    for path in (folder.work, folder.store):
        shutil.rmtree(path, ignore_errors=True)


def _write_store(scene: Scene, plan: Plan, out: Path, session: Session) -> None:
    """Write all shards of the store, and its checksums last, into the folder of the session."""
    folder, progress = RunFolder(session.config.out), session.progress
    store, records = folder.store, folder.records("ingest")
    if not (folder.plan.is_file() and store.is_dir()):
        _clear(folder)
        folder.work.mkdir(parents=True, exist_ok=True)
        zarr_write.create_cube_store(
            store, describe_cube(scene, plan.area), side=plan.tile_shape[0]
        )
        write_sealed(folder.plan, plan.to_json())
    else:
        write_sealed(folder.plan, plan.to_json())  # a file that was unreadable may be another now
        _write_metadata_again(scene, plan, folder)
        warn: Callable[[str], None] = lambda text: progress.note(f"warning: {text}")  # noqa: E731
        drop_damaged_records(store, records, warn)
    layers = tuple(scene.layers())
    _announce(scene, plan, out, layers, progress)
    tiles = list(plan.tiles())
    with session.workers(lambda text: progress.note(f"warning: {text}")) as workers:
        read = _transpose(scene, plan.area, session, workers) if plan.is_transposed else scene
        job = IngestJob(read, scene, plan.area, store, layers)
        with progress.stage("writing the store", math.prod(plan.area.shape), tiles=len(tiles)):
            found, _ = run_tiles(workers, write_shard, job, tiles, records, progress, session.claim)
    remove_partial_files(store)  # of workers that were lost
    zarr_write.CubeStore(store).finish()
    write_sealed(RunFolder(store).made_by, plan.to_json())
    sums = {name: value for record in found.values() for name, value in record["files"].items()}
    checksums = RunFolder(store).checksums
    rest = [name for name in files_of(store) if name not in sums and name != checksums.name]
    sums |= {name: measure_file(store / name) for name in rest}
    written = {name: value for name, value in sums.items() if value}
    write_sums(checksums, written)


def _transpose(scene: Scene, area: Area, session: Session, workers: Workers) -> Scene:
    """What a scene that is stored band by band has to be turned into first."""
    config, progress = session.config, session.progress
    work = RunFolder(config.out).work
    progress.note(explain_transposing(scene, area, work))
    with progress.stage("transposing bands", math.prod(area.shape) * scene.shape[2]):
        return transpose_scene(scene, area, work, config, workers, progress, session.claim)[0]


def _write_metadata_again(scene: Scene, plan: Plan, folder: RunFolder) -> None:
    """Replace metadata and coordinates of an earlier call, which no record has a checksum of."""
    fresh = folder.work / "empty-store"
    shutil.rmtree(fresh, ignore_errors=True)
    zarr_write.create_cube_store(fresh, describe_cube(scene, plan.area), side=plan.tile_shape[0])
    for name in files_of(fresh):
        (folder.store / name).parent.mkdir(parents=True, exist_ok=True)
        (fresh / name).replace(folder.store / name)
    shutil.rmtree(fresh, ignore_errors=True)


def _announce(
    scene: Scene, plan: Plan, out: Path, layers: tuple[str, ...], progress: Progress
) -> None:
    """How much will be written where, whether there is room, and what else is kept."""
    height, width = plan.area.shape
    n_bytes = height * width * scene.shape[2] * np.dtype(scene.dtype).itemsize * 17 // 16
    n_files = plan.n_tiles() * (2 + len(origin_names(scene)) + len(layers)) + 20
    free = shutil.disk_usage(out.absolute().parent).free
    progress.note(
        f"{height} x {width} pixels of {scene.shape[2]} bands: about {n_files} files, "
        f"{n_bytes / 1e9:.2f} GB before compression, to {out}"
    )
    if layers:
        progress.note(f"kept with the cube: {', '.join(layers)}")
    if lost := layers_left_out(scene):
        progress.note(f"left out, since only some files have it in one form: {', '.join(lost)}")
    if free < n_bytes:
        progress.note(f"warning: {free / 1e9:.2f} GB are free there; it may not suffice")


def describe_cube(scene: Scene, area: Area) -> zarr_write.CubeDescription:
    """What a store of this part of a scene says of it."""
    lines = {"notes": scene.notes, "source_files": scene.file_names()}
    attributes: dict[str, Any] = {name: "\n".join(texts) for name, texts in lines.items() if texts}
    if scene.bad_bands:
        attributes["bad_bands"] = list(scene.bad_bands)
    counted = {SOURCE_ARRAY: scene.sources, LINE_ARRAY: scene.flight_lines}
    return zarr_write.CubeDescription(
        shape=(*area.shape, scene.shape[2]),
        dtype=scene.dtype,
        grid=scene.grid.part(area.row0, area.col0),
        wavelength_nm=scene.wavelength_nm,
        fwhm_nm=scene.fwhm_nm,
        scale_factor=scene.scale_factor,
        nodata=scene.nodata,
        window_nodata=scene.window_nodata,
        bad_band_windows_nm=scene.bad_band_windows_nm,
        bad_bands=scene.bad_bands,
        attributes=attributes,
        title=f"Ingested by hyperhpc from {Path(scene.path).name}",
        origins={name: counted.get(name, ()) for name in origin_names(scene)},
        layers=scene.layers(),
    )


def write_shard(job: IngestJob, tile: Tile) -> dict[str, Any]:
    """On a worker: one shard, its thinned copy, where its pixels come from, and its layers."""
    area = job.area
    rows = slice(area.row0 + tile.y0, area.row0 + tile.y1)
    cols = slice(area.col0 + tile.x0, area.col0 + tile.x1)
    dn = job.scene.read(rows, cols)
    images = job.origin.read_origins(rows, cols)
    images |= job.origin.read_layers(rows, cols, job.layers)
    names = zarr_write.CubeStore(job.store).put(tile.y0, tile.x0, dn, images)
    files = {name: measure_file(job.store / name) for name in names}
    written = sum(value[0] for value in files.values() if value)
    return {"bytes_read": dn.nbytes, "bytes_written": written, "files": files}
