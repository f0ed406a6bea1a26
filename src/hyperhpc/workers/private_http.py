"""What guards a web server on loopback: a secret path, the right host, careful headers.

Other users of the machine reach its ports, and so do pages of other servers in a user's
browser, by names that lead to the loopback address (DNS rebinding).
"""

from __future__ import annotations

import secrets
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import Application, ErrorHandler, OutputTransform

from hyperhpc.workers.network import LOOPBACK

#: Names of loopback in an address that a user types, through a tunnel too.
HOSTS = (LOOPBACK, "localhost")
#: Bokeh's pages make functions of text in the browser and set styles in place.
_CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CONTENT_POLICY,
    # the address holds the secret, and what is shown is the user's
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}


class _CarefulHeaders(OutputTransform):
    """Adds headers to every answer, refusals included."""

    def transform_first_chunk(
        self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in _HEADERS.items():
            headers[name] = value
        return status_code, headers, chunk


def is_allowed(request: HTTPServerRequest, secret: str) -> bool:
    """True for a request under the secret path, by a name of loopback."""
    parts = request.path.split("/")
    first = parts[1] if len(parts) > 1 else ""  # a path may be "*" or have no slash
    host = request.host.rpartition(":")[0] or request.host
    return secrets.compare_digest(first.encode(), secret.encode()) and host.lower() in HOSTS


def guard(application: Application, secret: str) -> None:
    """Answer 403 to all that :func:`is_allowed` refuses, and add headers to every answer."""
    find = application.find_handler

    def find_handler(request: HTTPServerRequest, **options: Any) -> Any:
        if is_allowed(request, secret):
            return find(request, **options)
        return application.get_handler_delegate(request, ErrorHandler, {"status_code": 403})

    application.find_handler = find_handler  # type: ignore[method-assign]
    application.add_transform(_CarefulHeaders)
