"""How many workers there may be, and how large."""

from __future__ import annotations

import os

import psutil

from hyperhpc.config import RunConfig
from hyperhpc.errors import ResourceError, SlurmError

#: What a worker needs before it holds any data: interpreter, numpy, zarr, dask, sklearn.
BASE_BYTES = 400 * 2**20
#: Jobs of an elastic run, unless --workers says otherwise.
DEFAULT_WORKERS = 8
#: Scheduler and client are tasks of a gang too.
HELPERS = 2


def usable_cores() -> int:
    """Cores this process may use (affinity and cgroup quota)."""
    from dask.system import CPU_COUNT

    return min(int(CPU_COUNT), len(os.sched_getaffinity(0)))


def usable_memory() -> int:
    """Bytes this process may use (cgroup limit and physical memory)."""
    from distributed.system import MEMORY_LIMIT

    return min(int(MEMORY_LIMIT), psutil.virtual_memory().total)


def size_workers(count: int | None, threads: int, memory_bytes: int) -> int:
    """How many workers to start on this machine.

    Parameters
    ----------
    count
        As asked for; None for as many as cores and memory allow.

    Raises
    ------
    ResourceError
        If the machine has not got the memory for them.
    """
    available = usable_memory()
    fitting = int(available // memory_bytes)
    if count is None:
        count = max(1, min(usable_cores() // threads, fitting))
    if count * memory_bytes > available:
        less = f"--memory-per-worker {available // 2**20}MiB"
        raise ResourceError(
            f"{count} worker{'s' if count > 1 else ''} of {memory_bytes / 2**30:.1f} GiB need "
            f"{count * memory_bytes / 2**30:.1f} GiB; "
            f"this machine has {available / 2**30:.1f} GiB",
            f"give --workers {fitting}" if fitting else f"give --workers 1 {less}",
        )
    return count


def size_gang(config: RunConfig) -> int:
    """Workers of this Slurm allocation: its tasks, without scheduler and client.

    Raises
    ------
    SlurmError
        Outside an allocation, or in one of fewer than three tasks.
    ResourceError
        If Slurm gives a task less memory than a worker may use.
    """
    tasks = _slurm("SLURM_NTASKS") or _slurm("SLURM_NPROCS")
    if not (os.environ.get("SLURM_JOB_ID") and tasks):
        raise SlurmError(
            "--launcher gang works within a Slurm job of several tasks; this is none",
            "submit one: jobs/submit.sh SITE=NAME SCENE=PATH OUT=PATH",
        )
    if tasks < HELPERS + 1:
        raise SlurmError(
            f"the job has {tasks} task{'' if tasks == 1 else 's'}; scheduler, client and one "
            f"worker make {HELPERS + 1}",
            f"ask for --ntasks={HELPERS + 1} or more",
        )
    per_task = _memory_per_task(tasks)
    if per_task and config.memory_bytes > per_task:
        mib = per_task * 9 // 10 // 2**20
        raise ResourceError(
            f"--memory-per-worker {config.memory_per_worker} is more than Slurm gives a task, "
            f"{per_task // 2**20} MiB",
            f"give --memory-per-worker {mib}MiB, or ask Slurm for more",
        )
    return tasks - HELPERS


def _memory_per_task(tasks: int) -> int | None:
    """Bytes of a task, if Slurm limits them; it counts in MiB."""
    per_cpu, cpus = _slurm("SLURM_MEM_PER_CPU"), _slurm("SLURM_CPUS_PER_TASK") or 1
    if per_cpu:
        return per_cpu * cpus * 2**20
    per_node = _slurm("SLURM_MEM_PER_NODE")
    nodes = _slurm("SLURM_JOB_NUM_NODES") or _slurm("SLURM_NNODES") or 1
    if not per_node:
        return None
    on_a_node = _slurm("SLURM_NTASKS_PER_NODE") or -(-tasks // nodes)
    return per_node // on_a_node * 2**20


def _slurm(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) else None
