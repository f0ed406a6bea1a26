"""Workers on this machine: a Dask cluster that speaks TLS on every socket.

An open loopback port of Dask lets every other user of the machine run code as you, so
there is none: scheduler, workers and nannies speak TLS with keys that exist in memory
only. There is no HTTP server unless a dashboard is asked for, and that is on loopback
under a secret prefix.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from hyperhpc.config import RunConfig
from hyperhpc.errors import ResourceError
from hyperhpc.workers.keys import temporary_security
from hyperhpc.workers.network import LOOPBACK
from hyperhpc.workers.processes import (
    closed_on_error,
    main_hidden,
    signals_later,
    start_tracker,
)
from hyperhpc.workers.settings import LOG_LEVEL, MOST_DEATHS, configured
from hyperhpc.workers.sizes import size_workers
from hyperhpc.workers.workers import Note, Workers


@contextmanager
def local_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Worker processes on this machine, as many as fit, and a client."""
    from distributed import Client, SpecCluster

    from hyperhpc.workers.dask_setup import (
        ClosedScheduler,
        PatientNanny,
        dashboard_link,
        scheduler_options,
        worker_options,
    )

    threads, memory_bytes = config.threads_per_worker, config.memory_bytes
    count = size_workers(config.workers, threads, memory_bytes)
    start_tracker()  # or it starts later, and undoes the scheduler's mask
    stack = ExitStack()
    with signals_later(), closed_on_error(stack), _deaths_told(memory_bytes):
        stack.enter_context(main_hidden())
        stack.enter_context(configured())
        security = temporary_security()
        everywhere = {"host": LOOPBACK, "protocol": "tls://", "security": security}
        cluster = stack.enter_context(
            SpecCluster(
                scheduler={
                    "cls": ClosedScheduler,
                    "options": everywhere | scheduler_options(config.dashboard),
                },
                workers={
                    number: {
                        "cls": PatientNanny,
                        "options": everywhere | worker_options(threads, memory_bytes),
                    }
                    for number in range(count)
                },
                security=security,
                silence_logs=LOG_LEVEL,
            )
        )
        client = stack.enter_context(Client(cluster, security=security))
        link = dashboard_link(cluster.scheduler)
    try:
        yield Workers(client, count, threads, memory_bytes, link)
    finally:
        with signals_later():
            stack.close()


@contextmanager
def _deaths_told(memory_bytes: int) -> Iterator[None]:
    """Say what it means that a nanny has given its worker up."""
    try:
        yield
    except RuntimeError as error:
        raise ResourceError(
            f"a worker of {memory_bytes // 2**20} MiB has ended {MOST_DEATHS} times while it "
            f"was started: {error}",
            "see that the machine has the memory, or give fewer --workers",
        ) from error
