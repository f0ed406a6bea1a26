"""Connected workers, as the pipeline sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client, Future

#: Told one line that the user should read.
Note = Callable[[str], None]


@dataclass
class Workers:
    """Connected workers.

    Attributes
    ----------
    client
        Speaks TLS to all of them.
    count, threads
        Number of worker processes wanted, and threads in each. Fewer may be up.
    memory_bytes
        Limit of each worker.
    dashboard
        Address of a dashboard on this machine, or None. It holds a secret: it is for this
        user's terminal, and for no file that others may read.
    may_wait
        True if workers stand in a queue, and there may be none for a long time.
    engaged
        Long tasks, and the worker each was sent to.
    """

    client: Client
    count: int
    threads: int
    memory_bytes: int
    dashboard: str | None = None
    may_wait: bool = False
    engaged: dict[Future, str] = field(default_factory=dict)

    def up(self) -> int:
        """How many are connected now, as last heard of."""
        return len(self.client.scheduler_info(n_workers=-1)["workers"])

    def count_up(self) -> str:
        """How many are connected, of how many: ``3 of 4``."""
        return f"{self.up()} of {self.count}"

    def memory_used(self) -> str:
        """What all of them use together, as last heard of: ``1.1 GiB``."""
        known = self.client.scheduler_info(n_workers=-1)["workers"].values()
        used = sum(worker.get("metrics", {}).get("memory", 0) for worker in known)
        return f"{used / 2**30:.1f} GiB"

    def places(self) -> list[str]:
        """Addresses of those that are connected, in an order that stays; at least one."""
        self.client.wait_for_workers(1)  # all may have been lost just now
        return sorted(self.client.scheduler_info(n_workers=-1)["workers"])

    def engage(self, function: Callable[..., Any], *args: Any) -> Future:
        """Send one long task to the first worker, and remember where it is."""
        place = self.places()[0]
        future = self.client.submit(
            function, *args, pure=False, workers=[place], allow_other_workers=True
        )
        self.engaged[future] = place
        return future

    def apply(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """``function`` of each item, on workers; the results in the order of the items."""
        futures = [self.client.submit(function, item, pure=False) for item in items]
        return list(self.client.gather(futures))
