"""Dask's scheduler and workers without the HTTP servers they would open.

Those servers are plain HTTP, and on a shared machine loopback is not private. Workers
get none. The scheduler gets one only for a dashboard, and it answers nothing outside a
secret prefix: left to itself it would redirect ``/`` to the secret, and list it in
``/sitemap.json``.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from typing import Any

from distributed import Scheduler, Worker
from tornado.web import ErrorHandler

#: Seconds a worker that was told to terminate waits for its client to end it in order.
GRACE_S = 10.0
_STOPS = {signal.SIGINT, signal.SIGTERM}


class ClosedWorker(Worker):
    """A worker without HTTP, which leaves its end to the process that started it.

    Terminals and Slurm signal all processes at once; workers would die untidily.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _exit_later)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        super().__init__(*args, **kwargs)

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Start none."""


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
        self._secret = (http_prefix or "").strip("/")
        super().__init__(*args, http_prefix=http_prefix, dashboard=bool(self._secret), **kwargs)

    def start_http_server(self, *args: Any, **kwargs: Any) -> None:
        """Start one only if there is a secret, and close all other paths.

        Runs on the event loop, so no request is answered before the paths are closed.
        """
        if not self._secret:
            return
        super().start_http_server(*args, **kwargs)
        application = self.http_application
        find = application.find_handler

        def find_handler(request: Any, **kwargs: Any) -> Any:
            first = request.path.split("/")[1:2]
            if first and secrets.compare_digest(first[0].encode(), self._secret.encode()):
                return find(request, **kwargs)
            return application.get_handler_delegate(request, ErrorHandler, {"status_code": 404})

        application.find_handler = find_handler  # type: ignore[method-assign]
