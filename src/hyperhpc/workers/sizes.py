"""How many workers there can be, and how much memory they have."""

from __future__ import annotations

import math
import os
import resource

import psutil

from hyperhpc.config import RunConfig
from hyperhpc.errors import ResourceError, SlurmError
from hyperhpc.workers.limits import read_limits

#: What a worker needs before it holds any data: interpreter, numpy, zarr, dask, sklearn.
BASE_BYTES = 400 * 2**20
#: The most that this process was seen to use, with scheduler and report (docs/performance.md).
DRIVER_BYTES = 600 * 2**20
#: Of a job of one worker with room for data.
_LEAST_BYTES = DRIVER_BYTES + 2 * BASE_BYTES
#: Addresses that libraries reserve, of which they use a part; with less, they abort.
_ADDRESS_BYTES = 2 * 2**30
#: Workers of an elastic run without --workers.
DEFAULT_WORKERS = 8
#: Tasks of a gang that are no workers: scheduler and client.
NON_WORKER_TASKS = 2


def usable_cores() -> int:
    """Cores this process may use (affinity and cgroup quota)."""
    from dask.system import CPU_COUNT

    share = read_limits().cpus
    most = int(CPU_COUNT) if share is None else min(int(CPU_COUNT), max(1, math.ceil(share)))
    return min(most, len(os.sched_getaffinity(0)))


def usable_memory() -> int:
    """Bytes that workers may use: physical memory, or what a cgroup leaves to them.

    Beyond the limit of a cgroup the kernel ends processes at once, so scheduler and report count.
    """
    from distributed.system import MEMORY_LIMIT

    total = psutil.virtual_memory().total
    limit = min(int(MEMORY_LIMIT), read_limits().memory_bytes or total)
    return total if limit >= total else max(0, limit - DRIVER_BYTES)


def count_local_workers(config: RunConfig) -> int:
    """How many workers to start here: the number asked for, or what cores and memory allow.

    Raises ResourceError: if the machine has less memory than they need.
    """
    memory_bytes, available = config.memory_bytes, usable_memory()
    fitting = available // memory_bytes
    address = resource.getrlimit(resource.RLIMIT_AS)[0]
    if address != resource.RLIM_INFINITY and address < _ADDRESS_BYTES:
        raise ResourceError(
            f"A process may use {address // 2**20} MiB of addresses (ulimit -v); scheduler and "
            f"workers need {_ADDRESS_BYTES // 2**20} MiB each",
            "Type: ulimit -v unlimited",
        )
    if available < BASE_BYTES:
        raise ResourceError(
            f"The limit of memory of this job leaves {available / 2**20:.0f} MiB for workers: "
            f"scheduler and report need {DRIVER_BYTES // 2**20} MiB, and a worker at least "
            f"{BASE_BYTES // 2**20} MiB",
            f"Ask for {_LEAST_BYTES // 2**20} MiB or more",
        )
    count = config.workers or max(1, min(usable_cores() // config.threads_per_worker, fitting))
    if count * memory_bytes > available:
        less = f"--memory-per-worker {available // 2**20}MiB"
        raise ResourceError(
            f"{count} worker{'s' if count > 1 else ''} of {memory_bytes / 2**30:.1f} GiB need "
            f"{count * memory_bytes / 2**30:.1f} GiB; "
            f"this machine has {available / 2**30:.1f} GiB",
            f"Give --workers {fitting}" if fitting else f"Give --workers 1 {less}",
        )
    return count


def count_gang_workers(config: RunConfig) -> int:
    """Workers of this Slurm job: its tasks without scheduler and client.

    Raises SlurmError: outside a job, or in one with fewer than three tasks; ResourceError: if
    Slurm gives a task less memory than a worker may use.
    """
    tasks = _read_slurm("SLURM_NTASKS") or _read_slurm("SLURM_NPROCS")
    if not (os.environ.get("SLURM_JOB_ID") and tasks):
        raise SlurmError(
            "--launcher gang works only in a Slurm job of several tasks, and this process is "
            "in none",
            "Submit one: jobs/submit.sh SITE=NAME SCENE=PATH OUT=PATH",
        )
    if tasks < NON_WORKER_TASKS + 1:
        raise SlurmError(
            f"The job has {tasks} task{'' if tasks == 1 else 's'}; scheduler, client and one "
            f"worker need {NON_WORKER_TASKS + 1}",
            f"Ask for --ntasks={NON_WORKER_TASKS + 1} or more",
        )
    per_task = _memory_per_task(tasks)
    if per_task and config.memory_bytes > per_task:
        mib = per_task * 9 // 10 // 2**20
        raise ResourceError(
            f"--memory-per-worker {config.memory_per_worker} is more than Slurm gives a task, "
            f"{per_task // 2**20} MiB",
            f"Give --memory-per-worker {mib}MiB, or ask Slurm for more",
        )
    return tasks - NON_WORKER_TASKS


def _memory_per_task(tasks: int) -> int | None:
    """Bytes of a task if Slurm limits them; Slurm counts in MiB."""
    per_cpu, cpus = _read_slurm("SLURM_MEM_PER_CPU"), _read_slurm("SLURM_CPUS_PER_TASK") or 1
    if per_cpu:
        return per_cpu * cpus * 2**20
    per_node = _read_slurm("SLURM_MEM_PER_NODE")
    nodes = _read_slurm("SLURM_JOB_NUM_NODES") or _read_slurm("SLURM_NNODES") or 1
    if not per_node:
        return None
    tasks_per_node = _read_slurm("SLURM_NTASKS_PER_NODE") or -(-tasks // nodes)
    return per_node // tasks_per_node * 2**20


def _read_slurm(name: str) -> int | None:
    """A positive number from Slurm's environment variables, or None."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) else None
