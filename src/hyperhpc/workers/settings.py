"""Dask's configuration for a run of ours, wherever its workers are."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hyperhpc.workers.pipes import METHOD
from hyperhpc.workers.processes import silent
from hyperhpc.workers.scratch import scratch_folder

#: Dask logs a task's error with a traceback, and, as critical, that a client is gone to which
#: its scheduler was writing; we tell such things ourselves.
LOG_LEVEL = logging.CRITICAL + 1
#: One thread for every library that would start its own: Dask has the threads.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLOSC_NTHREADS",
    "NUMEXPR_NUM_THREADS",
)
#: Workers that die of a task before it is given up.
MOST_DEATHS = 3
#: Arrays of a tile are kept for the next tile: fresh pages cost more than what is done with
#: them (a third of a run, on a machine that lends its memory out). 32 MiB is glibc's most.
MEMORY_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": "268435456", "MALLOC_MMAP_THRESHOLD_": "33554432"}


def dask_settings(*, is_secure: bool = True) -> dict[str, Any]:
    """Dask's configuration for a run of ours."""
    return {
        "array.query-planning": False,  # dask-ml breaks under it
        "distributed.comm.require-encryption": is_secure,
        "distributed.comm.timeouts.connect": "60s",
        # a node that lost its power says no goodbye
        "distributed.comm.timeouts.tcp": "30s",
        "distributed.scheduler.worker-ttl": "5 minutes",
        "distributed.admin.large-graph-warning-threshold": "100MB",
        # what has killed three workers will kill the fourth
        "distributed.scheduler.allowed-failures": MOST_DEATHS - 1,
        "distributed.worker.multiprocessing-method": METHOD,
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_VARIABLES, "1")
        | MEMORY_VARIABLES,
        # Nobody looks at its profiles of threads, and they are taken a hundred times a second
        "distributed.worker.profile.enabled": False,
        # A tile is memory we planned for: no spilling of what must be fast
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        # nor a pause, which nothing would end: what is used is in use
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.98,
    }


def silence_dask() -> None:
    """For processes of ours alone, to their end: Dask's words would drown ours in the log."""
    import distributed  # noqa: F401  # its import sets the levels

    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(LOG_LEVEL)


@contextmanager
def configured(*, is_secure: bool = True) -> Iterator[str]:
    """Dask as a run of ours wants it, with a scratch folder that is removed at the end."""
    import dask

    with (
        # They report futures whose results nobody waits for any more, after an error,
        silent(logging.getLogger("asyncio")),
        # and calls that Dask had planned when its scheduler was lost
        silent(logging.getLogger("tornado.application")),
        scratch_folder() as scratch,
        dask.config.set(dask_settings(is_secure=is_secure) | {"temporary-directory": scratch}),
    ):
        yield scratch
