"""Workers on this machine: a Dask cluster that speaks TLS on every socket.

An open loopback port of Dask lets every other user of the machine run code as you, so
there is none: scheduler, workers and nannies speak TLS with keys that exist in memory
only. There is no HTTP server unless a dashboard is asked for, and that is on loopback
under a secret prefix.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING

from hyperhpc.workers.launch import Workers, size_workers
from hyperhpc.workers.processes import main_hidden, signals_later, silent

if TYPE_CHECKING:
    from distributed.security import Security

_LOOPBACK = "127.0.0.1"
#: Dask logs a task's error with a traceback, and closed sockets; we tell them ourselves.
_LOG_LEVEL = logging.CRITICAL
#: One thread for every library that would start its own: Dask has the threads.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "BLOSC_NTHREADS",
    "NUMEXPR_NUM_THREADS",
)
#: Large arrays go back to the system when freed: what a worker holds is what it uses.
MEMORY_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_MMAP_THRESHOLD_": "1048576"}


def temporary_security() -> Security:
    """TLS keys and a certificate that live in memory and end with the process."""
    from distributed.security import Security

    return Security.temporary()


def dask_settings() -> dict:
    """Dask's configuration for a run of ours."""
    return {
        "array.query-planning": False,  # dask-ml breaks under it
        "distributed.comm.require-encryption": True,
        "distributed.comm.timeouts.connect": "60s",
        "distributed.admin.large-graph-warning-threshold": "100MB",
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREAD_VARIABLES, "1")
        | MEMORY_VARIABLES,
        # A tile is memory we planned for: no spilling of what must be fast
        "distributed.worker.memory.target": False,
        "distributed.worker.memory.spill": False,
        # nor a pause, which nothing would end: what is used is in use
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.terminate": 0.98,
    }


@contextmanager
def local_workers(
    count: int | None, threads: int, memory_bytes: int, dashboard: bool
) -> Iterator[Workers]:
    """Worker processes on this machine, as many as fit, and a client."""
    import dask
    from distributed import Client, Nanny, SpecCluster

    from hyperhpc.workers.nodes import ClosedScheduler, ClosedWorker

    count = size_workers(count, threads, memory_bytes)
    prefix = secrets.token_urlsafe(16) if dashboard else None
    resource_tracker.ensure_running()  # or it starts later, and undoes the scheduler's mask
    stack = ExitStack()
    with signals_later(), _closed_on_error(stack):
        # It reports futures whose results nobody waits for any more, after an error
        stack.enter_context(silent(logging.getLogger("asyncio")))
        stack.enter_context(main_hidden())
        scratch = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="hyperhpc-", ignore_cleanup_errors=True)
        )
        settings = dask_settings() | {"temporary-directory": scratch}
        stack.enter_context(dask.config.set(settings))
        security = temporary_security()
        everywhere = {"host": _LOOPBACK, "protocol": "tls://", "security": security}
        scheduler = {
            "port": 0,
            "dashboard_address": f"{_LOOPBACK}:0" if prefix else None,
            "http_prefix": prefix and f"/{prefix}",
        }
        worker = {
            "worker_class": ClosedWorker,
            "nthreads": threads,
            "memory_limit": memory_bytes,
            "dashboard": False,
            "silence_logs": _LOG_LEVEL,
        }
        cluster = stack.enter_context(
            SpecCluster(
                scheduler={"cls": ClosedScheduler, "options": everywhere | scheduler},
                workers={
                    number: {"cls": Nanny, "options": everywhere | worker}
                    for number in range(count)
                },
                security=security,
                silence_logs=_LOG_LEVEL,
            )
        )
        client = stack.enter_context(Client(cluster, security=security))
        link = None
        if prefix:
            port = cluster.scheduler.http_server.port
            link = f"http://{_LOOPBACK}:{port}/{prefix}/status"
    try:
        yield Workers(client, count, threads, memory_bytes, link)
    finally:
        with signals_later():
            stack.close()


@contextmanager
def _closed_on_error(stack: ExitStack) -> Iterator[None]:
    try:
        yield
    except BaseException:
        stack.close()
        raise
