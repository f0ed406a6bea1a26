"""How the processes of a job find and trust each other: keys, addresses, what stays behind."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509

from hyperhpc.errors import ConfigError, ResourceError, SlurmError
from hyperhpc.workers.connection import Connection, remove_stale_connections
from hyperhpc.workers.network import find_route, own_addresses
from hyperhpc.workers.security import temporary_security


@pytest.fixture
def connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time()) + 7200))
    made = Connection.of_job(tmp_path)
    made.create(is_secure=True)
    return made


def test_connection__is_its_owners_alone_whatever_the_umask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0)
    try:
        connection = Connection(tmp_path / ".connection-1-0")
        connection.create(is_secure=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(connection.folder.stat().st_mode) == 0o700
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in connection.folder.iterdir()}
    assert modes == {"key.pem": 0o600, "certificate.pem": 0o600}


def test_connection__certificate_lasts_to_the_end_of_the_job_and_a_day(
    connection: Connection,
) -> None:
    assert connection.folder.name == ".connection-42-1"
    pem = (connection.folder / "certificate.pem").read_bytes()
    left = x509.load_pem_x509_certificate(pem).not_valid_after_utc - datetime.now(UTC)
    assert timedelta(hours=25, minutes=59) < left <= timedelta(hours=26)


def test_connection__each_start_has_other_keys(connection: Connection) -> None:
    before = (connection.folder / "key.pem").read_bytes()
    connection.create(is_secure=True)
    assert (connection.folder / "key.pem").read_bytes() != before


def test_connection__a_file_system_without_modes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "chmod", lambda self, mode: None)
    monkeypatch.setattr(Path, "mkdir", lambda self, mode=0o777: os.mkdir(self, 0o755))
    with pytest.raises(ResourceError, match="does not keep a folder private"):
        Connection(tmp_path / ".connection-1-0").create(is_secure=True)
    assert not list(tmp_path.iterdir())


def test_connection__end_leaves_no_key_and_tells_who_comes_late(connection: Connection) -> None:
    listener = SimpleNamespace(contact_address="tls://10.0.0.1:1")
    connection.publish(SimpleNamespace(listeners=[listener], dashboard_link=None))
    assert connection.read_scheduler() == {"addresses": ["tls://10.0.0.1:1"], "dashboard": None}
    connection.end()
    assert [path.name for path in connection.folder.iterdir()] == ["over"]
    assert connection.is_over()
    assert connection.read_scheduler() is None


def test_connection__without_keys_has_no_tls(tmp_path: Path) -> None:
    connection = Connection(tmp_path / ".connection-1-0")
    connection.create(is_secure=False)
    assert not connection.security().require_encryption
    assert not list(connection.folder.iterdir())


def test_remove_stale__takes_those_of_other_jobs_only(connection: Connection) -> None:
    out = connection.folder.parent
    for name in (".connection-41-0", ".connection-42-0", "results.zarr"):
        (out / name).mkdir()
    (out / ".connection-41-0" / "key.pem").touch()
    remove_stale_connections(out)
    assert sorted(p.name for p in out.iterdir()) == [".connection-42-1", "results.zarr"]


# --- the way there ----------------------------------------------------------------------


def test_own_addresses__are_those_of_interfaces_that_are_up() -> None:
    import psutil

    found = own_addresses()
    assert not any(ip.startswith(("127.", "[::1", "[fe80")) for ip in found)
    every = {a.address for addresses in psutil.net_if_addrs().values() for a in addresses}
    assert {ip.strip("[]") for ip in found} <= every


def test_own_addresses__of_an_interface_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"--interface ib9: .* has no such interface"):
        own_addresses("ib9")


@contextmanager
def serving(security: object | None) -> Iterator[int]:
    """A port of this machine: with these keys, or plain and mute."""
    context = security.get_listen_args("scheduler")["ssl_context"] if security else None  # type: ignore[attr-defined]
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                end, _ = listener.accept()
                if context:
                    context.wrap_socket(end, server_side=True).close()
                else:
                    end.close()
            except ssl.SSLError:
                continue
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with closing(listener):
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def test_find_route__takes_the_first_that_answers_with_our_key(
    connection: Connection, tmp_path: Path
) -> None:
    ours, foreign = connection.security(), temporary_security(str(tmp_path))
    with serving(ours) as right, serving(foreign) as wrong, serving(None) as mute:
        closed = socket.create_server(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
        closed.close()
        urls = [f"tls://127.0.0.1:{port}" for port in (dead, wrong, mute, right)]
        assert find_route(urls, ours) == (urls[-1], "127.0.0.1")
        with pytest.raises(SlurmError, match="cannot reach the scheduler") as caught:
            find_route(urls[:-1], ours)
    for url in urls[:-1]:
        assert url in caught.value.message
    assert "--interface" in str(caught.value.hint)
