"""Connected workers, and what is reported when some of them are lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hyperhpc.errors import IncompleteRunError, ResourceError
from hyperhpc.workers.dask_setup import MAX_WORKER_DEATHS

if TYPE_CHECKING:
    from distributed import Client, Future

#: Receives one line that the user should read.
Note = Callable[[str], None]

_REMOVED_TOPIC, _MEMORY_TOPIC = "all", "worker-restart-memory"
_CHECK_INTERVAL_S = 2.0
#: How long a run waits for a worker if all were lost. Lost ones are back in seconds.
NO_WORKER_TIMEOUT_S = 300.0


@dataclass
class Workers:
    """Connected workers, and the client that speaks TLS to all of them.

    ``count``, ``threads``, ``memory_bytes``: Number of worker processes wanted, of which fewer
        may be connected; threads and limit of memory of each.
    ``dashboard``: Address of a dashboard on this machine, or None. It holds a secret: show it
        on this user's terminal only, and write it into no file that others may read.
    ``may_queue``: True if workers wait in Slurm's queue, and there may be none for a long time.
    ``pinned``: Long tasks, and the worker that each was sent to.
    """

    client: Client
    count: int
    threads: int
    memory_bytes: int
    dashboard: str | None = None
    may_queue: bool = False
    pinned: dict[Future, str] = field(default_factory=dict)
    _last_count: int = 0

    def count_connected(self) -> int:
        """How many are connected now."""
        return len(find_connected(self.client))

    def describe_count(self) -> str:
        """How many are connected, or were at the end, and how many are wanted: ``3 of 4``."""
        if self.client.status == "running":
            self._last_count = self.count_connected()
        return f"{self._last_count} of {self.count}"

    def describe_memory(self) -> str:
        """What all of them use together: ``1.1 GiB``."""
        metrics = [worker.get("metrics", {}) for worker in find_connected(self.client).values()]
        used = sum(values.get("memory", 0) for values in metrics)
        return f"{used / 2**30:.1f} GiB"

    def addresses(self) -> list[str]:
        """Addresses of the connected workers, sorted; waits until there is at least one."""
        return sorted(wait_connected(self.client))

    def pin(self, function: Callable[..., Any], *args: Any) -> Future:
        """Send one long task to the first worker, and remember where it is."""
        address = self.addresses()[0]
        future = self.client.submit(
            function, *args, pure=False, workers=[address], allow_other_workers=True
        )
        self.pinned[future] = address
        return future

    def apply(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """Call the function for each item, on workers; results are in the items' order."""
        futures = [self.client.submit(function, item, pure=False) for item in items]
        return list(self.client.gather(futures))


def find_connected(client: Client) -> dict[str, dict[str, Any]]:
    """What the scheduler reports of each connected worker, by address; empty if it is lost.

    ``client.scheduler_info`` returns what a timer of Dask overwrites with a report of no workers.
    """
    scheduler = client.scheduler
    if scheduler is None:  # closed
        return {}
    try:
        return dict(client.sync(scheduler.identity, n_workers=-1)["workers"])
    except OSError:
        return {}


def wait_connected(client: Client) -> dict[str, dict[str, Any]]:
    """:func:`find_connected`, once there is at least one: all may have been lost just now."""
    while not (found := find_connected(client)):
        client.wait_for_workers(1)
    return found


def scheduler_errors() -> tuple[type[BaseException], ...]:
    """What Dask raises in code that waits for a result when the scheduler is lost."""
    import asyncio
    import concurrent.futures

    from distributed.comm import CommClosedError

    return asyncio.CancelledError, concurrent.futures.CancelledError, CommClosedError


@contextmanager
def report_worker_losses(workers: Workers, note: Note) -> Iterator[None]:
    """Report in one line each loss of a worker, which Dask replaces, to the end of the block.

    Raises ResourceError: if a task is given up because it has ended one worker after the other;
    IncompleteRunError: if no worker is left for :data:`NO_WORKER_TIMEOUT_S`, and none waits in
    a queue.
    """
    from distributed.scheduler import KilledWorker

    out_of_memory: set[str] = set()

    def on_memory(event: tuple[float, Any]) -> None:
        address = event[1]["worker"]
        if address not in out_of_memory:
            out_of_memory.add(address)
            note(
                f"a worker needed more than its {workers.memory_bytes // 2**20} MiB of memory "
                "and was restarted; its tiles are processed again"
            )

    def on_removed(event: tuple[float, Any]) -> None:
        news = event[1]
        if not isinstance(news, dict) or news.get("action") != "remove-worker":
            return
        if news["worker"] not in out_of_memory and not news["expected"]:
            host = news["worker"].rpartition("/")[2].rpartition(":")[0]
            note(f"a worker on {host} was lost; its tiles are processed again")

    client = workers.client
    client.subscribe_topic(_MEMORY_TOPIC, on_memory)
    client.subscribe_topic(_REMOVED_TOPIC, on_removed)
    try:
        with _stop_without_workers(workers, note):
            yield
    except KilledWorker:  # while fitting; compute.tiles reports tiles by name
        mib = workers.memory_bytes // 2**20
        raise ResourceError(
            f"One task has ended {MAX_WORKER_DEATHS} workers, each with {mib} MiB; "
            "probably they ran out of memory",
            f"Give --memory-per-worker {mib * 3 // 2}MiB or more: the run resumes from what is "
            "finished",
        ) from None
    finally:
        with contextlib.suppress(Exception):  # the scheduler is lost
            client.unsubscribe_topic(_REMOVED_TOPIC)
            client.unsubscribe_topic(_MEMORY_TOPIC)


@contextmanager
def _stop_without_workers(workers: Workers, note: Note) -> Iterator[None]:
    """End the block if no worker comes back, for which Dask would wait for ever.

    Closing the client wakes the code that waits for a task.
    """
    from asyncio import CancelledError

    is_over, is_given_up = threading.Event(), threading.Event()

    def check() -> None:
        waited = 0.0  # counted, not timed: a job may be suspended for hours
        with contextlib.suppress(Exception):  # the scheduler is lost: reported elsewhere
            while not is_over.wait(_CHECK_INTERVAL_S):
                before = waited
                waited = 0.0 if workers.count_connected() else waited + _CHECK_INTERVAL_S
                if waited > NO_WORKER_TIMEOUT_S:
                    is_given_up.set()
                    workers.client.close()
                    return
                if before <= NO_WORKER_TIMEOUT_S / 10 < waited:
                    limit = f"{NO_WORKER_TIMEOUT_S:.0f} s"
                    note(f"no worker is left; waiting {limit} for another one")

    if not workers.may_queue:
        threading.Thread(target=check, name="hyperhpc-losses", daemon=True).start()
    try:
        yield
    except (Exception, CancelledError):
        if not is_given_up.is_set():  # else the closed client is the cause
            raise
        raise IncompleteRunError(
            f"All workers were lost, and none came back within {NO_WORKER_TIMEOUT_S:.0f} s; "
            "what is finished is kept",
            "Find out why they ended, and give the same command again to resume",
        ) from None
    finally:
        is_over.set()
