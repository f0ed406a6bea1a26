"""Workers as Slurm jobs of their own, submitted by dask-jobqueue's ``SLURMCluster``.

Scheduler and client run in one small driver job; each worker is a job that may wait, be
preempted, or die with its node, and is replaced. Work starts with the first worker. The job
script, on the other side of the bridge, handles what differs between clusters.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shlex
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from distributed import Nanny
from distributed.core import RPCClosed
from distributed.deploy.spec import ProcessInterface

from hyperhpc.config import RunConfig
from hyperhpc.errors import SlurmError
from hyperhpc.workers import dask_nodes
from hyperhpc.workers.bridge import Bridge
from hyperhpc.workers.connection import Connection, report_dashboard
from hyperhpc.workers.dask_setup import LOG_LEVEL, configure_dask, silence_dask
from hyperhpc.workers.network import LOOPBACK, own_addresses, wait_for_route
from hyperhpc.workers.processes import delay_signals, keep_interrupt_handler
from hyperhpc.workers.sizes import DEFAULT_WORKERS
from hyperhpc.workers.workers import Note, Workers

with keep_interrupt_handler():
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob

#: Share of the memory of its Slurm job that a worker may use.
_USABLE_SHARE = 0.9
#: The run is given up when so many worker jobs fail one after the other,
_MAX_FAILURES = 3
#: and no worker has been connected for so many seconds.
_STABLE_S = 60.0
_CHECK_INTERVAL_S = 2.0
_UNREGISTER_TIMEOUT_S = 3.0
#: A job that ends in one of these states has not failed.
_NOT_FAILED = {"CANCELLED", "PREEMPTED", "NODE_FAIL", "TIMEOUT", "COMPLETED", "REQUEUED"}
_ACTIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT"}


class WorkerJob(SLURMJob):
    """The Slurm job of one worker, submitted through the bridge."""

    def __init__(self, *args: Any, bridge: Bridge, command: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bridge = bridge
        self.refusal: str | None = None
        # in_image is a shell function of the prologue; dask-jobqueue would not quote the words
        words = [*command, "--name", str(self.name)]
        self._command_template = f"in_image {shlex.join(words)}"

    async def start(self) -> None:
        """Submit the job; :class:`JobMonitor` handles a refusal."""
        try:
            self.job_id = await self._bridge.submit(self.job_script())
        except SlurmError as error:
            self.refusal = error.message
        await ProcessInterface.start(self)

    async def close(self) -> None:
        """Cancel the job."""
        if self.job_id:
            with contextlib.suppress(SlurmError):
                await self._bridge.cancel(self.job_id)


class JobMonitor:
    """Replaces worker jobs that have ended, and reports why they did."""

    def __init__(self, cluster: SLURMCluster, bridge: Bridge, count: int, note: Note) -> None:
        self._cluster, self._bridge, self._count, self._note = cluster, bridge, count, note
        self._failures = 0
        self._up_since: dict[str, float] = {}
        self._task: asyncio.Task | None = None
        #: Why the run cannot continue, else None.
        self.error: SlurmError | None = None

    async def start(self) -> None:
        """Begin to check the jobs."""
        self._task = asyncio.create_task(self._check_repeatedly())

    async def stop(self) -> None:
        """Stop before the cluster is closed, or the closed jobs would be submitted again."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _check_repeatedly(self) -> None:
        while self.error is None:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            try:
                await self._check_jobs()
            except SlurmError as error:  # the bridge is lost: no more workers
                self._give_up(error)

    async def _check_jobs(self) -> None:
        scheduler: Any = self._cluster.scheduler
        connected = {str(worker.name) for worker in scheduler.workers.values()}
        now = time.monotonic()
        self._up_since = {name: self._up_since.get(name, now) for name in connected}
        if any(now - since > _STABLE_S for since in self._up_since.values()):
            self._failures = 0
        for name, job in list(self._cluster.workers.items()):
            if str(name) not in connected:
                await self._check_job(name, job)
        self._cluster.scale(jobs=self._count)  # submits those that are missing

    async def _check_job(self, name: Any, job: WorkerJob) -> None:
        if job.refusal:
            self._drop(name, job.refusal, has_failed=True)
        elif job.job_id:
            known = await self._bridge.read_state(job.job_id)
            state = (known or {}).get("JobState", "RUNNING").partition("+")[0]
            if known and state not in _ACTIVE:
                why = _describe_end(job.job_id, state, known)
                self._drop(name, why, has_failed=state not in _NOT_FAILED)

    def _drop(self, name: Any, why: str, *, has_failed: bool) -> None:
        if self._cluster.workers.pop(name, None) is None:
            return
        # The next job gets another name: Dask closes the job of this name some seconds after
        # the loss, and would cancel the new one
        self._cluster.worker_spec.pop(name, None)
        self._cluster._i += 1  # the next name
        self._note(f"{why}; another is submitted")
        self._failures += has_failed
        if self._failures >= max(_MAX_FAILURES, self._count):
            self._give_up(
                SlurmError(
                    f"{self._failures} workers failed soon after their start; last: {why}",
                    "Read the logs in OUT/slurm; give the workers more memory (MEMORY=...) or "
                    "another partition (WORKER_PARTITION=...)",
                )
            )

    def _give_up(self, error: SlurmError) -> None:
        self.error = error
        os.kill(os.getpid(), signal.SIGUSR1)  # stops the run; elastic_workers raises the error


def _describe_end(job: str, state: str, known: dict[str, str]) -> str:
    status, _, number = known.get("ExitCode", "0:0").partition(":")
    node = known.get("NodeList", "(null)")
    where = "" if node == "(null)" else f" on {node}"
    text = f"worker job {job}{where} ended: {state}"
    if state == "OUT_OF_MEMORY" or number == "9" or status == "137":
        return f"{text}: Slurm killed it for memory (more: MEMORY=...)"
    return f"{text}, exit {status}" if state == "FAILED" else text


@contextmanager
def elastic_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Scheduler and client in this process, and Slurm jobs that are workers."""
    from distributed import Client

    silence_dask()
    bridge = Bridge.find()
    count = config.workers or DEFAULT_WORKERS
    with delay_signals(), ExitStack() as stack:
        connection = Connection.of_job(config.out)
        stack.callback(shutil.rmtree, connection.folder, ignore_errors=True)
        connection.create(is_secure=not config.insecure)
        stack.enter_context(configure_dask(is_secure=not config.insecure))
        cluster = stack.enter_context(_make_cluster(config, bridge, connection))
        connection.publish(cluster.scheduler)
        client = stack.enter_context(Client(cluster, security=connection.security()))
        monitor = JobMonitor(cluster, bridge, count, note)
        cluster.sync(monitor.start)
        stack.callback(cluster.sync, monitor.stop)
        cluster.scale(jobs=count)
        started = stack.pop_all()
    workers = Workers(client, count, config.threads_per_worker, config.memory_bytes, may_queue=True)
    try:
        link = cluster.scheduler.dashboard_link
        node = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
        report_dashboard(connection, link, node, note)
        note(f"waiting for the first of {count} workers")
        client.wait_for_workers(1)
        note(f"the first worker is connected; {count} are wanted")
        yield workers
    except BaseException:
        if monitor.error is not None:
            raise monitor.error from None
        raise
    finally:
        with delay_signals():
            started.close()


def _make_cluster(config: RunConfig, bridge: Bridge, connection: Connection) -> SLURMCluster:
    mib = math.ceil(config.memory_bytes / _USABLE_SHARE / 2**20)
    command = ["hyperhpc", "worker", str(connection.folder)]
    command += ["--threads", str(config.threads_per_worker)]
    command += ["--memory", str(config.memory_bytes)]
    return SLURMCluster(
        job_cls=WorkerJob,  # type: ignore[arg-type]
        bridge=bridge,
        command=command,
        cores=config.threads_per_worker,
        processes=1,
        memory=f"{mib}MiB",
        job_mem=f"{mib}M",
        job_name="hyperhpc-worker",
        job_script_prologue=[bridge.read_prologue()],
        # the host's sbatch gets partition, account, time and log as options
        job_directives_skip=["-p ", "-A ", "-t "],
        job_extra_directives=[],
        worker_extra_args=[],
        shebang="#!/usr/bin/env bash",
        python="python",
        scheduler_cls=dask_nodes.PrivateScheduler,
        scheduler_options={"host": [LOOPBACK, *own_addresses(config.interface)]}
        | dask_nodes.scheduler_options(config.dashboard),
        security=connection.security(),
        protocol="tcp://" if config.insecure else "tls://",
        silence_logs=LOG_LEVEL,
    )


def run_elastic_worker(folder: Path, name: str, threads: int, memory_bytes: int) -> None:
    """Run as one worker of an elastic run, in a job of its own, until the run ends.

    ``folder``: The connection folder of the run.

    Raises SlurmError: if the run has ended, or its scheduler cannot be reached.
    """
    silence_dask()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is for the client
    connection = Connection(folder)
    scheduler = connection.read_scheduler() if folder.is_dir() else None
    if scheduler is None:
        raise SlurmError(f"The run of {folder} has ended", "There is nothing to do")
    security = connection.security()
    is_secure = bool(security.require_encryption)
    address, own = wait_for_route(scheduler["addresses"], security, 60)

    async def serve() -> None:
        options = dask_nodes.worker_options(threads, memory_bytes) | {"death_timeout": 300}
        protocol = "tls://" if is_secure else "tcp://"
        is_terminated = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_terminated.set)
        async with dask_nodes.RetryingNanny(
            address, name=name, host=own, protocol=protocol, security=security, **options
        ) as nanny:
            waits = (nanny.finished(), is_terminated.wait())
            ends = {asyncio.create_task(wait) for wait in waits}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if is_terminated.is_set():
                await _unregister(nanny)
            for end in ends:
                end.cancel()

    with configure_dask(is_secure=is_secure):
        asyncio.run(serve())


async def _unregister(nanny: Nanny) -> None:
    """Let Dask not count a worker that Slurm preempts or cancels as killed by its task.

    It counts the workers that died with a task, and would give up a long one after three.
    """
    with contextlib.suppress(asyncio.TimeoutError, OSError, RPCClosed):
        await asyncio.wait_for(
            nanny.scheduler.unregister(
                address=nanny.worker_address, expected=True, stimulus_id="worker-sigterm"
            ),
            _UNREGISTER_TIMEOUT_S,
        )
