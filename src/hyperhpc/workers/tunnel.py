"""The ssh command that leads to a page on the loopback of another machine."""

from __future__ import annotations

import os

from hyperhpc.workers.network import LOOPBACK


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
