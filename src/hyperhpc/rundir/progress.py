"""OUT/status.txt: what a run is doing, for those who cannot see its terminal.

A few lines of ``key: value`` that are written anew about once a second, whole or not at
all; ``hyperhpc status`` and ``jobs/status.sh`` read them, and need no connection.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from hyperhpc.errors import ConfigError, IncompleteRunError
from hyperhpc.pipeline.progress import Progress
from hyperhpc.rundir.lock import Claim

_EVERY_S = 1.0
#: A sign of life in a long step.
_HEARTBEAT_S = 10.0


class StatusFile(Progress):
    """Hands on to another progress what it is told, and keeps the file up to date.

    A file that cannot be written is no reason to stop a run: then it is left as it is, and
    so it is when OUT has become another run's.
    """

    def __init__(
        self, path: Path, inner: Progress, launcher: str, claim: Claim | None = None
    ) -> None:
        self._path, self._inner, self._claim = path, inner, claim
        self._workers: Callable[[], str] | None = None
        self._lock, self._over = threading.Lock(), threading.Event()
        self._written = 0.0
        self._lines: dict[str, str] = {
            "state": "running",
            "launcher": launcher,
            "host": socket.gethostname(),
            "process": str(os.getpid()),
        }
        if job := os.environ.get("SLURM_JOB_ID"):
            self._lines["job"] = job
        self._write()
        threading.Thread(target=self._beat, daemon=True).start()

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "px", tiles: int = 0
    ) -> Iterator[None]:
        """Note the stage."""
        for key in ("tiles", "pixels_per_second", "seconds_left"):
            self._lines.pop(key, None)
        self._lines["stage"] = name
        self._total, self._tiles, self._done, self._done_tiles = total or 0, tiles, 0, 0
        self._start = time.monotonic()
        self._write()
        with self._inner.stage(name, total, unit, tiles=tiles):
            yield

    def advance(self, amount: int) -> None:
        """Note how far it is."""
        self._inner.advance(amount)
        self._done += amount
        self._done_tiles += 1
        seconds = time.monotonic() - self._start
        if self._tiles:
            rate = self._done / max(seconds, 1e-3)
            self._lines["tiles"] = f"{self._done_tiles} of {self._tiles}"
            self._lines["pixels_per_second"] = f"{rate:.0f}"
            self._lines["seconds_left"] = f"{(self._total - self._done) / rate:.0f}"
        if time.monotonic() - self._written >= _EVERY_S:
            self._write()

    def note(self, text: str) -> None:
        """Keep the last line the user should read."""
        self._inner.note(text)
        self._lines["message"] = " ".join(text.split())
        self._write()

    def confide(self, text: str) -> None:
        """Hand it on; whoever may read OUT may read the file."""
        self._inner.confide(text)

    def watch_workers(self, count: Callable[[], str], memory: Callable[[], str]) -> None:
        """Whom to ask how many workers are up."""
        self._workers = count
        self._inner.watch_workers(count, memory)
        self._write()

    def end(self, state: str, error: str | None = None) -> None:
        """The last words: complete, stopped or failed, and why."""
        self._over.set()
        self._workers = None
        self._lines["state"] = state
        self._lines.pop("seconds_left", None)
        if error:
            self._lines["error"] = " ".join(error.split())
        self._write()

    def how_far(self) -> str:
        """Stage and tiles, in words."""
        tiles = self._lines.get("tiles")
        stage = self._lines.get("stage", "the start")
        return f"{stage}, {tiles} tiles" if tiles else stage

    def _beat(self) -> None:
        while not self._over.wait(_HEARTBEAT_S):
            self._write()

    def _write(self) -> None:
        # Asked without the lock: who answers may tell of a lost worker first, which takes it
        if count := self._workers:
            with contextlib.suppress(Exception):  # the cluster is being closed
                self._lines["workers"] = count()
        with self._lock:
            self._write_alone()

    def _write_alone(self) -> None:
        self._written = time.monotonic()
        self._lines["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
        part = self._path.with_name(f".{self._path.name}.part-{os.getpid()}")
        with contextlib.suppress(OSError, IncompleteRunError):
            if self._claim:
                self._claim.check()
            part.write_text("".join(f"{k}: {v}\n" for k, v in self._lines.items()), "utf-8")
            part.replace(self._path)
            return
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def read_status(out: Path) -> dict[str, str]:
    """What a run is doing, as it last said, and how the job fares that was submitted for it.

    Returns
    -------
    The lines of ``status.txt``; of ``slurm/job``, which jobs/submit.sh begins and the job goes
    on with, ``job`` and the others as ``job_error``, ``job_exit``, ``job_log`` and so on. What
    an earlier job has said is told in short, as ``before``; then ``state`` is ``queued``,
    ``started`` or ``ended``.

    Raises
    ------
    ConfigError
        If there is neither a run nor a job for one.
    """
    run, job = _read_lines(out / "status.txt"), _read_lines(out / "slurm" / "job")
    if not (run or job):
        raise ConfigError(
            f"{out} holds no run of hyperhpc", f"make one with: hyperhpc run SCENE {out}"
        )
    number = job.pop("job", None)
    if number and (not run or run.get("job", number) != number):
        state = "ended" if "exit" in job else "started" if "started" in job else "queued"
        before = {"before": f"job {run['job']}: {run.get('state')}"} if run else {}
        run = {"state": state, "job": number} | before
    return run | {f"job_{key}": value for key, value in job.items()}


def _read_lines(path: Path) -> dict[str, str]:
    """The ``key: value`` lines of a file; none if it cannot be read."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(": ", 1) for line in lines if ": " in line)
