"""A web server for one page and one user: loopback, a secret path, signed sessions."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import signal
import socket
from collections.abc import Callable, Sequence

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from bokeh.settings import settings
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from hyperhpc.errors import ResourceError
from hyperhpc.workers import ssh_tunnel_command
from hyperhpc.workers.network import LOOPBACK
from hyperhpc.workers.private_http import HOSTS, guard

#: zlib level of the websocket: pictures may go through a tunnel.
_COMPRESSION = 1
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class _NoStrangers(logging.Filter):
    """Keeps from the terminal what the requests of others cause: websockets it does not open."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a websocket whose session was not signed here, or is no session."""
        return not re.search(r"GET /\S*/ws \(", record.getMessage())


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
    # their messages are for programmers, and those of refused requests name the secret path
    for name in ("bokeh", "tornado.access", "tornado.general"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("tornado.application").addFilter(_NoStrangers())
    origins = [f"{host}:{port}" for host in HOSTS]
    settings.allowed_ws_origin = origins  # also where the environment names others
    secret = secrets.token_urlsafe(32)
    application = BokehTornado(
        {"/": Application(FunctionHandler(make_page))},
        prefix=secret,
        extra_websocket_origins=origins,
        secret_key=secrets.token_bytes(32),
        sign_sessions=True,
        websocket_compression_level=_COMPRESSION,
    )
    guard(application, secret)

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
    application: BokehTornado,
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
