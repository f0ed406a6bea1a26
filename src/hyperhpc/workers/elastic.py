"""Workers as Slurm jobs of their own, submitted by dask-jobqueue's ``SLURMCluster``.

Scheduler and client live in one small driver job; each worker is a job that may wait, be
preempted, or die with its node, and is replaced. Work starts with the first that is up.
What differs between clusters is the job script's affair, on the other side of the bridge.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from distributed.deploy.spec import ProcessInterface

from hyperhpc.config import RunConfig
from hyperhpc.errors import SlurmError
from hyperhpc.workers.bridge import Bridge
from hyperhpc.workers.connection import Connection
from hyperhpc.workers.dask_setup import ClosedScheduler, dashboard_link, scheduler_options
from hyperhpc.workers.gang import note_dashboard, publish_scheduler
from hyperhpc.workers.network import LOOPBACK, own_addresses
from hyperhpc.workers.processes import closed_on_error, interrupts_kept, signals_later
from hyperhpc.workers.settings import LOG_LEVEL, configured, silence_dask
from hyperhpc.workers.sizes import DEFAULT_WORKERS
from hyperhpc.workers.workers import Note, Workers

with interrupts_kept():
    from dask_jobqueue.slurm import SLURMCluster, SLURMJob

#: What Slurm gives a worker over what the worker may use.
HEADROOM = 0.9
#: Worker jobs that may fail one after the other before we give up,
_MAX_FAILURES = 3
#: unless a worker has lived so long, in seconds.
_OLD_S = 60.0
_LOOK_S = 2.0
#: Ends that are Slurm's business, and no fault of the worker.
_NO_FAULT = {"CANCELLED", "PREEMPTED", "NODE_FAIL", "TIMEOUT", "COMPLETED", "REQUEUED"}
_ALIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "STAGE_OUT"}


class WorkerJob(SLURMJob):
    """One worker's job: our command in the image, submitted over the bridge."""

    def __init__(self, *args: Any, bridge: Bridge, command: list[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bridge = bridge
        self.refusal: str | None = None
        # quoted, unlike dask-jobqueue's own; in_image is a function of the prologue
        words = [*command, "--name", str(self.name)]
        self._command_template = f"in_image {shlex.join(words)}"

    async def start(self) -> None:
        """Submit the job; a refusal is kept for the watch, which retries or gives up."""
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


class Watch:
    """Replaces worker jobs that were lost, and says why they were."""

    def __init__(self, cluster: SLURMCluster, bridge: Bridge, count: int, note: Note) -> None:
        self._cluster, self._bridge, self._count, self._note = cluster, bridge, count, note
        self._failures = 0
        self._up_since: dict[str, float] = {}
        #: Why the run cannot go on, if it cannot.
        self.error: SlurmError | None = None

    async def keep(self) -> None:
        """Look at the jobs again and again, until cancelled."""
        while self.error is None:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._look()
            except SlurmError as error:  # the bridge is gone: no more workers
                self._give_up(error)

    async def _look(self) -> None:
        scheduler: Any = self._cluster.scheduler
        connected = {str(worker.name) for worker in scheduler.workers.values()}
        now = time.monotonic()
        self._up_since = {name: self._up_since.get(name, now) for name in connected}
        if any(now - since > _OLD_S for since in self._up_since.values()):
            self._failures = 0
        for name, job in list(self._cluster.workers.items()):
            if str(name) not in connected:
                await self._look_at(name, job)
        self._cluster.scale(jobs=self._count)  # opens those that are missing

    async def _look_at(self, name: Any, job: WorkerJob) -> None:
        if job.refusal:
            self._drop(name, job.refusal, is_fault=True)
        elif job.job_id:
            known = await self._bridge.state(job.job_id)
            state = (known or {}).get("JobState", "RUNNING").partition("+")[0]
            if known and state not in _ALIVE:
                self._drop(
                    name, _describe_end(job.job_id, state, known), state not in _NO_FAULT
                )

    def _drop(self, name: Any, why: str, is_fault: bool) -> None:
        if self._cluster.workers.pop(name, None) is None:
            return
        # The next gets another name. Dask closes what has this one some seconds after the loss,
        # and would cancel a job that waits in the queue in its place
        self._cluster.worker_spec.pop(name, None)
        self._cluster._i += 1  # of which it makes the name
        self._note(f"{why}; another is submitted")
        self._failures += is_fault
        if self._failures >= max(_MAX_FAILURES, self._count):
            self._give_up(
                SlurmError(
                    f"{self._failures} workers failed soon after their start; the last: {why}",
                    "see the logs in OUT/slurm; give the workers more memory (MEMORY=...) or "
                    "another partition (WORKER_PARTITION=...)",
                )
            )

    def _give_up(self, error: SlurmError) -> None:
        self.error = error
        os.kill(os.getpid(), signal.SIGUSR1)  # stops the run; elastic_workers says why


def _describe_end(job: str, state: str, known: dict[str, str]) -> str:
    status, _, number = known.get("ExitCode", "0:0").partition(":")
    where = f" on {known['NodeList']}" if known.get("NodeList", "(null)") != "(null)" else ""
    text = f"worker job {job}{where} ended: {state}"
    if state == "OUT_OF_MEMORY" or number == "9" or status == "137":
        return f"{text}: Slurm killed it for memory (more: MEMORY=...)"
    return f"{text}, exit {status}" if state == "FAILED" else text


@contextmanager
def elastic_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Scheduler and client here, and jobs that are workers."""
    from distributed import Client

    silence_dask()
    bridge = Bridge.opened()
    count = config.workers or DEFAULT_WORKERS
    stack = ExitStack()
    with signals_later(), closed_on_error(stack):
        connection = Connection.of_job(config.out)
        stack.callback(connection.remove)
        connection.create(is_secure=not config.insecure)
        stack.enter_context(configured(is_secure=not config.insecure))
        cluster = stack.enter_context(_cluster(config, bridge, connection))
        publish_scheduler(connection, cluster.scheduler)
        client = stack.enter_context(Client(cluster, security=connection.security()))
        watch = Watch(cluster, bridge, count, note)
        stack.callback(_stop_watch, cluster, _start_watch(cluster, watch))
        cluster.scale(jobs=count)
    workers = Workers(
        client, count, config.threads_per_worker, config.memory_bytes, may_wait=True
    )
    try:
        link = dashboard_link(cluster.scheduler)
        host = os.environ.get("SLURMD_NODENAME") or os.uname().nodename
        note_dashboard(connection, link and {"link": link, "host": host}, note)
        note(f"waiting for the first of {count} workers")
        client.wait_for_workers(1)
        note(f"workers are coming; {count} are wanted")
        yield workers
    except BaseException:
        if watch.error is not None:
            raise watch.error from None
        raise
    finally:
        with signals_later():
            stack.close()


def _cluster(config: RunConfig, bridge: Bridge, connection: Connection) -> SLURMCluster:
    mib = math.ceil(config.memory_bytes / HEADROOM / 2**20)
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
        job_script_prologue=[bridge.prologue()],
        # partition, account, time and log are options of the host's sbatch
        job_directives_skip=["-p ", "-A ", "-t "],
        job_extra_directives=[],
        worker_extra_args=[],
        shebang="#!/usr/bin/env bash",
        python="python",
        scheduler_cls=ClosedScheduler,
        scheduler_options={"host": [LOOPBACK, *own_addresses(config.interface)]}
        | scheduler_options(config.dashboard),
        security=connection.security(),
        protocol="tcp://" if config.insecure else "tls://",
        silence_logs=LOG_LEVEL,
    )


def _start_watch(cluster: SLURMCluster, watch: Watch) -> asyncio.Task:
    async def start() -> asyncio.Task:
        return asyncio.create_task(watch.keep())

    return cluster.sync(start)


def _stop_watch(cluster: SLURMCluster, task: asyncio.Task) -> None:
    """Before the cluster is closed: what it closes must not be opened again."""

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    cluster.sync(stop)
