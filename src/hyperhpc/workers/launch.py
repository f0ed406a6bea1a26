"""The door: a launcher's name in, connected workers out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from hyperhpc.errors import ResourceError

if TYPE_CHECKING:
    from distributed import Client

#: What a worker needs before it holds any data: interpreter, numpy, zarr, dask, sklearn.
BASE_BYTES = 400 * 2**20


@dataclass
class Workers:
    """Connected workers.

    Attributes
    ----------
    client
        Speaks TLS to all of them.
    count, threads
        Number of worker processes, and threads in each.
    memory_bytes
        Limit of each worker.
    dashboard
        Address of the dashboard, or None.
    """

    client: Client
    count: int
    threads: int
    memory_bytes: int
    dashboard: str | None = None


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


def check_workers(launcher: str, *, count: int | None, threads: int, memory_bytes: int) -> None:
    """Refuse workers that cannot be had, before anything is written.

    Raises
    ------
    ResourceError
        If the machine has not got what was asked for.
    """
    if launcher == "local":
        size_workers(count, threads, memory_bytes)


@contextmanager
def launch_workers(
    launcher: str,
    *,
    count: int | None,
    threads: int,
    memory_bytes: int,
    dashboard: bool = False,
) -> Iterator[Workers]:
    """Start workers, connect to them, and stop them at the end, however it comes.

    Raises
    ------
    ResourceError
        If the machine has not got what was asked for.
    """
    from hyperhpc.workers.local import local_workers

    launchers = {"local": local_workers}
    with launchers[launcher](count, threads, memory_bytes, dashboard) as workers:
        yield workers
