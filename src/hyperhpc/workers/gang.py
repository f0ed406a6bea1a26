"""Workers in one Slurm job: each task of ``srun`` is scheduler, client or worker.

All tasks run the same command. Task 0 becomes the scheduler, task 1 the client, which does
the work of ``hyperhpc run``, and the others become workers: the roles of dask-jobqueue's
``SLURMRunner``. They meet in the folder of :mod:`hyperhpc.workers.connection`, which the
client makes once it has checked everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from hyperhpc.config import RunConfig
from hyperhpc.errors import SlurmError
from hyperhpc.workers import dask_nodes
from hyperhpc.workers.connection import Connection, report_dashboard
from hyperhpc.workers.dask_setup import configure_dask, silence_dask
from hyperhpc.workers.network import LOOPBACK, own_addresses, wait_for_route
from hyperhpc.workers.processes import delay_signals, keep_interrupt_handler
from hyperhpc.workers.sizes import count_gang_workers
from hyperhpc.workers.workers import Note, Workers

if TYPE_CHECKING:
    from distributed import Client

with keep_interrupt_handler():
    from dask_jobqueue.slurm import SLURMRunner


_POLL_INTERVAL_S = 0.2
#: Nodes that start a container at the same time from one file system are slow.
_TIMEOUT_S = 300.0


class GangRunner(SLURMRunner):
    """The roles of dask-jobqueue with our folder, TLS, and no open HTTP."""

    def __init__(self, connection: Connection, config: RunConfig) -> None:
        self.connection, self._interface = connection, config.interface
        self.dashboard: dict[str, str] | None = None
        self._security = connection.security()
        is_secure = self._security.require_encryption
        common = {"protocol": "tls://" if is_secure else "tcp://", "security": self._security}
        super().__init__(
            scheduler_file="unused",  # it would hold one address; ours holds all
            scheduler_options=common | dask_nodes.scheduler_options(config.dashboard),
            worker_class="hyperhpc.workers.dask_nodes.RetryingNanny",
            worker_options=common
            | dask_nodes.worker_options(config.threads_per_worker, config.memory_bytes),
        )

    async def start_scheduler(self) -> None:
        """Run a scheduler until it is closed, as the base class does."""
        hosts = [LOOPBACK, *own_addresses(self._interface)]
        options = {k: v for k, v in self.scheduler_options.items() if k != "scheduler_file"}
        async with dask_nodes.PrivateScheduler(host=hosts, **options) as scheduler:
            self.connection.publish(scheduler)
            await scheduler.finished()

    async def get_scheduler_address(self) -> str:
        """The address by which this node reaches the scheduler."""
        stop = time.monotonic() + _TIMEOUT_S
        while (found := self.connection.read_scheduler()) is None:
            if self.connection.is_over() or time.monotonic() > stop:
                raise SlurmError("The scheduler did not start", "Read the log of the job")
            await asyncio.sleep(_POLL_INTERVAL_S)
        self.dashboard = found["dashboard"]
        address, self._own_host = wait_for_route(found["addresses"], self._security, 30)
        return address

    async def before_worker_start(self) -> None:
        """Listen only on the interface that reaches the scheduler."""
        self.worker_options.pop("scheduler_file", None)
        self.worker_options["scheduler_ip"] = await self.get_scheduler_address()
        self.worker_options["host"] = self._own_host

    async def _close(self) -> None:
        """Do nothing: the base class would end the scheduler without TLS, and hang."""


def run_scheduler_or_worker(config: RunConfig) -> None:
    """Run as scheduler or worker until the client ends it."""
    connection = Connection.of_job(config.out)
    # Slurm sends both signals to all tasks; only the client reacts at once
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    dask_nodes.delay_exit_on_signals()
    silence_dask()
    while not connection.is_created():  # srun ends this task if the client fails
        time.sleep(_POLL_INTERVAL_S)
    if connection.is_over():
        return
    is_secure = bool(connection.security().require_encryption)
    # SLURMRunner ends schedulers and workers with an interrupt
    with configure_dask(is_secure=is_secure), contextlib.suppress(KeyboardInterrupt):
        GangRunner(connection, config)


@contextmanager
def gang_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Connect the client's task to the workers of the other tasks."""
    from distributed import Client

    silence_dask()
    count = count_gang_workers(config)
    with ExitStack() as stack:
        connection = Connection.of_job(config.out)
        stack.callback(connection.end)
        connection.create(is_secure=not config.insecure)
        stack.enter_context(configure_dask(is_secure=not config.insecure))
        runner = GangRunner(connection, config)
        security = connection.security()
        client = stack.enter_context(Client(runner.scheduler_address, security=security))
        stack.callback(_end_scheduler, client)
        started = stack.pop_all()
    workers = Workers(client, count, config.threads_per_worker, config.memory_bytes)
    try:
        if runner.dashboard:
            link, node = runner.dashboard["link"], runner.dashboard["host"]
            report_dashboard(connection, link, node, note)
        _wait_for_workers(workers, note)
        yield workers
    finally:
        with delay_signals():
            started.close()


def _wait_for_workers(workers: Workers, note: Note) -> None:
    """Wait until all are connected, or after a time limit at least one."""
    count = workers.count
    with contextlib.suppress(TimeoutError):
        workers.client.wait_for_workers(count, timeout=_TIMEOUT_S)
    connected, within = workers.count_connected(), f"within {_TIMEOUT_S:.0f} s"
    if not connected:
        raise SlurmError(f"None of {count} workers connected {within}", "Read the log of the job")
    if connected < count:
        note(f"{connected} of {count} workers connected {within}; continuing with them")


def _end_scheduler(client: Client) -> None:
    """End the scheduler, and so the workers."""
    from distributed.comm import CommClosedError

    if client.scheduler is None:  # it is closed because no worker is left: srun ends the tasks
        return
    with contextlib.suppress(CommClosedError, OSError, TimeoutError):
        client.sync(client.scheduler.terminate, callback_timeout=20)
