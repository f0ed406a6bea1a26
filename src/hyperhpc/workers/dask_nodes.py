"""Dask's scheduler, worker and nanny without the HTTP servers they would open.

Those servers are plain HTTP, and on a shared machine other users reach the loopback address.
Workers get none. The scheduler gets one only for a dashboard, and it answers nothing outside
a secret prefix: Dask's own would redirect ``/`` to the secret and list it in
``/sitemap.json``.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import secrets
import signal
import threading
from typing import Any

from distributed import Nanny, Scheduler, SpecCluster, Worker
from distributed.comm import CommClosedError
from distributed.core import Status
from distributed.scheduler import TaskState, WorkerState

from hyperhpc.environment import TERMINATIONS
from hyperhpc.workers.dask_setup import LOG_LEVEL, MAX_WORKER_DEATHS, silence_dask
from hyperhpc.workers.network import LOOPBACK
from hyperhpc.workers.private_http import guard

#: After one of TERMINATIONS, a worker waits this many seconds for its client to end it in order.
GRACE_S = 3.0
_KILL_INTERVAL_S = 0.1
_STOP_SIGNALS = {signal.SIGINT, signal.SIGUSR1, *TERMINATIONS}


class PrivateWorker(Worker):
    """A worker without HTTP, which the process that started it ends.

    Terminals and Slurm signal all processes at once; the worker would end with a traceback.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            delay_exit_on_signals()
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is for the client
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINATIONS)
            # Locks that libraries make when imported then have no name, see dask_setup
            multiprocessing.set_start_method("fork", force=True)
            silence_dask()
        super().__init__(*args, **kwargs)

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Start none."""


class RetryingNanny(Nanny):
    """A nanny that replaces a worker also if it dies before it has connected.

    ``gives_up``: True once there is no scheduler to connect to.
    """

    gives_up = False

    async def instantiate(self) -> Status:
        """Start the worker, at most :data:`MAX_WORKER_DEATHS` times."""
        status = await super().instantiate()
        tries = 1
        # once a worker has connected, Dask itself starts it again after its end
        while self.status == Status.init and status != Status.running and not self.gives_up:
            if tries == MAX_WORKER_DEATHS:
                break
            status = await super().instantiate()
            tries += 1
        return status


class WatchedCluster(SpecCluster):
    """A cluster that gives up if its scheduler ends while workers start.

    The workers would try to connect for ever, and Dask would wait for them.
    """

    async def _correct_state_internal(self) -> None:
        watch = asyncio.ensure_future(self._end_workers_with_scheduler())
        try:
            await super()._correct_state_internal()
        except Exception:
            if self.scheduler is None or self.scheduler.status == Status.closed:
                raise CommClosedError("the scheduler ended while workers were started") from None
            raise
        finally:
            watch.cancel()

    async def _end_workers_with_scheduler(self) -> None:
        assert self.scheduler is not None
        await self.scheduler.finished()
        while True:  # a nanny may be about to start its worker
            for nanny in self._created:
                nanny.gives_up = True
                if pid := nanny.pid:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(_KILL_INTERVAL_S)


def delay_exit_on_signals() -> None:
    """Give the client :data:`GRACE_S` after a signal to end this process in order."""
    for number in TERMINATIONS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _exit_after_grace)


def _exit_after_grace(number: int, frame: object) -> None:
    timer = threading.Timer(GRACE_S, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


class PrivateScheduler(Scheduler):
    """A scheduler whose HTTP server, if it has one, answers under a secret prefix only."""

    def __init__(self, *args: Any, http_prefix: str | None = None, **kwargs: Any) -> None:
        # Worker processes are started from this thread and inherit its mask: while they
        # import, a signal would end them with a traceback
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        self.secret = (http_prefix or "").strip("/")
        super().__init__(*args, http_prefix=http_prefix, dashboard=bool(self.secret), **kwargs)

    @property
    def dashboard_link(self) -> str | None:
        """Address of the dashboard on the scheduler's own machine; None without one."""
        if not self.secret:
            return None
        port = self.http_server.port  # type: ignore[attr-defined]
        return f"http://{LOOPBACK}:{port}/{self.secret}/status"

    def valid_workers(self, ts: TaskState) -> set[WorkerState] | None:
        """None, which means any, for a task that only preferred a worker that is gone.

        Dask does the same, but not for tasks that waited while no worker was connected: they
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
        guard(self.http_application, self.secret)


def scheduler_options(has_dashboard: bool) -> dict[str, Any]:
    """Options of a :class:`PrivateScheduler`: any free port, a dashboard if wanted."""
    return {
        "port": 0,
        "dashboard_address": f"{LOOPBACK}:0" if has_dashboard else None,
        "http_prefix": f"/{secrets.token_urlsafe(16)}" if has_dashboard else None,
    }


def worker_options(threads: int, memory_bytes: int) -> dict[str, Any]:
    """Options of a :class:`RetryingNanny` that watches a :class:`PrivateWorker`."""
    return {
        "worker_class": PrivateWorker,
        "nthreads": threads,
        "memory_limit": memory_bytes,
        "dashboard": False,
        "silence_logs": LOG_LEVEL,
    }
