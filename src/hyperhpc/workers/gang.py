"""Workers in one Slurm allocation: each task of ``srun`` is scheduler, client or worker.

All tasks run the same command. Task 0 becomes the scheduler, task 1 the client, which does
all that ``hyperhpc run`` does, and the others become workers: the roles of dask-jobqueue's
``SLURMRunner``. They meet in the folder of :mod:`hyperhpc.workers.connection`, which the
client makes once it has checked everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import Nanny
from distributed.core import RPCClosed

from hyperhpc.config import RunConfig
from hyperhpc.errors import SlurmError
from hyperhpc.workers.connection import Connection
from hyperhpc.workers.dask_setup import (
    ClosedScheduler,
    closed_on_error,
    configured,
    dashboard_link,
    exit_later_on_sigterm,
    interrupts_kept,
    scheduler_options,
    signals_later,
    silence_dask,
    worker_options,
)
from hyperhpc.workers.network import LOOPBACK, own_addresses, tunnel_to, wait_for_way
from hyperhpc.workers.workers import Note, Workers, size_gang

if TYPE_CHECKING:
    from distributed import Client, Scheduler

with interrupts_kept():
    from dask_jobqueue.slurm import SLURMRunner


_POLL_S = 0.2
#: Nodes that start a container at the same time from one file system are slow.
_PATIENCE_S = 300.0


class GangRunner(SLURMRunner):
    """dask-jobqueue's roles, meeting in our folder, over TLS, without open HTTP."""

    def __init__(self, connection: Connection, config: RunConfig) -> None:
        self.connection, self._interface = connection, config.interface
        self.dashboard: str | None = None
        self._security = connection.security()
        is_secure = self._security.require_encryption
        everywhere = {
            "protocol": "tls://" if is_secure else "tcp://",
            "security": self._security,
        }
        super().__init__(
            scheduler_file="unused",  # it would hold one address; ours holds all
            scheduler_options=everywhere | scheduler_options(config.dashboard),
            worker_class="hyperhpc.workers.dask_setup.PatientNanny",
            worker_options=everywhere
            | worker_options(config.threads_per_worker, config.memory_bytes),
        )

    async def start_scheduler(self) -> None:
        """As the base class does, with our scheduler."""
        hosts = [LOOPBACK, *own_addresses(self._interface)]
        options = {k: v for k, v in self.scheduler_options.items() if k != "scheduler_file"}
        async with ClosedScheduler(host=hosts, **options) as scheduler:
            await self.set_scheduler_address(scheduler)
            await scheduler.finished()

    async def set_scheduler_address(self, scheduler: Scheduler) -> None:
        """Publish all addresses but loopback, which leads elsewhere on other nodes."""
        publish_scheduler(self.connection, scheduler)

    async def get_scheduler_address(self) -> str:
        """The address by which this node reaches the scheduler."""
        stop = time.monotonic() + _PATIENCE_S
        while (found := self.connection.scheduler()) is None:
            if self.connection.is_over() or time.monotonic() > stop:
                raise SlurmError("the scheduler's task did not start", "see the job's log")
            await asyncio.sleep(_POLL_S)
        self.dashboard = found["dashboard"]
        address, self._own = wait_for_way(found["addresses"], self._security, 30)
        return address

    async def before_worker_start(self) -> None:
        """Listen where the scheduler is reached from, on no other interface."""
        self.worker_options.pop("scheduler_file", None)
        self.worker_options["scheduler_ip"] = await self.get_scheduler_address()
        self.worker_options["host"] = self._own

    async def _close(self) -> None:
        """The base class would end the scheduler without TLS, and hang."""


def publish_scheduler(connection: Connection, scheduler: Any) -> None:
    """Write where the scheduler listens, for all who have a part in the key."""
    addresses = [listener.contact_address for listener in scheduler.listeners]
    link = dashboard_link(scheduler)
    connection.publish(
        {
            "addresses": [a for a in addresses if LOOPBACK not in a] or addresses,
            "dashboard": link and {"link": link, "host": socket.gethostname()},
        }
    )


def serve_task(config: RunConfig) -> None:
    """Be scheduler or worker until the client's task ends it."""
    connection = Connection.of_job(config.out)
    # both are for the client; Slurm tells all tasks
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    exit_later_on_sigterm()
    silence_dask()
    while not connection.is_there():  # srun ends this task if the client fails
        time.sleep(_POLL_S)
    if connection.is_over():
        return
    is_secure = bool(connection.security().require_encryption)
    # SLURMRunner ends a scheduler and a worker by an interrupt
    with configured(is_secure=is_secure), contextlib.suppress(KeyboardInterrupt):
        GangRunner(connection, config)


@contextmanager
def gang_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """In the client's task: the workers of the other tasks."""
    from distributed import Client

    silence_dask()
    count = size_gang(config)
    stack = ExitStack()
    with closed_on_error(stack):
        connection = Connection.of_job(config.out)
        stack.callback(connection.end)
        connection.create(is_secure=not config.insecure)
        stack.enter_context(configured(is_secure=not config.insecure))
        runner = GangRunner(connection, config)
        security = connection.security()
        client = stack.enter_context(Client(runner.scheduler_address, security=security))
        stack.callback(_end, client)
    workers = Workers(client, count, config.threads_per_worker, config.memory_bytes)
    try:
        note_dashboard(connection, runner.dashboard, note)
        wait_for_workers(workers, count, note)
        yield workers
    finally:
        with signals_later():
            stack.close()


def wait_for_workers(workers: Workers, count: int, note: Note) -> None:
    """Until so many are connected; fewer will do after a while, but not none.

    Raises
    ------
    SlurmError
        If none comes.
    """
    with contextlib.suppress(TimeoutError):
        workers.client.wait_for_workers(count, timeout=_PATIENCE_S)
    up = workers.up()
    if not up:
        raise SlurmError(
            f"none of {count} workers came within {_PATIENCE_S:.0f} s", "see the job's log"
        )
    if up < count:
        note(f"{up} of {count} workers came within {_PATIENCE_S:.0f} s; going on with them")


def note_dashboard(connection: Connection, dashboard: Any, note: Note) -> None:
    """Say how to reach a dashboard that is on the loopback of a node.

    Others may read the log, and may be on that node: so it does not hold the secret.
    """
    if not dashboard:
        return
    link, node = dashboard["link"], dashboard["host"]
    port = link.split(":")[2].partition("/")[0]
    note(f"dashboard: on your own machine: {tunnel_to(int(port), node)}")
    note(f"  its address: cat {shlex.quote(str(connection.keep_dashboard(link)))}")


def _end(client: Client) -> None:
    """End the scheduler, which ends the workers."""
    from distributed.comm import CommClosedError

    if client.scheduler is None:  # closed, because no worker is left: srun ends the tasks
        return
    with contextlib.suppress(CommClosedError, OSError, TimeoutError):
        client.sync(client.scheduler.terminate, callback_timeout=20)


# One worker of an elastic run: what runs in a worker's job.

_GOODBYE_S = 3.0


def serve_worker(folder: Path, name: str, threads: int, memory_bytes: int) -> None:
    """Be one worker of the run whose connection is in this folder, until it ends.

    Raises
    ------
    SlurmError
        If there is no such run any more, or its scheduler cannot be reached.
    """
    from hyperhpc.workers.dask_setup import PatientNanny, worker_options

    silence_dask()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is for the client
    connection = Connection(folder)
    scheduler = connection.scheduler() if folder.is_dir() else None
    if scheduler is None:
        raise SlurmError(f"{folder} leads to no run: its driver has ended", "nothing to do")
    security = connection.security()
    is_secure = bool(security.require_encryption)
    address, own = wait_for_way(scheduler["addresses"], security, 60)

    async def serve() -> None:
        options = worker_options(threads, memory_bytes) | {"death_timeout": 300}
        protocol = "tls://" if is_secure else "tcp://"
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        async with PatientNanny(
            address, name=name, host=own, protocol=protocol, security=security, **options
        ) as nanny:
            ends = {asyncio.create_task(nanny.finished()), asyncio.create_task(told.wait())}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if told.is_set():
                await _say_goodbye(nanny)
            for end in ends:
                end.cancel()

    with configured(is_secure=is_secure):
        asyncio.run(serve())


async def _say_goodbye(nanny: Nanny) -> None:
    """That Slurm preempts or cancels a worker is no fault of its tasks.

    Dask counts the workers that died of a task, and would give a long one up after three.
    """
    with contextlib.suppress(asyncio.TimeoutError, OSError, RPCClosed):
        await asyncio.wait_for(
            nanny.scheduler.unregister(
                address=nanny.worker_address, expected=True, stimulus_id="worker-sigterm"
            ),
            _GOODBYE_S,
        )
