"""Dask's scheduler and workers without the HTTP servers they would open.

Those servers are plain HTTP, and on a shared machine loopback is not private. Workers
get none. The scheduler gets one only for a dashboard, and it answers nothing outside a
secret prefix: left to itself it would redirect ``/`` to the secret, and list it in
``/sitemap.json``.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from pathlib import Path
from queue import Empty
from types import FrameType
from typing import Any

from distributed import Nanny, Scheduler, Worker
from distributed.core import Status
from distributed.scheduler import TaskState, WorkerState
from tornado.web import ErrorHandler

from hyperhpc.workers.network import LOOPBACK

# What worker processes need of the process that starts them.


@contextmanager
def silent(logger: logging.Logger) -> Iterator[None]:
    """Let a logger say nothing for a while."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def closed_on_error(stack: ExitStack) -> Iterator[None]:
    """Undo what was begun if the rest of it fails."""
    try:
        yield
    except BaseException:
        stack.close()
        raise


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Undo what importing dask_jobqueue does: Ctrl-C would exit with status 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def start_tracker() -> None:
    """Start multiprocessing's tracker so that it does not die of a signal for the client."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keep new processes from importing the user's script.

    Python does so for functions defined there; workers run ours only. A script that calls
    ``hyperhpc.run`` outside ``if __name__ == "__main__"`` would call it again in each.
    """
    main: dict[str, Any] = sys.modules["__main__"].__dict__
    names = ("__file__", "__spec__")
    hidden: dict[str, Any] = {name: main[name] for name in names if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


@contextmanager
def signals_later() -> Iterator[None]:
    """Hold back an interrupt while workers start or stop, which must not be cut in two.

    It takes seconds at most. A second signal is not held back, nor is one that comes while
    they stop because of an earlier one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {}
    error = sys.exception()
    is_stopping = error is not None and not isinstance(error, Exception)

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if (is_stopping or len(came) > 1) and callable(before[number]):
            before[number](number, frame)

    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        before[number] = signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])


# Nanny and worker talk over pipes: nothing with a name, which a killed process would leave.
#
# multiprocessing's own queues hold semaphores that are files in /dev/shm until somebody
# removes them. Its tracker does, but whatever kills a job as a whole kills that as well.

#: By this name Dask's configuration finds :class:`PipeContext`.
METHOD = "hyperhpc"


class PipeQueue:
    """As much of a queue as a nanny needs: short messages, one reader at a time."""

    def __init__(self, reader: Connection, writer: Connection) -> None:
        self._reader, self._writer = reader, writer
        self._is_closed = False

    def put(self, message: Any) -> None:
        """Send; a message of less than 4 KiB goes as a whole or not at all."""
        if self._is_closed:
            raise ValueError("the queue is closed")
        self._writer.send(message)

    def get(self) -> Any:
        """Wait for a message."""
        return self._reader.recv()

    def get_nowait(self) -> Any:
        """A message that is there, else ``queue.Empty``."""
        if not self._reader.poll():
            raise Empty
        return self.get()

    def close(self) -> None:
        """Send no more. Who reads may still wait, so the pipe stays open."""
        self._is_closed = True

    def join_thread(self) -> None:
        """Nothing is on its way: there is no thread that sends."""


class PipeContext(SpawnContext):
    """Processes that are spawned, and queues that are pipes."""

    def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """As multiprocessing calls it."""
        return PipeQueue(*self.Pipe(duplex=False))


context._concrete_contexts[METHOD] = PipeContext()  # type: ignore[attr-defined]

# A folder of our own in TMPDIR, which does not stay there for ever if we are killed.
#
# Its owner holds a lock on a file in it, which the kernel lets go of when the owner dies.
# So the next run on this machine, of whatever OUT, knows what is nobody's any more.

_PREFIX, _HELD = "hyperhpc-", ".held"


@contextmanager
def scratch_folder() -> Iterator[str]:
    """Make a folder only its owner can read; remove it at the end, and what the dead left."""
    remove_abandoned()
    folder, held = _make()
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def _make() -> tuple[Path, int]:
    """The folder, and the open file that holds it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        held = os.open(folder / _HELD, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # a file system without locks: nobody removes it
            fcntl.flock(held, fcntl.LOCK_EX)
        if folder.exists():
            return folder, held
        os.close(held)  # taken for abandoned before we held it


def remove_abandoned() -> None:
    """Remove the folders of this user that no process holds any more."""
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/{_HELD}"):
        with contextlib.suppress(OSError):
            held = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                if os.fstat(held).st_uid == os.getuid():
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path.parent, ignore_errors=True)
            finally:
                os.close(held)


# Dask's configuration for a run of ours, wherever its workers are.

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


#: Seconds a worker that was told to terminate waits for its client to end it in order.
GRACE_S = 3.0
_STOPS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}


class ClosedWorker(Worker):
    """A worker without HTTP, which leaves its end to the process that started it.

    Terminals and Slurm signal all processes at once; workers would die untidily.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            exit_later_on_sigterm()
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is for the client
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            # Locks that libraries make at their import have no name then, see pipes.py
            multiprocessing.set_start_method("fork", force=True)
            silence_dask()
        super().__init__(*args, **kwargs)

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Start none."""


class PatientNanny(Nanny):
    """A nanny that replaces a worker also if it dies before it was up for the first time."""

    async def instantiate(self) -> Status:
        """Start the worker; a few times, if it does not live to tell."""
        status = await super().instantiate()
        tries = 1
        # later on it is the worker's end that lets the nanny start it again
        while self.status == Status.init and status != Status.running and tries < MOST_DEATHS:
            status = await super().instantiate()
            tries += 1
        return status


def exit_later_on_sigterm() -> None:
    """Give the client the time to end this process in order."""
    signal.signal(signal.SIGTERM, _exit_later)


def _exit_later(number: int, frame: object) -> None:
    timer = threading.Timer(GRACE_S, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


class ClosedScheduler(Scheduler):
    """A scheduler whose HTTP server, if it has one, is found by its prefix only."""

    def __init__(self, *args: Any, http_prefix: str | None = None, **kwargs: Any) -> None:
        # The processes of the workers are started from this thread, and inherit its mask:
        # while they import, a signal would end them with a traceback
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        self.secret = (http_prefix or "").strip("/")
        super().__init__(*args, http_prefix=http_prefix, dashboard=bool(self.secret), **kwargs)

    def valid_workers(self, ts: TaskState) -> set[WorkerState] | None:
        """None, which is any, for a task whose worker is gone, if it only preferred it.

        Dask does so as well, but not for tasks that waited while no worker was up: they
        would wait for ever.
        """
        found = super().valid_workers(ts)
        return found if found or not ts.loose_restrictions else None

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Start one only if there is a secret, and close all other paths.

        Runs on the event loop, so no request is answered before the paths are closed.
        """
        if not self.secret:
            return
        super().start_http_server(*args, **kwargs)
        application = self.http_application
        find = application.find_handler

        def find_handler(request: Any, **kwargs: Any) -> Any:
            first = request.path.split("/")[1:2]
            if first and secrets.compare_digest(first[0].encode(), self.secret.encode()):
                return find(request, **kwargs)
            return application.get_handler_delegate(request, ErrorHandler, {"status_code": 404})

        application.find_handler = find_handler  # type: ignore[method-assign]


def scheduler_options(is_shown: bool) -> dict[str, Any]:
    """Options of a :class:`ClosedScheduler`: any port, and a dashboard only if asked for."""
    return {
        "port": 0,
        "dashboard_address": f"{LOOPBACK}:0" if is_shown else None,
        "http_prefix": f"/{secrets.token_urlsafe(16)}" if is_shown else None,
    }


def worker_options(threads: int, memory_bytes: int) -> dict[str, Any]:
    """Options of a :class:`PatientNanny` that looks after a :class:`ClosedWorker`."""
    return {
        "worker_class": ClosedWorker,
        "nthreads": threads,
        "memory_limit": memory_bytes,
        "dashboard": False,
        "silence_logs": LOG_LEVEL,
    }


def dashboard_link(scheduler: Any) -> str | None:
    """Address of the dashboard on the scheduler's own machine; None without one."""
    if not scheduler.secret:
        return None
    return f"http://{LOOPBACK}:{scheduler.http_server.port}/{scheduler.secret}/status"
