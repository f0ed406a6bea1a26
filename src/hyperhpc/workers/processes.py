"""What worker processes need of the process that starts them."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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

    It takes seconds at most; a second signal is not held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before: dict[int, Any] = {}

    def hold(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > 1 and callable(before[number]):
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
