"""Cases are looked at in a child: it may crash, hang or ask for too much memory."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import signal
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

#: Seconds for one case; the slowest take one on a busy machine.
_PATIENCE_S = 30
#: What a child may use beyond what it has when it begins.
_MEMORY = 2 << 30


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


class Child:
    """A process that looks at cases one by one; started again when it has died."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def look_at(self, kind: str, seed: int, case: int) -> Outcome:
        """Look at one case."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, self._folder))
            self._process.start()
            theirs.close()
        assert self._pipe is not None
        try:
            self._pipe.send((kind, seed, case))
            if self._pipe.poll(_PATIENCE_S):
                label, finding = self._pipe.recv()
                return Outcome(label, finding)
        except (EOFError, OSError):
            self._process.join()
            number = -(self._process.exitcode or 0)
            self.close()
            name = signal.Signals(number).name if number > 0 else f"exit code {-number}"
            return Outcome("crash", f"the process ended by {name}")
        self.close()
        return Outcome("hang", f"no answer within {_PATIENCE_S} s")

    def close(self) -> None:
        """End the process, by force if it does not hear."""
        if self._process is not None and self._pipe is not None:
            self._pipe.close()
            self._process.join(1)
            self._process.kill()
            self._process.join()
        self._process = self._pipe = None


def _serve(pipe: Connection, folder: Path) -> None:
    """In the child: answer until nobody asks."""
    from formats import FORMATS
    from scene_case import damage_scene, examine

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = psutil.Process().memory_info().vms + _MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            kind, seed, case = pipe.recv()
        except EOFError:
            return
        whole, work = folder / kind, folder / "work"
        if not whole.exists():
            FORMATS[kind].make(whole)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        what = "nothing"
        try:
            damaged = damage_scene(kind, whole, work / "scene", seed, case)
            what = damaged.what
            answer: tuple[str, str | None] = (examine(kind, damaged), None)
        except Exception as error:  # noqa: BLE001 - all that is no answer is a finding
            answer = (type(error).__name__, f"{what}\n{traceback.format_exc()}")
        pipe.send(answer)
