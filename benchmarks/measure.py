"""Run commands and measure them: seconds, and the memory of all their processes."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

#: Seconds between two samples of the memory.
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
        Time spent on sampling while the command ran: if large, it may have slowed it.
    """

    seconds: float
    peak_mib: float
    watching_seconds: float


class CommandError(RuntimeError):
    """A command to be measured failed; the message holds its last lines of output."""


def cache() -> Path:
    """Folder for scenes and runs: $HYPERHPC_CACHE/bench, as ``make clean`` names it."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HYPERHPC_CACHE") or Path(home) / "hyperhpc") / "bench"


@contextmanager
def scratch(name: str) -> Iterator[Path]:
    """A folder for the output of one command, removed at the end."""
    path = cache() / "runs" / name
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path / "out"
    finally:
        shutil.rmtree(path, ignore_errors=True)


def measure(command: Sequence[str], log: Path, *, timeout: float = 3600.0) -> Taken:
    """Run a command to its end, its output in ``log``.

    Raises
    ------
    CommandError
        If it fails, or takes longer than ``timeout`` seconds; its processes are killed.
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
    """Proportional set size (PSS); resident set size if the kernel does not provide it."""
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


def run_hyperhpc(scene: Path, workers: int = 2, memory: str = "4GiB") -> dict[str, Any]:
    """One ``hyperhpc run``: wall seconds, peak memory, seconds of its stages."""
    with scratch("run") as out:
        command = [*HYPERHPC, "run", str(scene), str(out), f"--workers={workers}"]
        taken = measure([*command, f"--memory-per-worker={memory}"], out.with_name("log"))
        return vars(taken) | read_run_figures(out)


def read_run_figures(out: Path) -> dict[str, Any]:
    """From run.json: seconds of the stages, memory of the largest worker (MiB), tiles."""
    found = json.loads((out / "run.json").read_text("utf-8"))
    stages = {stage["name"]: stage["seconds"] for stage in found["stages"]}
    return {
        "stages": stages,
        "staged_s": sum(stages.values()) - stages["report"],
        "worker_mib": max(
            mib for name, mib in found["peak_memory_mib"].items() if name != "client"
        ),
        "tiles": {stage["name"]: stage["tiles"] for stage in found["stages"] if "tiles" in stage},
    }
