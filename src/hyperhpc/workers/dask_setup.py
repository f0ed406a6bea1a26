"""Dask's scheduler and workers without the HTTP servers they would open.

Those servers are plain HTTP, and on a shared machine loopback is not private. Workers
get none. The scheduler gets one only for a dashboard, and it answers nothing outside a
secret prefix: left to itself it would redirect ``/`` to the secret, and list it in
``/sitemap.json``.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import threading
from typing import Any

from distributed import Nanny, Scheduler, Worker
from distributed.core import Status
from distributed.scheduler import TaskState, WorkerState
from tornado.web import ErrorHandler

from hyperhpc.workers.network import LOOPBACK
from hyperhpc.workers.settings import LOG_LEVEL, MOST_DEATHS, silence_dask

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
