"""What starting processes needs: signals, logs and imports of the process that starts them."""

from __future__ import annotations

import contextlib
import importlib
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from types import FrameType
from typing import Any

from hyperhpc.environment import TERMINATIONS


@contextmanager
def mute_logger(logger: logging.Logger) -> Iterator[None]:
    """Let a logger write nothing within the block."""
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def keep_interrupt_handler() -> Iterator[None]:
    """Undo what importing dask_jobqueue does: Ctrl-C would exit with status 0."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def start_resource_tracker() -> None:
    """Start multiprocessing's tracker so that SIGUSR1, sent to the client, does not end it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


@contextmanager
def hide_main_module() -> Iterator[None]:
    """Keep new processes from importing the user's script.

    Python imports it for functions that are defined there; workers run only functions of this
    package. A script that calls ``hyperhpc.run`` outside ``if __name__ == "__main__"`` would
    call it again in each worker.
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
def delay_signals() -> Iterator[None]:
    """Delay an interrupt until workers have started or stopped, which takes a few seconds.

    A second signal is not delayed, nor is one that comes while workers stop because of an
    earlier one: a handler with a method ``end_now`` ends the process then.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before: dict[int, Any] = {}
    error = sys.exception()
    is_stopping = error is not None and not isinstance(error, Exception)

    def hold(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1 and (end_now := getattr(before[number], "end_now", None)):
            end_now(number)
        if (is_stopping or len(received) > 1) and callable(before[number]):
            before[number](number, frame)

    for number in map(int, (signal.SIGINT, *TERMINATIONS)):
        if signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if received:
            signal.raise_signal(received[0])


def import_in_background(name: str) -> None:
    """Begin to import a module in a thread, while the process waits for something else.

    An import that fails is left to the code that needs the module, which can say what for.
    """

    def load() -> None:
        with contextlib.suppress(Exception):
            importlib.import_module(name)

    threading.Thread(target=load, daemon=True).start()
