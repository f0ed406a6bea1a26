"""The viewer's server: who gets in, and how it ends."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from browser_case import Served, served
from cli_case import call, check_refused
from run_case import RunCase


@pytest.fixture(scope="module")
def page(run_case: RunCase) -> Iterator[Served]:
    with served(run_case.out) as running:
        yield running


def get(url: str) -> tuple[int, str]:
    """Status and body, not by any proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url) as answer:
            return answer.status, answer.read().decode("utf-8")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, ""


def connect(url: str, origin: str, token: str) -> int:
    """Status of the handshake of a websocket; 0 if it is closed before its first word."""
    host, _, path = url.partition("://")[2].partition("/")
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode("ascii"),
        "Sec-WebSocket-Protocol": f"bokeh, {token}",
        "Origin": origin,
    }
    with contextlib.closing(http.client.HTTPConnection(host, timeout=30)) as there:
        there.request("GET", f"/{path}", headers=headers)
        with there.getresponse() as answer:
            if answer.status != 101:
                return answer.status
            kind = answer.fp.read(1)
    return 101 if kind and kind[0] & 15 in (1, 2) else 0  # text or bytes, not the end


def parts(page: Served) -> tuple[str, str]:
    """The address without its secret, and the secret."""
    found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/([\w-]{43})/", page.url)
    assert found, page.url
    return found[1], found[2]


def session_token(page: Served) -> str:
    """What the page hands to its websocket."""
    found = re.search(r'"token":"([\w.=-]+)"', get(page.url)[1])
    assert found
    return found[1]


def test_serve__answers_only_under_its_secret(page: Served) -> None:
    root, secret = parts(page)
    assert get(page.url)[0] == 200
    script = re.search(r'src="([^"]*bokeh[^"]*\.js[^"]*)"', get(page.url)[1])
    assert script
    path = script[1].split(secret, 1)[1]
    assert get(f"{root}/{secret}{path}")[0] == 200
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    for stranger in ("", "/", f"/{wrong}/", f"/{wrong}{path}", path, f"//{secret}/", "/ws"):
        assert get(f"{root}{stranger}")[0] == 403, stranger


def test_serve__websocket_needs_secret_origin_and_a_signed_session(page: Served) -> None:
    root, secret = parts(page)
    inside = f"{root}/{secret}/ws"
    assert connect(inside, root, session_token(page)) == 101
    assert connect(inside.replace(secret, "A" * 43), root, session_token(page)) == 403
    assert connect(inside, "http://127.0.0.1:1", session_token(page)) == 403
    assert connect(inside, "http://example.org", session_token(page)) == 403
    head, _, signature = session_token(page).rpartition(".")
    forged = f"{head}.{signature[::-1]}"
    assert connect(inside, root, forged) in (0, 403)


@pytest.mark.parametrize("line", ["OPTIONS *", "GET foo", "GET ", "GET /\xff", "CONNECT a:1"])
def test_serve__odd_requests_are_refused(page: Served, line: str) -> None:
    port = int(parts(page)[0].rpartition(":")[2])
    assert ask(port, f"{line} HTTP/1.1", f"Host: 127.0.0.1:{port}").startswith("HTTP/1.1 4")


def test_serve__answers_only_as_loopback_and_with_careful_headers(page: Served) -> None:
    root, secret = parts(page)
    port = int(root.rpartition(":")[2])
    for host in ("example.org", f"example.org:{port}", "127.0.0.1.example.org", ""):
        assert ask(port, f"GET /{secret}/ HTTP/1.1", f"Host: {host}x").startswith("HTTP/1.1 403")
    for host in ("127.0.0.1", "localhost", "LOCALHOST"):
        answer = ask(port, f"GET /{secret}/ HTTP/1.1", f"Host: {host}:{port}")
        assert answer.startswith("HTTP/1.1 200")
    refused = ask(port, "GET / HTTP/1.1", f"Host: localhost:{port}")
    for shown in (answer, refused):
        head = shown.partition("\r\n\r\n")[0]
        assert "Content-Security-Policy: default-src 'self'" in head
        assert "Referrer-Policy: no-referrer" in head
        assert "Cache-Control: no-store" in head


def ask(port: int, *lines: str) -> str:
    """The answer to a request of these lines, however odd they are."""
    with socket.create_connection(("127.0.0.1", port), 30) as there:
        there.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1"))
        return b"".join(iter(lambda: there.recv(1 << 16), b"")).decode("latin-1")


@pytest.mark.e2e
def test_serve__strangers_leave_no_line_on_the_terminal(run_case: RunCase) -> None:
    with served(run_case.out, BOKEH_ALLOW_WS_ORIGIN="*", BOKEH_LOG_LEVEL="trace") as running:
        root, secret = parts(running)
        inside = f"{root}/{secret}/ws"
        token = session_token(running)
        assert connect(inside, "http://example.org", token) == 403
        assert connect(inside, root, token[::-1]) in (0, 403)
        assert connect(f"{root}/ws", root, token) == 403
        _, _, err = running.stop()
    assert secret not in err
    assert len(err.splitlines()) == 2, err


@pytest.mark.e2e
def test_serve__every_server_has_another_secret(page: Served, run_case: RunCase) -> None:
    with served(run_case.out) as other:
        assert parts(other)[1] != parts(page)[1]
        token = session_token(other)
    root, secret = parts(page)
    assert connect(f"{root}/{secret}/ws", root, token) in (0, 403)


def test_serve__listens_on_loopback_only(page: Served) -> None:
    found = psutil.Process(page.process.pid).net_connections("inet")
    port = int(page.url.split(":")[2].partition("/")[0])
    assert {(c.laddr.ip, c.laddr.port) for c in found if c.status == psutil.CONN_LISTEN} == {
        ("127.0.0.1", port)
    }


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("number", "code"),
    [pytest.param(signal.SIGINT, 0, marks=pytest.mark.smoke), (signal.SIGTERM, 143)],
)
def test_view__ends_in_order(number: int, code: int, run_case: RunCase) -> None:
    with served(run_case.out) as running:
        assert get(running.url)[0] == 200
        status, out, err = running.stop(number)
    assert status == code, err
    assert out == ""
    port = running.url.split(":")[2].partition("/")[0]
    first, second, *rest = err.splitlines()
    assert f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}" in first
    assert second == "Ctrl-C stops it"
    assert rest == ([] if code == 0 else ["terminated"])


@pytest.mark.e2e
def test_view__tells_the_way_into_a_job(run_case: RunCase) -> None:
    gate = "me@login.example.org"
    with served(run_case.out, SLURM_JOB_ID="7", HYPERHPC_DASHBOARD_HOST=gate) as running:
        _, _, err = running.stop()
    assert f" -J {gate} {socket.gethostname()}" in err


def test_view__port_that_is_taken_is_one_message(run_case: RunCase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = call("view", run_case.out, "--port", str(port))
    check_refused(done, 5, f"port {port}", "--port 0")


def test_view__scene_of_another_run_is_one_message(run_case: RunCase, small_scene: Path) -> None:
    done = call("view", run_case.out, "--scene", small_scene)
    check_refused(done, 3, "is not the scene of this run", "160 x 200 x 426")


def test_view__scene_that_is_not_there_is_one_message(run_case: RunCase) -> None:
    check_refused(call("view", run_case.out, "--scene", "gone.zarr"), 4, "gone.zarr")
