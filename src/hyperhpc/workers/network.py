"""By which of its addresses a node is reached: tried out, never assumed.

Nodes have several interfaces, with other names on each, and some lead nowhere (containers,
an InfiniBand card without a route). So a scheduler listens on all of its addresses and
publishes them, and who wants to reach it takes the first that answers with the right key.
A worker on the scheduler's own node reaches all of them; so those come first that Slurm
itself uses between nodes. What workers send each other is little: no fast network is needed.
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
#: For one try: far more than a round trip, little enough to try again.
_SECONDS = 5.0


def own_addresses(interface: str | None = None) -> list[str]:
    """IP addresses of this node that others may reach it by, the likeliest first.

    An address of IPv6 is in brackets, as Dask wants a host.

    Parameters
    ----------
    interface
        Only those of this one.

    Raises
    ------
    ConfigError
        If there is no such interface, or it has no address.
    """
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found: list[str] = []
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        if name not in up or (interface and name != interface):
            continue
        for address in addresses:
            if address.family in (socket.AF_INET, socket.AF_INET6):
                ip = ipaddress.ip_address(address.address.partition("%")[0])
                if not (ip.is_loopback or ip.is_link_local):
                    found.append(str(ip))
    if interface and not found:
        raise ConfigError(
            f"--interface {interface}: {socket.gethostname()} has no such interface with an "
            f"address; it has {', '.join(sorted(up)) or 'none'}",
            "leave --interface away: the address is found out",
        )
    likely = [*_addresses_of(socket.gethostname()), *_ways_out()]
    found.sort(key=lambda ip: likely.index(ip) if ip in likely else len(likely))
    return [as_host(ip) for ip in found]


def _addresses_of(host: str) -> list[str]:
    """What the name stands for; for a node's name, its address between nodes."""
    try:
        return [str(entry[4][0]) for entry in socket.getaddrinfo(host, None)]
    except OSError:
        return []


def _ways_out() -> list[str]:
    """Own addresses on the way to nodes that Slurm names; nothing is sent."""
    names = ("SLURM_SUBMIT_HOST", "SLURM_LAUNCH_NODE_IPADDR")
    ways = []
    for host in (os.environ[name] for name in names if os.environ.get(name)):
        for ip in _addresses_of(host):
            family = socket.AF_INET6 if ":" in ip else socket.AF_INET
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as end:
                end.connect((ip, 9))
                ways.append(str(end.getsockname()[0]))
    return ways


def as_host(ip: str) -> str:
    """An IP address as a host in a URL."""
    return f"[{ip}]" if ":" in ip else ip


def find_way(addresses: Sequence[str], security: Security) -> tuple[str, str]:
    """The first address that answers with our key, and our own address on that way.

    Parameters
    ----------
    addresses
        Of Dask, as ``tls://10.0.0.1:8786``; in order of preference.
    security
        With which they must be reached.

    Raises
    ------
    SlurmError
        If none answers.
    """
    failures: list[str] = []
    with ThreadPoolExecutor(max(len(addresses), 1)) as pool:
        tries = [(address, pool.submit(_try, address, security)) for address in addresses]
        for address, future in tries:
            try:
                return address, future.result()
            except OSError as error:  # refused, no route, another's certificate
                failures.append(f"{address}: {error.strerror or error}")
    raise SlurmError(
        f"{socket.gethostname()} cannot reach the scheduler: {'; '.join(failures)}",
        "name the network that both are on: --interface NAME",
    )


def _try(address: str, security: Security) -> str:
    """Our own address on the way there."""
    from distributed.comm.addressing import parse_host_port

    scheme, _, rest = address.partition("://")
    host, port = parse_host_port(rest)
    with contextlib.ExitStack() as stack:
        end: socket.socket = stack.enter_context(
            socket.create_connection((host, port), timeout=_SECONDS)
        )
        if scheme == "tls":
            context: ssl.SSLContext = security.get_connection_args("worker")["ssl_context"]
            end = stack.enter_context(context.wrap_socket(end))
        return as_host(end.getsockname()[0])


def wait_for_way(
    addresses: Sequence[str], security: Security, seconds: float
) -> tuple[str, str]:
    """As :func:`find_way`, tried again for so many seconds.

    Raises
    ------
    SlurmError
        If none answers in that time.
    """
    stop = time.monotonic() + seconds
    while True:
        try:
            return find_way(addresses, security)
        except SlurmError:
            if time.monotonic() > stop:
                raise
            time.sleep(1)


# The ssh command that leads to a page on the loopback of another machine.


def tunnel_to(port: int, node: str, *, is_inside: bool = True) -> str:
    """What to type on one's own machine to reach a port of a node.

    Parameters
    ----------
    is_inside
        The node is reached by way of the login node, ``HYPERHPC_DASHBOARD_HOST``.
    """
    gate = os.environ.get("HYPERHPC_DASHBOARD_HOST") or "LOGIN-NODE"
    way = f"-J {gate} " if is_inside else ""
    return f"ssh -N -L {port}:{LOOPBACK}:{port} {way}{node}"
