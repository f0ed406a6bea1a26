"""A web server for one page and one user: loopback, a secret path, signed sessions."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.settings import settings
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.web import ErrorHandler

from hyperhpc.errors import ResourceError
from hyperhpc.workers import ssh_tunnel_command

LOOPBACK = "127.0.0.1"
#: zlib level of the websocket: pictures may go through a tunnel.
_COMPRESSION = 1
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class ClosedTornado(BokehTornado):
    """Bokeh's web application, which answers only under its secret path."""

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        """Refuse every path outside the secret one, which page and websocket lie under."""
        first = request.path.split("/")[1]
        if secrets.compare_digest(first.encode(), self.prefix[1:].encode()):
            return super().find_handler(request, **kwargs)
        return self.get_handler_delegate(request, ErrorHandler, {"status_code": 403})


def serve(
    make_page: Callable[[Document], None],
    port: int,
    report_url: Callable[[str], None],
    notify: Callable[[str], None],
) -> None:
    """Serve a page until Ctrl-C.

    ``make_page``: Fills the empty document of each new session.
    ``port``: 0 for any free port.
    ``report_url``: Called with the address, once it answers.
    ``notify``: Called with how to reach it from another machine, and how to stop it.

    Raises ResourceError: the port is taken, or may not be used.
    """
    try:
        listening = socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise ResourceError(
            f"Port {port} of {LOOPBACK} cannot be used: {error.strerror or error}",
            "Give another --port, or --port 0 for any free port",
        ) from None
    listening.setblocking(False)
    port = listening.getsockname()[1]
    settings.resources = "server"  # also where the environment names a CDN
    for name in ("bokeh", "tornado"):  # their messages are for programmers
        logging.getLogger(name).setLevel(logging.ERROR)
    application = ClosedTornado(
        {"/": Application(FunctionHandler(make_page))},
        prefix=secrets.token_urlsafe(32),
        extra_websocket_origins=[f"{LOOPBACK}:{port}"],
        secret_key=secrets.token_bytes(32),
        sign_sessions=True,
        websocket_compression_level=_COMPRESSION,
    )

    def ready() -> None:
        report_url(f"http://{LOOPBACK}:{port}{application.prefix}/")
        is_job = "SLURM_JOB_ID" in os.environ
        tunnel = ssh_tunnel_command(port, socket.gethostname(), is_inside=is_job)
        notify(f"  from another machine, first type there: {tunnel}")
        notify("Ctrl-C stops it")

    before = {number: signal.getsignal(number) for number in _STOPS}
    stops = [number for number in _STOPS if before[number] != signal.SIG_IGN]
    try:
        number = asyncio.run(_serve(application, listening, stops, ready))
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)
    if number != signal.SIGINT:
        signal.raise_signal(number)


async def _serve(
    application: ClosedTornado,
    listening: socket.socket,
    stops: Sequence[signal.Signals],
    ready: Callable[[], None],
) -> int:
    """Serve until a signal comes; returns its number.

    The event loop handles the signals: an exception of a Python signal handler would be lost
    where it interrupts a callback.
    """
    http = HTTPServer(application)
    http.add_socket(listening)
    server = BaseServer(IOLoop.current(), application, http)
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[int] = asyncio.Queue()
    for stop in stops:
        loop.add_signal_handler(stop, came.put_nowait, stop)
    server.start()
    try:
        ready()
        return await came.get()
    finally:
        server.stop()
        await http.close_all_connections()
