"""Workers that die are replaced, and their tiles done by others: here it is told."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hyperhpc.errors import IncompleteRunError, ResourceError
from hyperhpc.workers.settings import MOST_DEATHS
from hyperhpc.workers.workers import Note, Workers

_REMOVED, _MEMORY = "all", "worker-restart-memory"
_LOOK_S = 2.0
#: How long a run waits for a worker if all were lost. Lost ones are back in seconds.
PATIENCE_S = 300.0


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
    IncompleteRunError
        If no worker is left for :data:`PATIENCE_S`, and none stands in a queue.
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
        with _given_up_without(workers, tell):
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


@contextmanager
def _given_up_without(workers: Workers, tell: Note) -> Iterator[None]:
    """End the block if all workers stay away, for whom Dask would wait for ever.

    Whoever waits for a task in it is woken by the end of the client.
    """
    from asyncio import CancelledError

    is_over, is_given_up = threading.Event(), threading.Event()

    def look() -> None:
        waited = 0.0  # counted, not timed: a job may be suspended for hours
        while not is_over.wait(_LOOK_S):
            before, waited = waited, 0.0 if workers.up() else waited + _LOOK_S
            if waited > PATIENCE_S:
                is_given_up.set()
                workers.client.close()
                return
            if before <= PATIENCE_S / 10 < waited:
                tell(f"no worker is left; waiting {PATIENCE_S:.0f} s for one to come back")

    def watch() -> None:
        with contextlib.suppress(Exception):  # the scheduler is gone, which others tell
            look()

    if not workers.may_wait:
        threading.Thread(target=watch, name="hyperhpc-losses", daemon=True).start()
    try:
        yield
    except (Exception, CancelledError):
        if not is_given_up.is_set():  # else it comes of a closed client, whatever it is
            raise
        raise IncompleteRunError(
            f"all workers were lost, and none came back within {PATIENCE_S:.0f} s; what is "
            "finished is kept",
            "see why they ended, and give the same command again: it goes on from there",
        ) from None
    finally:
        is_over.set()
