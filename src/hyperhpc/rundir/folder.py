"""OUT: where its files lie, and whether it is new, a run to resume, or not to be touched."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shlex
import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hyperhpc.config import present_name
from hyperhpc.errors import ConfigError, ResourceError, describe_os_error, find_exhausted, os_hint
from hyperhpc.files import PLAN_NAME, STORE_NAME, STORE_SUFFIX, SUMS_NAME, check_guard
from hyperhpc.rundir.lock import LOCK, move_lock
from hyperhpc.rundir.plan import Plan
from hyperhpc.scene.fingerprint import (
    DESCRIBED,
    has_other_inodes,
    is_of_older_version,
    list_changes,
)
from hyperhpc.sealed import DamagedJsonError, measure_file, read_json, write_json, write_sealed

_PACKAGES = (
    "hyperhpc", "numpy", "scikit-learn", "dask", "distributed", "dask-ml", "dask-jobqueue",
    "xarray", "zarr", "numcodecs", "h5py", "pyproj", "matplotlib",
)  # fmt: skip


class _Entry:
    """A path below OUT, as an attribute of :class:`RunFolder`."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: RunFolder, owner: type) -> Path:
        return folder.out / self._name


@dataclass(frozen=True)
class RunFolder:
    """Paths inside OUT. Everything under ``work`` can be made again from the scene."""

    out: Path

    #: Tiles, options and the scene's fingerprint; a folder that has it is that of a run.
    plan = _Entry(PLAN_NAME)
    model = _Entry("model.json")  #: Scaling and centres of each model
    clusters = _Entry("clusters.json")  #: Spectra, areas of the clusters, agreement of the models
    spectra = _Entry("spectra.json")  #: Spectra at the points asked for
    run = _Entry("run.json")  #: Input, options, versions, timings; whether it is complete
    status = _Entry("status.txt")  #: What it is doing, or how it ended; lines of ``key: value``
    lock = _Entry(LOCK)  #: Who works in OUT at present
    logs = _Entry("slurm")  #: What a job on a cluster writes next to the run
    job = _Entry("slurm/job")  #: What is known of the job; lines of ``key: value``
    results = _Entry("results.zarr")  #: Zarr store of indices and clusters
    overview = _Entry("overview.zarr")  #: Zarr store of the pyramids pictures are drawn from
    checksums = _Entry(SUMS_NAME)  #: Length and checksum of every file of the results
    work = _Entry("work")  #: Files that only later passes need
    unreadable = _Entry("work/unreadable.json")  #: What of the scene could not be read
    store_sums = _Entry("work/results.json")  #: Checksums of the results before any tile
    cluster_spectra = _Entry("work/cluster-spectra.json")  #: Spectra of the clusters in the sample
    figures = _Entry("figures")  #: Pictures of the report, as files
    report = _Entry("report.html")  #: The report, as one page
    classes = _Entry("classes.json")  #: Names, colours and merges of clusters, if any were given
    made_by = _Entry("ingest.json")  #: In a store of ``ingest``: the plan it was written by
    store = _Entry(STORE_NAME)  #: The store that ``ingest`` writes, until it gets its own name

    def remove(self) -> None:
        """Remove what a run has written; other files in OUT, and OUT if any, stay."""
        check_guard(self.plan)
        files = (self.plan, self.model, self.clusters, self.spectra, self.run, self.report)
        for path in (*files, self.checksums, self.status, self.classes):
            path.unlink(missing_ok=True)
        for path in (self.results, self.overview, self.work, self.figures):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.out.rmdir()

    def sum_of(self, path: Path) -> Path:
        """Where the checksum of one of the results is kept until all are in checksums.json."""
        return self.work / f"sum-of-{path.name}"

    def write_result(self, path: Path, value: Any) -> None:
        """Write one of the JSON files of the results, and then its checksum."""
        write_json(path, value)
        self.work.mkdir(exist_ok=True)
        write_sealed(self.sum_of(path), {"file": path.name, "sum": measure_file(path)})

    def records(self, stage: str) -> Path:
        """Folder of the records of finished tiles of one stage."""
        return self.work / stage


def partial_store(out: Path) -> RunFolder:
    """The folder in which ``ingest`` writes the store OUT until it is whole."""
    return RunFolder(out.with_name(f"{out.name}{STORE_SUFFIX}"))


def is_complete(folder: RunFolder) -> bool:
    """True if a run has finished there, and every output is there.

    Raises DamagedJsonError: run.json of a finished run is damaged.
    """
    outputs = (folder.model, folder.clusters, folder.spectra, folder.run, folder.results)
    if not all(path.exists() for path in (*outputs, folder.overview, folder.report)):
        return False
    try:
        return bool(read_json(folder.run).get("complete"))
    except DamagedJsonError:
        if folder.work.exists():  # of a run that is not finished: it is written again
            return False
        raise


def disk_error(error: OSError, where: Path) -> ResourceError:
    """The error for a full disk, or a folder that may not be written any more."""
    if found := find_exhausted(error):
        return found
    return ResourceError(
        describe_os_error(error, where),
        f"{os_hint(error)}; then give the same command again: it resumes",
    )


def read_versions() -> dict[str, str]:
    """Versions of Python and of the packages that make the numbers."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            continue
    return versions


def describe_machine() -> dict[str, Any]:
    """Machine, as far as it explains a timing."""
    import psutil

    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "host": platform.node(),
    }


_ELSEWHERE = "Name another OUT"


def _elsewhere(error: OSError) -> str:
    return f"{os_hint(error)}; or name another OUT"


#: The option that may be added to a run later: it changes nothing of what is finished.
_MAY_BE_ADDED = "skip_bad_tiles"


def claim_folder(
    folder: RunFolder, plan: Plan, *, scene: Path, restart: bool, extra_names: Collection[str] = ()
) -> tuple[Plan, bool]:
    """Make OUT, or take the plan that is in it instead of ``plan`` if both agree.

    ``scene``: Path of the scene: OUT must not be in it.
    ``restart``: Rename what is there (``OUT.old-1``) and start from the beginning.
    ``extra_names``: What OUT may hold besides a run: ``demo`` keeps its scene there.

    Returns: the plan to follow, and True if it is new.
    Raises ConfigError: OUT is a file, lies in the scene, or holds another run or anything else;
    ResourceError: OUT cannot be made.
    """
    out = folder.out
    found = check_folder(folder, plan, scene, restart, extra_names)
    if found is not None:
        same_files = not list(list_changes(found.fingerprint, plan.fingerprint))
        if found.options != plan.options or not same_files:
            check_guard(folder.plan)
            folder.unreadable.unlink(missing_ok=True)  # its copy counts from now on
            found = replace(found, options=plan.options, fingerprint=plan.fingerprint)
            write_sealed(folder.plan, found.to_json())
        return found, False
    if restart and folder.plan.is_file():
        _rename_aside(folder, scene)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_sealed(folder.plan, plan.to_json())
    except OSError as error:
        folder.remove()
        raise ResourceError(
            f"{out} cannot be made: {error.strerror or error}", _elsewhere(error)
        ) from None
    return plan, True


def check_folder(
    folder: RunFolder, plan: Plan, scene: Path, restart: bool, extra_names: Collection[str] = ()
) -> Plan | None:
    """The checks of :func:`claim_folder`: the plan to be resumed, or None for a new run."""
    real_out, real_scene = folder.out.resolve(), scene.resolve()
    if real_out == real_scene:
        raise ConfigError(f"{folder.out} is the scene itself; OUT must be a folder", _ELSEWHERE)
    if real_scene in real_out.parents:
        raise ConfigError(f"{folder.out} lies inside the scene {scene}", _ELSEWHERE)
    if not folder.plan.is_file():
        check_free(folder.out, extra_names)
        return None
    if restart:
        return None
    found, hint = read_plan(folder), _ELSEWHERE
    if real_out not in real_scene.parents:  # else the scene would be renamed away with OUT
        hint += ", or give --restart, which renames the old run and starts from the beginning"
    check_same(folder, found, plan, hint)
    return found


def check_free(out: Path, extra_names: Collection[str] = ()) -> None:
    """Refuse an OUT without a run that is a file, or holds anything but ``extra_names``.

    Temporary files of those names (``.part-``), which a kill has left, are allowed.

    Raises ConfigError: OUT holds other files; ResourceError: OUT cannot be read.
    """
    try:
        names = os.listdir(out)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        what = f"{out} is a file" if out.exists() else f"{out} lies under a file"
        raise ConfigError(f"{what}; OUT must be a folder", _ELSEWHERE) from None
    except OSError as error:
        raise ResourceError(f"{out} cannot be read: {error.strerror}", _elsewhere(error)) from None
    folder = RunFolder(out)
    own = {*extra_names, folder.logs.name, folder.lock.name, folder.status.name}
    if {name.partition(".part-")[0] for name in names} - own - {f".{name}" for name in own}:
        raise ConfigError(
            f"{out} exists and is not a run of hyperhpc; nothing in it was touched", _ELSEWHERE
        )


def _rename_aside(folder: RunFolder, scene: Path) -> None:
    out = folder.out
    if out.resolve() in scene.resolve().parents:
        raise ConfigError(
            f"{out} holds the scene itself, so --restart cannot rename it aside", _ELSEWHERE
        )
    with contextlib.suppress(DamagedJsonError):  # --restart is the way out of that
        read_plan(folder)
    number = 1
    try:
        while (name := out.with_name(f"{out.name}.old-{number}")).exists():
            number += 1
        out.rename(name)
        out.mkdir()
        move_lock(name, out)
        logs = RunFolder(name).logs
        if logs.is_dir():  # of the job that is running: they are being written
            logs.rename(folder.logs)
    except (OSError, ValueError) as error:  # ValueError: "." has no name
        reason = error.strerror if isinstance(error, OSError) else "it has no name of its own"
        raise ResourceError(f"{out} cannot be renamed aside: {reason}", _ELSEWHERE) from None


def read_plan(folder: RunFolder, path: Path | None = None) -> Plan:
    """plan.json, or another file with a plan; ConfigError if damaged or of another version."""
    path = path or folder.plan
    value = read_json(path)
    try:
        return Plan.from_json(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{path} is not a plan of this version of hyperhpc; nothing was touched", _ELSEWHERE
        ) from None


def check_same(folder: RunFolder, found: Plan, plan: Plan, hint: str) -> None:
    """ConfigError if options or scene differ, saying which."""
    new, old = plan.to_json(), found.to_json()
    changes = [
        f"{present_name(name)} was {_show(old['options'].get(name))}, is {_show(value)}"
        for name, value in (_dropped(old["options"]) | new["options"]).items()
        if _given(old["options"].get(name)) != _given(value)
        and not (name == _MAY_BE_ADDED and value)
    ]
    if why := _describe_scene_change(folder, found.fingerprint, plan.fingerprint, bool(changes)):
        changes.append(why)
    if changes:
        raise ConfigError(f"{folder.out} is the folder of another run: {'; '.join(changes)}", hint)


def _given(value: Any) -> Any:
    """None for an empty list too: plans of earlier versions lack options that are one."""
    return None if value == [] else value


def _dropped(options: dict[str, Any]) -> dict[str, None]:
    """Options of a plan that it has only if they are given: they may be missing in the other."""
    return {name: None for name in ("unmix",) if name in options}


def _describe_scene_change(
    folder: RunFolder, old: dict[str, Any], new: dict[str, Any], has_other_options: bool
) -> str:
    """How a scene differs from that of the plan; empty if it does not.

    Files that could not be read when the run stopped may have been copied again.
    """
    keys = list(dict.fromkeys([*old, *new]))
    if is_of_older_version(old, new):
        if not folder.run.is_file() or not is_complete(folder):
            return "it was begun by an earlier version, which has recorded less of its scene"
        keys = [key for key in keys if key in old and key != "files"]
    changed: dict[str, list[str]] = {}
    repaired = read_unreadable(folder)
    for key in keys:
        differing = list_changes({key: old.get(key)}, {key: new.get(key)})
        if names := [name for name in differing if not is_named_in(repaired, name)]:
            changed[key] = names
    if has_other_options:  # which say how its files are read
        changed.pop(DESCRIBED, None)
    if not changed:
        return ""
    text = f"the scene is another one or has changed ({', '.join(changed)})"
    files = [name for name in changed.get("files", []) if name != "files"]
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{text}: {files[0]}{more}" if files else text


def describe_copied_scene(found: Plan, plan: Plan) -> str | None:
    """A warning if the files of the scene are others, of the same names, sizes and times."""
    if has_other_inodes(found.fingerprint, plan.fingerprint):
        return (
            "the files of the scene were copied or replaced since it was begun: their names, sizes "
            "and times are the same, their inodes are not; if it is another scene, give --restart"
        )
    return None


def note_unreadable(folder: RunFolder, message: str) -> None:
    """Keep what could not be read, so that a copy of that file may replace it."""
    write_sealed(folder.unreadable, {"why": message})


def read_unreadable(folder: RunFolder) -> str:
    """What could not be read when the run stopped; empty if nothing is known."""
    with contextlib.suppress(ConfigError):
        return (
            str(read_json(folder.unreadable).get("why", "")) if folder.unreadable.exists() else ""
        )
    return ""


def is_named_in(message: str, name: str) -> bool:
    """True if a message names the chunk file of that name, which has folders."""
    return "/" in name and re.search(rf"/{re.escape(name)}(?![\w./])", message) is not None


def _show(value: Any) -> str:
    if value is None or value == []:
        return "unset"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):  # of a file's content
        return f"a file (SHA-256 {value[:8]})"
    return str(value)


def find_run_folder(path: str | Path) -> RunFolder:
    """The folder of an existing run.

    Raises ConfigError: there is none; ResourceError: the folder may not be read.
    """
    folder = RunFolder(Path(path))
    if not is_readable_file(folder.plan):
        raise no_run_error(path)
    return folder


def is_run_folder(path: Path) -> bool:
    """True for a folder that holds the maps of a run, finished or not."""
    folder = RunFolder(path)
    try:
        return folder.results.is_dir() and (folder.run.is_file() or folder.plan.is_file())
    except OSError:  # whoever opens it says why
        return False


def no_run_error(path: str | Path) -> ConfigError:
    """The error for a folder that holds no run."""
    return ConfigError(
        f"{path} holds no run of hyperhpc",
        f"Make one with: hyperhpc run SCENE {shlex.quote(str(path))}",
    )


def is_readable_file(path: Path) -> bool:
    """True for a file of a run, False if there is none.

    Raises ResourceError: whether it is there may not be seen, or it may not be read.
    """
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return path.is_file()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise ResourceError(
            f"{path} cannot be read: {error.strerror or error}", os_hint(error)
        ) from None
