"""Network interfaces, and the encryption of all traffic between workers."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
import sys
from typing import TYPE_CHECKING, Any

from hyperhpc.doctor.finding import Finding

if TYPE_CHECKING:
    from distributed.security import Security

#: Starts of names of interfaces to containers and virtual machines on this node.
_LOCAL_PREFIXES = ("br-", "cni", "docker", "lxc", "lxd", "podman", "veth", "virbr", "vmnet")
_TIMEOUT_S = 20


def check_interfaces() -> Finding:
    """List interfaces with their addresses, and which of them lead to other nodes."""
    import psutil

    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    far: list[str] = []
    local: list[str] = []
    for name, addresses in sorted(psutil.net_if_addrs().items()):
        for address in addresses:
            if name in up and address.family in (socket.AF_INET, socket.AF_INET6):
                ip = ipaddress.ip_address(address.address.partition("%")[0])
                is_local = ip.is_loopback or ip.is_link_local or name.startswith(_LOCAL_PREFIXES)
                (local if is_local else far).append(f"{name} {ip}")
    value = f"between nodes: {', '.join(far) or 'none'}; "
    value += f"this node only: {', '.join(local) or 'none'}"
    if not any("127." in text for text in local):
        return Finding("error", f"{value}; workers need loopback", "ip link set lo up")
    nodes = os.environ.get("SLURM_JOB_NUM_NODES") or os.environ.get("SLURM_NNODES") or "1"
    if not far and nodes != "1":
        remedy = "give the container the network of its host (no --net, no --network none)"
        return Finding("error", f"{value}; the job has {nodes} nodes", remedy)
    address = _address_towards(os.environ.get("SLURM_LAUNCH_NODE_IPADDR", ""))
    leads = f"; {address} leads to the node that started this" if address else ""
    return Finding("ok", value + leads)


def _address_towards(host: str) -> str | None:
    """The address by which this node reaches another; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.connect((host, 9))
            return end.getsockname()[0] if host else None
    except OSError:
        return None


def check_openssl(
    python: tuple[int, ...] | None = None, openssl: tuple[int, ...] | None = None
) -> Finding:
    """Check the libraries of TLS for the pair that is known to break Dask's connections."""
    import cryptography

    value = f"{ssl.OPENSSL_VERSION}; cryptography {cryptography.__version__}"
    python, openssl = python or sys.version_info[:2], openssl or ssl.OPENSSL_VERSION_INFO
    if python[:2] == (3, 13) and openssl[:2] >= (3, 5):
        value += ": with Python 3.13 it breaks some connections of Dask"
        return Finding("warning", value, "use the image, or make setup PYTHON=python3.11")
    return Finding("ok", value)


def check_tls() -> Finding:
    """Send a message through Dask's own TLS, with keys of its own."""
    from hyperhpc.scratch import scratch_folder
    from hyperhpc.workers.security import temporary_security

    remedy = "see the lines imports, openssl and interfaces"
    try:
        with scratch_folder() as folder:
            security = temporary_security(folder)
            version = asyncio.run(asyncio.wait_for(_round_trip(security), _TIMEOUT_S))
    except (OSError, TimeoutError, ssl.SSLError) as error:
        what = " ".join(str(error).split())[:150] or f"no answer within {_TIMEOUT_S} s"
        return Finding("error", f"no connection: {type(error).__name__}: {what}", remedy)
    return Finding("ok", f"{version}, sent and received")


async def _round_trip(security: Security) -> str:
    from distributed.comm import connect, listen

    async def echo(comm: Any) -> None:
        await comm.write(await comm.read())

    arguments = security.get_listen_args("scheduler")
    async with listen("tls://127.0.0.1:0", echo, **arguments) as listener:
        comm = await connect(
            listener.contact_address, timeout=_TIMEOUT_S, **security.get_connection_args("client")
        )
        try:
            sent = {"numbers": tuple(range(1000))}  # a list would come back as a tuple
            await comm.write(sent)
            if await comm.read() != sent:
                raise OSError("the answer is not what was sent")
            return str(comm.stream.socket.version())
        finally:
            await comm.close()
