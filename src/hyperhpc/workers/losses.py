"""Workers that die are replaced, and their tiles done by others: here it is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hyperhpc.errors import ResourceError
from hyperhpc.workers.settings import MOST_DEATHS
from hyperhpc.workers.workers import Note, Workers

_REMOVED, _MEMORY = "all", "worker-restart-memory"


def scheduler_errors() -> tuple[type[BaseException], ...]:
    """What Dask raises for whoever waits when the scheduler is gone."""
    import asyncio
    import concurrent.futures

    from distributed.comm import CommClosedError

    return asyncio.CancelledError, concurrent.futures.CancelledError, CommClosedError


@contextmanager
def losses_told(workers: Workers, tell: Note) -> Iterator[None]:
    """Tell each loss of a worker in one line, until the end of the block.

    Raises
    ------
    ResourceError
        If a task is given up because it has ended one worker after the other.
    """
    from distributed.scheduler import KilledWorker

    for_memory: set[str] = set()

    def on_memory(event: tuple[float, Any]) -> None:
        address = event[1]["worker"]
        if address not in for_memory:
            for_memory.add(address)
            tell(
                f"a worker needed more memory than it has, {workers.memory_bytes // 2**20} "
                "MiB, and was started anew; its tiles are done again"
            )

    def on_removed(event: tuple[float, Any]) -> None:
        told = event[1]
        if not isinstance(told, dict) or told.get("action") != "remove-worker":
            return
        if told["worker"] not in for_memory and not told["expected"]:
            host = told["worker"].rpartition("/")[2].rpartition(":")[0]
            tell(f"a worker on {host} was lost; its tiles are done again")

    client = workers.client
    client.subscribe_topic(_MEMORY, on_memory)
    client.subscribe_topic(_REMOVED, on_removed)
    try:
        yield
    except KilledWorker:  # of the fit: tiles are looked after by name
        mib = workers.memory_bytes // 2**20
        raise ResourceError(
            f"a step of the work has ended {MOST_DEATHS} workers, each with {mib} MiB; "
            "probably they ran out of memory",
            f"give --memory-per-worker {mib * 3 // 2}MiB or more: the run goes on from what "
            "is finished",
        ) from None
    finally:
        with contextlib.suppress(Exception):  # the scheduler is gone
            client.unsubscribe_topic(_REMOVED)
            client.unsubscribe_topic(_MEMORY)
