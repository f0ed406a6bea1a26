"""Connected workers, as the pipeline sees them."""

from __future__ import annotations

import contextlib
import importlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from hyperhpc.config import RunConfig
from hyperhpc.errors import IncompleteRunError, ResourceError, SlurmError
from hyperhpc.workers.dask_setup import MOST_DEATHS

if TYPE_CHECKING:
    from distributed import Client, Future

#: Told one line that the user should read.
Note = Callable[[str], None]


@dataclass
class Workers:
    """Connected workers.

    Attributes
    ----------
    client
        Speaks TLS to all of them.
    count, threads
        Number of worker processes wanted, and threads in each. Fewer may be up.
    memory_bytes
        Limit of each worker.
    dashboard
        Address of a dashboard on this machine, or None. It holds a secret: it is for this
        user's terminal, and for no file that others may read.
    may_wait
        True if workers stand in a queue, and there may be none for a long time.
    engaged
        Long tasks, and the worker each was sent to.
    """

    client: Client
    count: int
    threads: int
    memory_bytes: int
    dashboard: str | None = None
    may_wait: bool = False
    engaged: dict[Future, str] = field(default_factory=dict)

    def up(self) -> int:
        """How many are connected now, as last heard of."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    def count_up(self) -> str:
        """How many are connected, of how many: ``3 of 4``."""
        return f"{self.up()} of {self.count}"

    def memory_used(self) -> str:
        """What all of them use together, as last heard of: ``1.1 GiB``."""
        known = self.client.scheduler_info(n_workers=-1)["workers"].values()
        used = sum(worker.get("metrics", {}).get("memory", 0) for worker in known)
        return f"{used / 2**30:.1f} GiB"

    def places(self) -> list[str]:
        """Addresses of those that are connected, in an order that stays; at least one."""
        self.client.wait_for_workers(1)  # all may have been lost just now
        return sorted(self.client.scheduler_info(n_workers=-1)["workers"])

    def engage(self, function: Callable[..., Any], *args: Any) -> Future:
        """Send one long task to the first worker, and remember where it is."""
        place = self.places()[0]
        future = self.client.submit(
            function, *args, pure=False, workers=[place], allow_other_workers=True
        )
        self.engaged[future] = place
        return future

    def apply(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """``function`` of each item, on workers; the results in the order of the items."""
        futures = [self.client.submit(function, item, pure=False) for item in items]
        return list(self.client.gather(futures))


# Workers that die are replaced, and their tiles done by others: here it is told.

_REMOVED, _MEMORY = "all", "worker-restart-memory"
_LOOK_S = 2.0
#: How long a run waits for a worker if all were lost. Lost ones are back in seconds.
PATIENCE_S = 300.0


def scheduler_errors() -> tuple[type[BaseException], ...]:
    """What Dask raises for whoever waits when the scheduler is gone."""
    import asyncio
    import concurrent.futures

    from distributed.comm import CommClosedError

    return asyncio.CancelledError, concurrent.futures.CancelledError, CommClosedError


@contextmanager
def losses_told(workers: Workers, tell: Note) -> Iterator[None]:
    """Tell each loss of a worker in one line, until the end of the block.

    Raises
    ------
    ResourceError
        If a task is given up because it has ended one worker after the other.
    IncompleteRunError
        If no worker is left for :data:`PATIENCE_S`, and none stands in a queue.
    """
    from distributed.scheduler import KilledWorker

    for_memory: set[str] = set()

    def on_memory(event: tuple[float, Any]) -> None:
        address = event[1]["worker"]
        if address not in for_memory:
            for_memory.add(address)
            tell(
                f"a worker needed more memory than it has, {workers.memory_bytes // 2**20} "
                "MiB, and was started anew; its tiles are done again"
            )

    def on_removed(event: tuple[float, Any]) -> None:
        told = event[1]
        if not isinstance(told, dict) or told.get("action") != "remove-worker":
            return
        if told["worker"] not in for_memory and not told["expected"]:
            host = told["worker"].rpartition("/")[2].rpartition(":")[0]
            tell(f"a worker on {host} was lost; its tiles are done again")

    client = workers.client
    client.subscribe_topic(_MEMORY, on_memory)
    client.subscribe_topic(_REMOVED, on_removed)
    try:
        with _given_up_without(workers, tell):
            yield
    except KilledWorker:  # of the fit: tiles are looked after by name
        mib = workers.memory_bytes // 2**20
        raise ResourceError(
            f"a step of the work has ended {MOST_DEATHS} workers, each with {mib} MiB; "
            "probably they ran out of memory",
            f"give --memory-per-worker {mib * 3 // 2}MiB or more: the run goes on from what "
            "is finished",
        ) from None
    finally:
        with contextlib.suppress(Exception):  # the scheduler is gone
            client.unsubscribe_topic(_REMOVED)
            client.unsubscribe_topic(_MEMORY)


@contextmanager
def _given_up_without(workers: Workers, tell: Note) -> Iterator[None]:
    """End the block if all workers stay away, for whom Dask would wait for ever.

    Whoever waits for a task in it is woken by the end of the client.
    """
    from asyncio import CancelledError

    is_over, is_given_up = threading.Event(), threading.Event()

    def look() -> None:
        waited = 0.0  # counted, not timed: a job may be suspended for hours
        while not is_over.wait(_LOOK_S):
            before, waited = waited, 0.0 if workers.up() else waited + _LOOK_S
            if waited > PATIENCE_S:
                is_given_up.set()
                workers.client.close()
                return
            if before <= PATIENCE_S / 10 < waited:
                tell(f"no worker is left; waiting {PATIENCE_S:.0f} s for one to come back")

    def watch() -> None:
        with contextlib.suppress(Exception):  # the scheduler is gone, which others tell
            look()

    if not workers.may_wait:
        threading.Thread(target=watch, name="hyperhpc-losses", daemon=True).start()
    try:
        yield
    except (Exception, CancelledError):
        if not is_given_up.is_set():  # else it comes of a closed client, whatever it is
            raise
        raise IncompleteRunError(
            f"all workers were lost, and none came back within {PATIENCE_S:.0f} s; what is "
            "finished is kept",
            "see why they ended, and give the same command again: it goes on from there",
        ) from None
    finally:
        is_over.set()


# How many workers there may be, and how large.

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


# Import what is needed later, while something else is waited for.


def import_early(name: str) -> None:
    """Begin to import a module in this process.

    An import that fails is left to whoever needs it, who can say what it is for.
    """
    threading.Thread(target=_import, args=(name,), daemon=True).start()


def _import(name: str) -> None:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
