"""Run a command and note what it takes: seconds, and the memory of all its processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

#: Seconds between two looks at the memory.
INTERVAL = 0.1
#: This checkout's command, whatever else is on PATH.
HYPERHPC = [sys.executable, "-m", "hyperhpc"]


@dataclass(frozen=True)
class Taken:
    """What a command took.

    Attributes
    ----------
    seconds
        Wall time of the whole process.
    peak_mib
        Largest sum over the process and all its descendants, as sampled.
    watching_seconds
        Spent on sampling, beside the command; it shows whether that could disturb.
    """

    seconds: float
    peak_mib: float
    watching_seconds: float


class CommandError(RuntimeError):
    """A command that was to be measured failed; its last words are the message."""


def measure(command: Sequence[str], log: Path, *, timeout: float = 3600.0) -> Taken:
    """Run a command to its end, its output in ``log``.

    Raises
    ------
    CommandError
        If it fails, or takes longer than ``timeout`` seconds; nothing of it is left.
    """
    show(command)
    log.parent.mkdir(parents=True, exist_ok=True)
    peak = watching = 0.0
    with log.open("w") as out:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            while True:
                try:
                    status = process.wait(INTERVAL)
                    seconds = time.perf_counter() - start
                    break
                except subprocess.TimeoutExpired:
                    before = time.perf_counter()
                    peak = max(peak, tree_mib(process.pid))
                    watching += time.perf_counter() - before
                if before - start > timeout:
                    raise CommandError(f"{shlex.join(command)} took more than {timeout} s")
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        words = "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:])
        raise CommandError(f"{shlex.join(command)} ended with {status}:\n{words}")
    return Taken(round(seconds, 3), round(peak, 1), round(watching, 3))


def tree_mib(pid: int) -> float:
    """Memory of a process and all its descendants now, pages they share counted once."""
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    return sum(_process_bytes(process) for process in family) / 2**20


def _process_bytes(process: psutil.Process) -> int:
    """Proportional set size (PSS); resident set size where the kernel does not tell it."""
    try:
        with open(f"/proc/{process.pid}/smaps_rollup", encoding="ascii") as lines:
            kib = next((line.split()[1] for line in lines if line.startswith("Pss:")), None)
        if kib is not None:
            return int(kib) * 1024
    except OSError:
        pass
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it has ended
        return 0


def show(command: Sequence[str]) -> None:
    """Print a command as it could be typed."""
    words = ["python" if word == sys.executable else str(word) for word in command]
    text = shlex.join(words).replace("python -m hyperhpc", "hyperhpc")
    print(f"$ {text}", file=sys.stderr, flush=True)
