"""Requests of strangers to the viewer: none is answered with what is its owner's."""

from __future__ import annotations

import contextlib
import socket
from random import Random

_METHODS = (
    b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PRI",
    b"get", b"\xff\xfe",
)  # fmt: skip
_PATHS = (
    b"/", b"*", b"foo", b"", b"//", b"/..", b"/%2e%2e/", b"/ws", b"/static/js/bokeh.min.js",
    b"/metadata", b"/autoload.js", b"/" + b"A" * 43 + b"/", b"/" + b"A" * 43 + b"/ws", b"/\xff",
    b"/\0",
    b"http://127.0.0.1/", b"http://example.org/", b"/" + b"a" * 70_000, b"/?bokeh-session-id=x",
)  # fmt: skip
_HEADERS = (
    b"Host: example.org", b"Host: 127.0.0.1", b"Host:", b"Host: a\r\nHost: b",
    b"Origin: http://example.org",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    b"Content-Length: -1", b"Content-Length: 99999999999999", b"Content-Length: x",
    b"Transfer-Encoding: chunked",
    b"Cookie: " + b"a" * 9000, b"X: " + b"a" * 70_000, b"no colon", b": x", b"Expect: 100-continue",
    b"Range: bytes=0-", b"Accept-Encoding: gzip;q=x", b"If-None-Match: \xff",
)  # fmt: skip


def draw_request(rng: Random) -> bytes:
    """Bytes that somebody sends to a port that is not theirs."""
    if rng.random() < 0.1:
        return rng.randbytes(rng.choice((1, 100, 5000)))
    version = rng.choice((b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"", b"X"))
    lines = [b" ".join((rng.choice(_METHODS), rng.choice(_PATHS), version))]
    lines += rng.sample(_HEADERS, rng.randrange(4))
    text = b"\r\n".join(lines) + b"\r\n\r\n"
    if rng.random() < 0.2:
        text += rng.randbytes(rng.randrange(1, 200))
    return text[: rng.randrange(1, len(text))] if rng.random() < 0.1 else text


def send(port: int, request: bytes) -> bytes:
    """The answer to a request, as far as it comes within a second of silence; maybe none."""
    parts = []
    with socket.create_connection(("127.0.0.1", port), 30) as there, contextlib.suppress(OSError):
        there.sendall(request)
        there.shutdown(socket.SHUT_WR)
        there.settimeout(1)
        while part := there.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)
