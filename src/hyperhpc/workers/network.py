"""The addresses by which nodes reach each other: they are tried, never assumed.

Nodes have several interfaces with different names, and some lead nowhere (containers, an
InfiniBand card without a route). So a scheduler listens on all of its addresses and publishes
them, and a worker takes the first that answers with the right key. A worker on the
scheduler's own node reaches all of them; so the addresses that Slurm itself uses between
nodes come first. Workers send each other little: no fast network is needed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import ssl
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from hyperhpc.errors import ConfigError, SlurmError

if TYPE_CHECKING:
    from distributed.security import Security

LOOPBACK = "127.0.0.1"
#: For one attempt to connect.
_TIMEOUT_S = 5.0


def own_addresses(interface: str | None = None) -> list[str]:
    """IP addresses by which others may reach this node, IPv6 in brackets, the likeliest first.

    Raises ConfigError: if there is no such interface, or it has no address.
    """
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    ips = [
        ipaddress.ip_address(address.address.partition("%")[0])
        for name, addresses in sorted(psutil.net_if_addrs().items())
        if name in up and name == (interface or name)
        for address in addresses
        if address.family in (socket.AF_INET, socket.AF_INET6)
    ]
    found = [str(ip) for ip in ips if not (ip.is_loopback or ip.is_link_local)]
    if interface and not found:
        raise ConfigError(
            f"--interface {interface}: {socket.gethostname()} has no such interface with an "
            f"address; it has {', '.join(sorted(up)) or 'none'}",
            "Omit --interface: the address is found automatically",
        )
    likely = [*_resolve(socket.gethostname()), *_outgoing_addresses()]
    found.sort(key=lambda ip: likely.index(ip) if ip in likely else len(likely))
    return [bracket_ipv6(ip) for ip in found]


def _resolve(host: str) -> list[str]:
    """Addresses of a host; for a node's name, those used between nodes."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None)]
    except OSError:
        return []


def _outgoing_addresses() -> list[str]:
    """Own addresses on the route to nodes that Slurm names; nothing is sent."""
    names = ("SLURM_SUBMIT_HOST", "SLURM_LAUNCH_NODE_IPADDR")
    found = []
    for host in (os.environ[name] for name in names if os.environ.get(name)):
        for ip in _resolve(host):
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as end:
                end.connect((ip, 9))
                found.append(str(end.getsockname()[0]))
    return found


def bracket_ipv6(ip: str) -> str:
    """An IP address as a host in a URL."""
    return f"[{ip}]" if ":" in ip else ip


def find_route(addresses: Sequence[str], security: Security) -> tuple[str, str]:
    """The first address that answers with our key, and our own address on that route.

    ``addresses``: Addresses of Dask, as ``tls://10.0.0.1:8786``, in order of preference.

    Raises SlurmError: if no address answers.
    """
    failures: list[str] = []
    with ThreadPoolExecutor(max(len(addresses), 1)) as pool:
        attempts = {pool.submit(_connect_once, each, security): each for each in addresses}
        for future, address in attempts.items():
            try:
                return address, future.result()
            except OSError as error:  # refused, no route, another's certificate
                failures.append(f"{address}: {error.strerror or error}")
    raise SlurmError(
        f"{socket.gethostname()} cannot reach the scheduler: {'; '.join(failures)}",
        "Name the network that both are on: --interface NAME",
    )


def _connect_once(address: str, security: Security) -> str:
    """Connect, and return our own address on that route."""
    from distributed.comm.addressing import parse_host_port

    scheme, _, rest = address.partition("://")
    with socket.create_connection(parse_host_port(rest), timeout=_TIMEOUT_S) as end:
        own = bracket_ipv6(end.getsockname()[0])
        if scheme == "tls":  # the handshake checks the key
            context: ssl.SSLContext = security.get_connection_args("worker")["ssl_context"]
            context.wrap_socket(end).close()
        return own


def wait_for_route(addresses: Sequence[str], security: Security, seconds: float) -> tuple[str, str]:
    """Repeat :func:`find_route` for so many seconds; SlurmError if no address answers then."""
    stop = time.monotonic() + seconds
    while True:
        try:
            return find_route(addresses, security)
        except SlurmError:
            if time.monotonic() > stop:
                raise
            time.sleep(1)


def ssh_tunnel_command(port: int, node: str, *, is_inside: bool = True) -> str:
    """The ssh command for a port on the loopback of a node; ``is_inside``: behind a login node."""
    login_node = os.environ.get("HYPERHPC_DASHBOARD_HOST") or "LOGIN-NODE"
    jump = f"-J {login_node} " if is_inside else ""
    return f"ssh -N -L {port}:{LOOPBACK}:{port} {jump}{node}"
