"""Stop a run in time: a batch system says beforehand that it will end a job.

Slurm sends SIGUSR1 (``--signal=USR1@180``). A signal to all processes of a job also reaches
those that hold a container's file system, so our job scripts leave the file named in
``HYPERHPC_STOP_FILE`` instead.
"""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_S = 1.0


class StopRequest(BaseException):
    """Raised in the main thread; not an error, so that nothing takes it for one."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Turn SIGUSR1, or the file, into a :class:`StopRequest`; for the main thread."""

    def stop(number: int, frame: object) -> None:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # once is enough
        raise StopRequest

    over = threading.Event()
    before = signal.signal(signal.SIGUSR1, stop)
    if path := os.environ.get("HYPERHPC_STOP_FILE"):
        threading.Thread(target=_watch, args=(Path(path), over), daemon=True).start()
    try:
        yield
    finally:
        over.set()
        signal.signal(signal.SIGUSR1, before)


def _watch(path: Path, over: threading.Event) -> None:
    while not over.wait(_LOOK_S):
        if path.exists():
            os.kill(os.getpid(), signal.SIGUSR1)
            return


def go_on(command: str) -> str:
    """What to type to go on with what this command has begun."""
    if not command.startswith("hyperhpc "):  # in Python, or not known
        return "give the same command again: it goes on from there"
    words = (word for word in shlex.split(command) if word != "--restart")
    return f"give the same command again, it goes on from there: {shlex.join(words)}"
