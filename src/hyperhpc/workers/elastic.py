"""Workers as Slurm jobs of their own, submitted by dask-jobqueue's ``SLURMCluster``.

Scheduler and client live in one small driver job; each worker is a job that may wait, be
preempted, or die with its node, and is replaced. Work starts with the first that is up.
What differs between clusters is the job script's affair, on the other side of the bridge.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import math
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distributed.deploy.spec import ProcessInterface

from hyperhpc.config import RunConfig
from hyperhpc.errors import SlurmError
from hyperhpc.workers.connection import Connection
from hyperhpc.workers.dask_setup import (
    LOG_LEVEL,
    ClosedScheduler,
    closed_on_error,
    configured,
    dashboard_link,
    interrupts_kept,
    scheduler_options,
    signals_later,
    silence_dask,
)
from hyperhpc.workers.gang import note_dashboard, publish_scheduler
from hyperhpc.workers.network import LOOPBACK, own_addresses
from hyperhpc.workers.workers import DEFAULT_WORKERS, Note, Workers

# The bridge: from inside a container to sbatch and scancel of the host.
#
# The job script opens it (jobs/elastic.sbatch): a folder of mode 0700 on the node's own disk
# with a FIFO, ``requests``, that a loop on the host reads. A request is one line, ``ID VERB
# [JOB]``; its answer is ``ID.out``, whole once ``ID.rc`` is there. So the image needs no Slurm
# of the host's kind, and nothing of the host's has to be shown in it.

_POLL_S = 0.1
#: A controller that is restarted answers again after a while.
_PATIENCE_S = 300.0
_GONE = "the job script's end of the bridge to Slurm is gone"


@dataclass
class Bridge:
    """This process's end of the bridge."""

    folder: Path
    _numbers: itertools.count = field(default_factory=lambda: itertools.count(1))

    @classmethod
    def opened(cls) -> Bridge:
        """The bridge that the job script has opened for this process.

        Raises
        ------
        SlurmError
            If there is none.
        """
        folder = os.environ.get("HYPERHPC_BRIDGE")
        if not folder or not (Path(folder) / "requests").is_fifo():
            raise SlurmError(
                "--launcher elastic needs the bridge to Slurm that its job script opens; "
                + (f"{folder} is none" if folder else "HYPERHPC_BRIDGE is not set"),
                "submit one: jobs/submit.sh MODE=elastic SITE=NAME SCENE=PATH OUT=PATH",
            )
        return cls(Path(folder))

    def prologue(self) -> str:
        """What a worker's job script begins with: the settings and functions of the site."""
        return (self.folder / "prologue.sh").read_text("utf-8")

    async def submit(self, script: str) -> str:
        """Submit a job and return its number.

        Raises
        ------
        SlurmError
            With what sbatch said.
        """
        number = next(self._numbers)
        (self.folder / f"{number}.sh").write_text(script, "utf-8")
        status, said = await self._ask(number, "submit")
        job = said.strip().splitlines()[-1].partition(";")[0] if said.strip() else ""
        if status != 0 or not job.isdecimal():
            raise SlurmError(f"Slurm refused a worker's job: {' '.join(said.split())}")
        return job

    async def cancel(self, job: str) -> None:
        """Cancel a job; one that is gone already is no error."""
        await self._ask(next(self._numbers), "cancel", job)

    async def state(self, job: str) -> dict[str, str] | None:
        """What Slurm knows of a job, as ``scontrol show job`` names it.

        ``JobState`` is ``GONE`` for a job it has forgotten. None if it does not answer.
        """
        status, said = await self._ask(next(self._numbers), "state", job)
        if status != 0:
            return None
        return dict(word.split("=", 1) for word in said.split() if "=" in word)

    async def _ask(self, number: int, *words: str) -> tuple[int, str]:
        """Exit status and output of what the host did."""
        self._write(" ".join((str(number), *words)) + "\n")
        answer = self.folder / f"{number}.rc"
        for _ in range(int(_PATIENCE_S / _POLL_S)):
            if answer.exists():
                said = (self.folder / f"{number}.out").read_text("utf-8", "replace")
                return int(answer.read_text("ascii")), said
            await asyncio.sleep(_POLL_S)
        raise SlurmError(f"Slurm did not answer for {_PATIENCE_S:.0f} s ({' '.join(words)})")

    def _write(self, line: str) -> None:
        """Write one line at once: a FIFO takes so little whole."""
        try:
            number = os.open(self.folder / "requests", os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:  # ENXIO: nobody reads it
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise
            raise SlurmError(_GONE) from None
        try:
            os.write(number, line.encode("ascii"))
        except BrokenPipeError:
            raise SlurmError(_GONE) from None
        finally:
            os.close(number)


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
