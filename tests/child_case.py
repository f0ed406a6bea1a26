"""Cases are looked at in a child: it may crash, hang or ask for too much memory."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes
    ----------
    label
        In few words, for the tally.
    finding
        What must not be; None if all is well.
    """

    label: str
    finding: str | None = None


#: Gives the label of a case in few words; whatever it raises is a finding.
Answer = Callable[..., str]


class Child:
    """A process that looks at cases one by one; started again when it has died.

    ``answer``: A function of a module; it is given a folder and the words of a case.
    ``memory_bytes``: What the child may use beyond what it has when it begins.
    """

    def __init__(
        self, answer: Answer, folder: Path, patience_s: float = 30, memory_bytes: int | None = None
    ) -> None:
        self._answer, self._folder = answer, folder
        self._patience_s, self._memory_bytes = patience_s, memory_bytes
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def look_at(self, *words: str | int) -> Outcome:
        """Look at one case."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            parts = (theirs, self._answer, self._folder, self._memory_bytes)
            self._process = context.Process(target=_serve, args=parts)
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        try:
            self._pipe.send(words)
            if self._pipe.poll(self._patience_s):
                label, finding = self._pipe.recv()
                return Outcome(label, finding)
        except (EOFError, OSError):
            self._process.join()
            number = -(self._process.exitcode or 0)
            self.close()
            name = signal.Signals(number).name if number > 0 else f"exit code {-number}"
            return Outcome("crash", f"the process ended by {name}")
        self.close()
        return Outcome("hang", f"no answer within {self._patience_s} s")

    def close(self) -> None:
        """End the process, by force if it does not hear."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join(1)
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _serve(pipe: Connection, answer: Answer, folder: Path, memory_bytes: int | None) -> None:
    """In the child: answer until nobody asks."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        limit = psutil.Process().memory_info().vms + memory_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            words = pipe.recv()
        except EOFError:
            return
        try:
            found: tuple[str, str | None] = (answer(folder, *words), None)
        except BaseException as error:  # noqa: BLE001 - all that is no answer is a finding
            found = (type(error).__name__, traceback.format_exc())
        pipe.send(found)
