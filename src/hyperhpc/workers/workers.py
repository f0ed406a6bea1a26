"""Connected workers, as the pipeline sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client

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
        Address of the dashboard, or None.
    may_wait
        True if workers stand in a queue, and there may be none for a long time.
    """

    client: Client
    count: int
    threads: int
    memory_bytes: int
    dashboard: str | None = None
    may_wait: bool = False

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

    def apply(self, function: Callable[..., Any], items: Iterable[Any]) -> list[Any]:
        """``function`` of each item, on workers; the results in the order of the items."""
        futures = [self.client.submit(function, item, pure=False) for item in items]
        return list(self.client.gather(futures))
