"""Workers on this machine: a Dask cluster that speaks TLS on every socket.

Through an open loopback port of Dask, every other user of the machine could run code as you.
So scheduler, workers and nannies speak TLS with keys in the scratch folder. There is no HTTP
server unless a dashboard is asked for, and that is on loopback under a secret prefix.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hyperhpc.config import RunConfig
from hyperhpc.errors import ResourceError, describe_os_error, find_os_error, os_hint
from hyperhpc.workers.dask_setup import LOG_LEVEL, MAX_WORKER_DEATHS, configure_dask
from hyperhpc.workers.network import LOOPBACK
from hyperhpc.workers.processes import delay_signals, hide_main_module, start_resource_tracker
from hyperhpc.workers.security import temporary_security
from hyperhpc.workers.sizes import count_local_workers
from hyperhpc.workers.workers import Note, Workers


@contextmanager
def local_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Worker processes on this machine, as many as fit, and a client."""
    from distributed import Client

    from hyperhpc.workers import dask_nodes

    threads, memory_bytes = config.threads_per_worker, config.memory_bytes
    count = count_local_workers(config)
    start_resource_tracker()  # if it started later, it would undo the scheduler's mask
    with delay_signals(), ExitStack() as stack, _explain_failed_start(memory_bytes):
        stack.enter_context(hide_main_module())
        security = temporary_security(stack.enter_context(configure_dask()))
        common = {"host": LOOPBACK, "protocol": "tls://", "security": security}
        scheduler = common | dask_nodes.scheduler_options(config.dashboard)
        nanny = common | dask_nodes.worker_options(threads, memory_bytes)
        worker = {"cls": dask_nodes.RetryingNanny, "options": nanny}
        cluster = stack.enter_context(
            dask_nodes.WatchedCluster(
                scheduler={"cls": dask_nodes.PrivateScheduler, "options": scheduler},
                workers=dict.fromkeys(range(count), worker),
                security=security,
                silence_logs=LOG_LEVEL,
            )
        )
        client = stack.enter_context(Client(cluster, security=security))
        link = cluster.scheduler.dashboard_link
        started = stack.pop_all()
    try:
        yield Workers(client, count, threads, memory_bytes, link)
    finally:
        with delay_signals():
            started.close()


@contextmanager
def _explain_failed_start(memory_bytes: int) -> Iterator[None]:
    """Say what it means that a nanny has given up its worker, or could not start one."""
    try:
        yield
    except RuntimeError as error:
        if found := find_os_error(error):  # such as a full TMPDIR
            raise ResourceError(
                f"A worker cannot be started: {describe_os_error(found, tempfile.gettempdir())}",
                os_hint(found),
            ) from error
        raise ResourceError(
            f"A worker of {memory_bytes // 2**20} MiB has ended {MAX_WORKER_DEATHS} times "
            f"while it was started: {error}",
            "Check that the machine has the memory and TMPDIR has room, or give fewer --workers",
        ) from error
