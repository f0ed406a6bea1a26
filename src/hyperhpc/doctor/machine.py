"""Cores, memory, control groups, container, Slurm, locale and limits of this process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import resource
import shutil
import sys
from pathlib import Path

from hyperhpc.doctor.finding import Finding, format_bytes
from hyperhpc.doctor.packages import find_lock
from hyperhpc.workers.limits import read_limits

# --- cores and memory ------------------------------------------------------------------

#: Part of a limit that workers get; the rest is a reserve.
_SHARE = 0.9
_MIB = 2**20


def usable() -> tuple[int, int]:
    """Cores and bytes that ``hyperhpc run`` would take by default."""
    from hyperhpc.workers.sizes import usable_cores, usable_memory

    return usable_cores(), usable_memory()


def run_options(cores: float, memory_bytes: int) -> str:
    """The command that keeps within these cores and this memory."""
    from hyperhpc.workers.sizes import BASE_BYTES

    default, room = _default_memory(), int(memory_bytes * _SHARE)
    count = max(1, min(int(cores), room // default))
    command = f"hyperhpc run SCENE OUT --workers {count}"
    each = room // count
    if each < default:
        command += f" --memory-per-worker {max(each, BASE_BYTES) // _MIB}MiB"
    return command


def _default_memory() -> int:
    from hyperhpc.config import RunConfig, parse_memory

    return parse_memory(RunConfig.memory_per_worker)


def check_cores() -> Finding:
    """Show the cores of the machine, and those this process may use."""
    allowed = len(os.sched_getaffinity(0))
    total = os.cpu_count() or allowed
    load = os.getloadavg()[0]  # no reason to warn: a run may cause it
    return Finding("ok", f"{allowed} of {total} by affinity, load {load:.1f}")


def check_memory() -> Finding:
    """Check that the memory that is available now is enough for one worker."""
    import psutil

    from hyperhpc.workers.sizes import BASE_BYTES

    memory, default = psutil.virtual_memory(), _default_memory()
    value = f"{format_bytes(memory.total)}, {format_bytes(memory.available)} available"
    if memory.available < 2 * BASE_BYTES:
        need = f"less than the {format_bytes(2 * BASE_BYTES)} of one worker and its scheduler"
        return Finding("error", f"{value}: {need}", "end other programs, or ask for more")
    if memory.available < default:
        less = f"less than one worker's {format_bytes(default)}"
        return Finding("warning", f"{value}: {less}", run_options(1, memory.available))
    return Finding("ok", value)


def check_cgroup(root: Path = Path("/"), seen: tuple[int, int] | None = None) -> Finding:
    """Check that ``hyperhpc run`` would keep within the limits of the control group.

    ``seen``: Cores and bytes that a run would take; by default those it would take here.
    """
    limits = read_limits(root)
    if limits.version == "none":
        return Finding("ok", "none")
    cores, memory = seen or usable()
    parts = [f"{limits.cpus:.4g} cores"] if limits.cpus is not None else []
    parts += [format_bytes(limits.memory_bytes)] if limits.memory_bytes is not None else []
    value = f"{limits.version}: {', '.join(parts) or 'no limit'}"
    most_cores = math.ceil(limits.cpus) if limits.cpus else cores
    most_memory = limits.memory_bytes or memory
    if cores > most_cores or memory > most_memory:
        takes = f"a run would take {cores} cores and {format_bytes(memory)}"
        return Finding("warning", f"{value}; {takes}", run_options(most_cores, most_memory))
    return Finding("ok", value)


# --- container -------------------------------------------------------------------------

#: Kind of container, and what is in its root folder.
_MARKS = {"apptainer": ".singularity.d", "docker": ".dockerenv", "podman": "run/.containerenv"}
_SHOWN = ("title", "version", "revision", "created")
_OCI = "org.opencontainers.image."


def check_container(root: Path = Path("/")) -> Finding:
    """Show the kind of container and its labels; Docker does not show them inside."""
    kind = next((kind for kind, mark in _MARKS.items() if (root / mark).exists()), None)
    if kind is None:
        return Finding("ok", "none")
    name = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")
    value = f"{kind} {name}" if kind == "apptainer" and name else kind
    labels: dict[str, str] = {}
    with contextlib.suppress(OSError, ValueError):
        labels = json.loads((root / ".singularity.d/labels.json").read_text("utf-8"))
    shown = [f"{key} {labels[_OCI + key]}" for key in _SHOWN if labels.get(_OCI + key)]
    if shown:
        value += f": {', '.join(shown)}"
    wanted, lock = str(labels.get("hyperhpc.lock.sha256")), find_lock()
    if lock and len(wanted) == 64 and wanted != hashlib.sha256(lock.read_bytes()).hexdigest():
        value += "; its label names a different lock from that of this hyperhpc"
        return Finding("warning", value, "use hyperhpc of the image: unset PYTHONPATH")
    return Finding("ok", value)


# --- Slurm -----------------------------------------------------------------------------

_COMMANDS = ("sbatch", "squeue", "scancel", "srun", "sinfo", "scontrol")
#: Nodes without a file of their own keep what the controller sent in the last one.
_CONFIGURATIONS = ("etc/slurm/slurm.conf", "etc/slurm-llnl/slurm.conf", "run/slurm/conf/slurm.conf")
_SOCKETS = ("run/munge/munge.socket.2", "var/run/munge/munge.socket.2")


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) else None


def in_job() -> bool:
    """True inside a Slurm job."""
    return bool(os.environ.get("SLURM_JOB_ID"))


def check_allocation(root: Path = Path("/"), seen: tuple[int, int] | None = None) -> Finding:
    """Check that ``hyperhpc run`` would keep within what Slurm gave this job here.

    ``seen``: As in :func:`check_cgroup`.
    """
    if not in_job():
        group = read_limits(root).group
        if "/slurm" in group and "/job_" in group:
            value = f"the control group {group} belongs to a job, but no SLURM_* variable is set"
            remedy = "leave out --cleanenv, or pass them as APPTAINERENV_SLURM_*"
            return Finding("warning", value, remedy)
        return Finding("ok", "none: this is not a Slurm job")
    cpus = _number("SLURM_CPUS_ON_NODE")
    per_node, per_cpu = _number("SLURM_MEM_PER_NODE"), _number("SLURM_MEM_PER_CPU")
    memory = (per_node or (per_cpu or 0) * (cpus or 0)) * 2**20  # Slurm counts in MiB
    nodes = _number("SLURM_JOB_NUM_NODES") or _number("SLURM_NNODES") or 1
    tasks = _number("SLURM_NTASKS") or 1
    value = (
        f"job {os.environ['SLURM_JOB_ID']}: {_count(nodes, 'node')}, {_count(tasks, 'task')}; "
        f"here {_count(cpus, 'core') if cpus else 'some cores'}, "
        f"{format_bytes(memory) if memory else 'no limit of memory'}"
    )
    cores, available = seen or usable()
    if (cpus and cores > cpus) or (memory and available > memory):
        takes = f"a run would take {cores} cores and {format_bytes(available)}"
        least = min(cores, cpus or cores), min(available, memory or available)
        return Finding("warning", f"{value}; {takes}", run_options(*least))
    each = _number("SLURM_CPUS_PER_TASK")
    if each and cores < each and os.environ.get("SLURM_STEP_ID", "").isdecimal():
        # Since Slurm 22.05 srun does not inherit it from sbatch
        value += f"; this step has {cores} of its {each} cores"
        return Finding("warning", value, f"srun --cpus-per-task={each} ...")
    return Finding("ok", value)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def check_commands(root: Path = Path("/")) -> Finding:
    """Check for Slurm's commands, its configuration and munge's socket."""
    commands = [name for name in _COMMANDS if shutil.which(name)]
    named = os.environ.get("SLURM_CONF", "").lstrip("/")
    files = [named] if named else _CONFIGURATIONS
    configuration = next((f"/{name}" for name in files if (root / name).exists()), None)
    munge = any((root / name).exists() for name in _SOCKETS)
    if not commands:
        bridge = " (a gang job needs none)" if in_job() else ""
        also = f"; {configuration} is visible" if configuration else ""
        return Finding("ok", f"no commands visible{bridge}{also}")
    value = f"{' '.join(commands)}; {configuration or 'no slurm.conf'}"
    value += ", munge" if munge else ", no munge socket"
    if not configuration or not munge:
        bind = "--bind /etc/slurm,/run/munge,/etc/passwd"
        return Finding("warning", value, f"in a container: {bind}; else export SLURM_CONF=FILE")
    return Finding("ok", value)


# --- locale and limits of this process ---------------------------------------------------

#: What Python sets LC_CTYPE to by itself if the locale is C.
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
#: Files and sockets that one process needs on this machine, and for each Slurm task.
_FILES, _FILES_PER_TASK = 512, 8


def check_locale() -> Finding:
    """Check that names of files and text are UTF-8, here and in programs we start."""
    encodings = {sys.getfilesystemencoding(), (sys.stdout and sys.stdout.encoding) or "utf-8"}
    wrong = sorted(name for name in encodings if name.lower().replace("-", "") != "utf8")
    values = {name: os.environ.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG")}
    if values["LC_CTYPE"] in _COERCED:
        values["LC_CTYPE"] = ""
    variable, text = next((item for item in values.items() if item[1]), ("", ""))
    named = f"{variable}={text}" if variable else "LANG is not set"
    if wrong:
        remedy = "unset LC_ALL PYTHONIOENCODING PYTHONUTF8; export LANG=C.UTF-8"
        return Finding("error", f"Python reads text as {', '.join(wrong)}; {named}", remedy)
    if "utf8" not in text.lower().replace("-", ""):
        unset = "unset LC_ALL; " if variable == "LC_ALL" else ""
        here = "Python uses UTF-8 all the same, other programs do not"
        return Finding("warning", f"{named}: {here}", f"{unset}export LANG=C.UTF-8")
    return Finding("ok", f"UTF-8, {named}")


def check_open_files() -> Finding:
    """Check how many files and sockets one process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES + _FILES_PER_TASK * (_number("SLURM_NTASKS") or 0)
    most = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    if soft == resource.RLIM_INFINITY:
        return Finding("ok", "no limit")
    value = f"{soft} (at most {most})"
    if soft >= needed:
        return Finding("ok", value)
    if hard == resource.RLIM_INFINITY or hard >= needed:
        remedy = f"ulimit -n {max(needed, 4096) if hard < 0 else min(hard, max(needed, 4096))}"
    else:
        remedy = f"ask the administrators for a hard limit of {needed} open files"
    return Finding("error" if soft < 128 else "warning", f"{value}, {needed} are needed", remedy)


def check_core_files() -> Finding:
    """Check if a process that dies leaves a file as large as its memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if soft == 0:
        return Finding("ok", "none are written")
    size = "of any size" if soft == resource.RLIM_INFINITY else f"of up to {soft} bytes"
    if in_job():
        return Finding("warning", f"{size}, from each worker that dies", "ulimit -c 0")
    return Finding("ok", size)
