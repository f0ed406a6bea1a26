"""Dask's configuration for a run, with any launcher.

A nanny and its worker talk through pipes, which have no name that a killed process would
leave behind: multiprocessing's own queues hold semaphores, which are files in /dev/shm. Its
tracker removes them, but what kills a whole job kills the tracker as well.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from queue import Empty
from typing import Any

from hyperhpc.environment import IsolatedProcess
from hyperhpc.scratch import scratch_folder
from hyperhpc.workers.processes import mute_logger

#: Above all levels of Dask: it logs an error of a task with a traceback, and the loss of a
#: client as critical. This package reports both in one line.
LOG_LEVEL = logging.CRITICAL + 1
#: One thread for each library that would start its own: Dask has the threads.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLOSC_NTHREADS",
    "NUMEXPR_NUM_THREADS",
)
#: A task that has ended this many workers is given up.
MAX_WORKER_DEATHS = 3
#: The memory of a tile's arrays is kept for the next tile: new pages cost a third of a run on
#: some virtual machines. 32 MiB is the most that glibc accepts.
MEMORY_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "33554432"}
#: The name of :class:`PipeContext` in Dask's configuration.
PIPE_METHOD = "hyperhpc"


class PipeQueue:
    """What a nanny needs of a queue: short messages, one reader at a time."""

    def __init__(self, reader: Connection, writer: Connection) -> None:
        self._reader, self._writer = reader, writer
        self._is_closed = False

    def put(self, message: Any) -> None:
        """Send a message; if it has less than 4 KiB, all of it is sent or nothing."""
        if self._is_closed:
            raise ValueError("the queue is closed")
        self._writer.send(message)

    def get(self) -> Any:
        """Wait for a message."""
        return self._reader.recv()

    def get_nowait(self) -> Any:
        """Return a message that has arrived, else raise ``queue.Empty``."""
        if not self._reader.poll():
            raise Empty
        return self.get()

    def close(self) -> None:
        """Send no more. The pipe stays open, because the reader may still wait."""
        self._is_closed = True

    def join_thread(self) -> None:
        """Do nothing: there is no thread that sends."""


class PipeContext(SpawnContext):
    """Processes that are spawned, and queues that are pipes."""

    Process = IsolatedProcess

    def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """As multiprocessing calls it."""
        return PipeQueue(*self.Pipe(duplex=False))


# docs/decisions/0026-queues-of-nannies-are-pipes.md
context._concrete_contexts[PIPE_METHOD] = PipeContext()  # type: ignore[attr-defined]


def dask_settings(*, is_secure: bool = True) -> dict[str, Any]:
    """Dask's configuration for a run."""
    return {
        "array.query-planning": False,  # dask-ml breaks under it
        "distributed.comm.require-encryption": is_secure,
        "distributed.comm.timeouts.connect": "60s",
        # a node that loses its power does not close its connections
        "distributed.comm.timeouts.tcp": "30s",
        "distributed.scheduler.worker-ttl": "5 minutes",
        # of a dashboard: its pages and their files; no proxy, no metrics, no list of all tasks
        "distributed.scheduler.http.routes": [
            "distributed.http.scheduler.info",
            "distributed.http.statics",
        ],
        "distributed.admin.large-graph-warning-threshold": "100MB",
        "distributed.scheduler.allowed-failures": MAX_WORKER_DEATHS - 1,
        "distributed.worker.multiprocessing-method": PIPE_METHOD,
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_VARIABLES, "1")
        | MEMORY_VARIABLES,
        # Dask would take a profile of all threads a hundred times a second
        "distributed.worker.profile.enabled": False,
        # The memory of a tile is planned: spilling to disk would only slow it down
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        # nothing would end a pause, because the memory stays in use
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.98,
    }


def silence_dask() -> None:
    """Stop Dask's log for the rest of this process; call it only in processes of a run."""
    import distributed  # noqa: F401  # its import sets the levels

    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(LOG_LEVEL)


@contextmanager
def configure_dask(*, is_secure: bool = True, keeps_keys: bool = False) -> Iterator[str]:
    """Set Dask's configuration and a scratch folder, which is removed at the end.

    ``keeps_keys``: Keep what the user has configured of TLS: the keys of another cluster.
    """
    import dask

    # A thread may be asking the scheduler when the client is closed: its question is dropped
    warnings.filterwarnings("ignore", "coroutine 'PooledRPCCall", RuntimeWarning)
    defaults = dask.config.merge(*dask.config.defaults)
    keys = {"distributed.comm.tls": dask.config.get("distributed.comm.tls", {})}
    kept = keys if keeps_keys else {}
    with (
        # asyncio reports futures whose results nobody waits for after an error,
        mute_logger(logging.getLogger("asyncio")),
        # tornado reports calls that Dask had planned when its scheduler was lost
        mute_logger(logging.getLogger("tornado.application")),
        scratch_folder() as scratch,
        dask.config.set(defaults),  # of what the user has configured, at most the keys are left
        dask.config.set(kept | dask_settings(is_secure=is_secure)),
        dask.config.set({"temporary-directory": scratch}),
    ):
        yield scratch
