"""What worker processes need of the process that starts them."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any


@contextmanager
def silent(logger: logging.Logger) -> Iterator[None]:
    """Let a logger say nothing for a while."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def closed_on_error(stack: ExitStack) -> Iterator[None]:
    """Undo what was begun if the rest of it fails."""
    try:
        yield
    except BaseException:
        stack.close()
        raise


@contextmanager
def interrupts_kept() -> Iterator[None]:
    """Undo what importing dask_jobqueue does: Ctrl-C would exit with status 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def start_tracker() -> None:
    """Start multiprocessing's tracker so that it does not die of a signal for the client."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


@contextmanager
def main_hidden() -> Iterator[None]:
    """Keep new processes from importing the user's script.

    Python does so for functions defined there; workers run ours only. A script that calls
    ``hyperhpc.run`` outside ``if __name__ == "__main__"`` would call it again in each.
    """
    main: dict[str, Any] = sys.modules["__main__"].__dict__
    names = ("__file__", "__spec__")
    hidden: dict[str, Any] = {name: main[name] for name in names if name in main}
    main.pop("__file__", None)
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(hidden)


@contextmanager
def signals_later() -> Iterator[None]:
    """Hold back an interrupt while workers start or stop, which must not be cut in two.

    It takes seconds at most. A second signal is not held back, nor is one that comes while
    they stop because of an earlier one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {}
    error = sys.exception()
    is_stopping = error is not None and not isinstance(error, Exception)

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if (is_stopping or len(came) > 1) and callable(before[number]):
            before[number](number, frame)

    for number in map(int, (signal.SIGINT, signal.SIGTERM)):
        before[number] = signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])
