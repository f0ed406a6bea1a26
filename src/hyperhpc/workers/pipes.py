"""Nanny and worker talk over pipes: nothing with a name, which a killed process would leave.

multiprocessing's own queues hold semaphores that are files in /dev/shm until somebody
removes them. Its tracker does, but whatever kills a job as a whole kills that as well.
"""

from __future__ import annotations

from multiprocessing import context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from queue import Empty
from typing import Any

#: By this name Dask's configuration finds :class:`PipeContext`.
METHOD = "hyperhpc"


class PipeQueue:
    """As much of a queue as a nanny needs: short messages, one reader at a time."""

    def __init__(self, reader: Connection, writer: Connection) -> None:
        self._reader, self._writer = reader, writer
        self._is_closed = False

    def put(self, message: Any) -> None:
        """Send; a message of less than 4 KiB goes as a whole or not at all."""
        if self._is_closed:
            raise ValueError("the queue is closed")
        self._writer.send(message)

    def get(self) -> Any:
        """Wait for a message."""
        return self._reader.recv()

    def get_nowait(self) -> Any:
        """A message that is there, else ``queue.Empty``."""
        if not self._reader.poll():
            raise Empty
        return self.get()

    def close(self) -> None:
        """Send no more. Who reads may still wait, so the pipe stays open."""
        self._is_closed = True

    def join_thread(self) -> None:
        """Nothing is on its way: there is no thread that sends."""


class PipeContext(SpawnContext):
    """Processes that are spawned, and queues that are pipes."""

    def Queue(self, maxsize: int = 0) -> Any:  # noqa: N802
        """As multiprocessing calls it."""
        return PipeQueue(*self.Pipe(duplex=False))


context._concrete_contexts[METHOD] = PipeContext()  # type: ignore[attr-defined]
