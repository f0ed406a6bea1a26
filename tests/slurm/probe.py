"""Try to get something out of TCP ports, as a stranger: ADDRESS:PORT..., JSON out.

Only the standard library: it runs on the hosts. For each port: the status of a plain HTTP
answer (or null), and whether TLS without our certificate was accepted.
"""

import json
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager

REQUEST = b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def http_status(host: str, port: int) -> int | None:
    try:
        with socket.create_connection((host, port), timeout=5) as end:
            end.sendall(REQUEST)
            line = end.recv(100).split(b"\r\n")[0]
    except OSError:
        return None
    return int(line.split()[1]) if line.startswith(b"HTTP/") else None


@contextmanager
def as_a_stranger(host: str, port: int) -> Iterator[ssl.SSLSocket]:
    """A connection over TLS without a certificate; whoever is there will do."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=5) as plain,
        context.wrap_socket(plain) as end,
    ):
        yield end


def takes_strangers(host: str, port: int) -> bool:
    """True if a connection without a certificate lives on; in TLS 1.3 it ends after a read."""
    try:
        with as_a_stranger(host, port) as end:
            end.settimeout(5)
            end.sendall(b"\0" * 64)
            return bool(end.recv(1))
    except TimeoutError:
        return True  # it waits for more of us
    except OSError:
        return False


def speaks_tls(host: str, port: int) -> bool:
    try:
        with as_a_stranger(host, port) as end:
            return bool(end.getpeercert(binary_form=True))
    except OSError as error:
        return "certificate required" in str(error).lower()


found = {}
for target in sys.argv[1:]:
    address, _, number = target.rpartition(":")
    found[target] = {
        "http": http_status(address, int(number)),
        "tls": speaks_tls(address, int(number)),
        "takes strangers": takes_strangers(address, int(number)),
    }
print(json.dumps(found))
