"""OUT/status.txt: what a run is doing, for those who cannot see its terminal.

A few lines of ``key: value`` that are replaced about once a second, whole or not at all;
``hyperhpc status`` and ``jobs/status.sh`` read them, and need no connection.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich import progress as rich_progress
from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from hyperhpc.errors import IncompleteRunError
from hyperhpc.files import atomic_write
from hyperhpc.reading import read_file
from hyperhpc.rundir.folder import RunFolder, find_run_folder, no_run_error, partial_store
from hyperhpc.rundir.lock import Claim, is_abandoned

#: Columns of a terminal that shows the workers too.
_WIDE = 110


class Progress:
    """Shows nothing; the base of those that do, and right for notebooks and tests."""

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "px", tiles: int = 0
    ) -> Iterator[None]:
        """One stage, of ``total`` units (None: unknown), in so many tiles."""
        yield

    def advance(self, amount: int) -> None:
        """Count this amount of units as done."""

    def note(self, text: str) -> None:
        """Show one line that the user should read."""

    def note_secret(self, text: str) -> None:
        """Show one line that holds a secret: on the terminal, and in no file of ours."""

    def watch_workers(self, count: Callable[[], str], memory: Callable[[], str]) -> None:
        """Set functions that say how many workers are up (``3 of 4``), and their memory."""


class QuietProgress(Progress):
    """Shows only warnings, on stderr."""

    def note(self, text: str) -> None:
        """Print it if it is a warning."""
        if text.startswith("warning"):
            Console(stderr=True, highlight=False, markup=False).print(text, soft_wrap=True)


class TerminalProgress(Progress):
    """A bar on a terminal, one line a stage elsewhere; all of it on stderr.

    ``verbose``: Show how long each stage took; without a terminal, also how far it is, ten
        times, and how many workers are up.
    """

    def __init__(self, verbose: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar: rich_progress.Progress | None = None
        self._task: Any = None
        self._tiles = self._done = 0
        self._verbose = verbose
        self._stage = _Stage("", None, "")
        self._up: Callable[[], str] | None = None

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "px", tiles: int = 0
    ) -> Iterator[None]:
        """Show a bar that stays when the stage is over."""
        self._stage = _Stage(name, total, unit)
        if not self._console.is_terminal:
            self.note(f"{name} ...")
            yield
            self._show_time()
            return
        columns: list[Any] = [
            rich_progress.SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<20}"),
            rich_progress.BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[tiles]}"),
            _Words(lambda task: _rate(task, unit)),
            rich_progress.TimeRemainingColumn(elapsed_when_finished=True),
        ]
        if self._up and self._console.width >= _WIDE:
            columns.append(_Words(lambda task: _ask(self._up), max_refresh=1.0))
        with rich_progress.Progress(*columns, console=self._console) as self._bar:
            self._tiles, self._done = tiles, 0
            self._task = self._bar.add_task(name, total=total, tiles=self._count())
            yield
            self._bar.update(self._task, total=total or 1, completed=total or 1)
        self._bar = None
        self._show_time()

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._verbose and not self._bar and (words := self._stage.advance(amount)):
            workers = _ask(self._up)
            self.note(f"  {words}{workers and '; '}{workers}")
        if self._bar:
            self._done += 1
            self._bar.update(self._task, advance=amount, tiles=self._count())

    def watch_workers(self, count: Callable[[], str], memory: Callable[[], str]) -> None:
        """Set functions that say how many workers are up, and the memory they use."""
        self._up = lambda: f"{count()}, {memory()}"

    def _show_time(self) -> None:
        if self._verbose:
            self.note(f"  {self._stage.took()}")

    def _count(self) -> str:
        return f"{self._done}/{self._tiles} tiles" if self._tiles else ""

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self._console.print(text, soft_wrap=True)

    note_secret = note


class _Stage:
    """How far a stage is, in words, for logs."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._start, self._done, self._tenths = time.perf_counter(), 0, 0

    def advance(self, amount: int) -> str:
        """After each tenth: share, rate and seconds left; else nothing."""
        self._done += amount
        if not self._total or self._done >= self._total:
            return ""
        tenths = 10 * self._done // self._total
        if tenths == self._tenths:
            return ""
        self._tenths = tenths
        seconds = time.perf_counter() - self._start
        left = seconds * (self._total - self._done) / self._done
        rate = f", {self._done / seconds / 1e6:.2f} Mpx/s" if self._unit == "px" else ""
        return f"{10 * tenths} %{rate}, {left:.0f} s left"

    def took(self) -> str:
        """Name and seconds."""
        return f"{self._name} took {time.perf_counter() - self._start:.1f} s"


class _Words(rich_progress.ProgressColumn):
    """What a function says of a task, asked at most every ``max_refresh`` seconds."""

    def __init__(
        self, say: Callable[[rich_progress.Task], str], max_refresh: float | None = None
    ) -> None:
        super().__init__()
        self._say, self.max_refresh = say, max_refresh

    def render(self, task: rich_progress.Task) -> Text:
        return Text(self._say(task))


def _ask(count: Callable[[], str] | None) -> str:
    """What is known of the workers; nothing while their cluster is being closed."""
    with contextlib.suppress(Exception):
        return f"workers: {count()}" if count else ""
    return ""


def _rate(task: rich_progress.Task, unit: str) -> str:
    """Units a second, in millions where they are pixels."""
    speed = task.finished_speed or task.speed
    if not speed or not task.total or task.total <= 1:
        return ""
    return f"{speed / 1e6:6.2f} Mpx/s" if unit == "px" else f"{speed:6.1f} {unit}/s"


_EVERY_S = 1.0
#: Seconds between updates in a long step.
_HEARTBEAT_S = 10.0


class StatusFile(Progress):
    """Passes everything on to another progress, and keeps status.txt up to date.

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
        self._lines = {"state": "running", "launcher": launcher}
        self._lines |= {"host": socket.gethostname(), "process": str(os.getpid())}
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

    def note_secret(self, text: str) -> None:
        """Pass it on, but keep it out of the file, which others may read."""
        self._inner.note_secret(text)

    def watch_workers(self, count: Callable[[], str], memory: Callable[[], str]) -> None:
        """Set functions that say how many workers are up, and the memory they use."""
        self._workers = count
        self._inner.watch_workers(count, memory)
        self._write()

    def end(self, state: str, error: str | None = None) -> None:
        """Write the last state: complete, stopped or failed, and why."""
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
        # Called without the lock: it may note a lost worker first, which takes the lock
        if count := self._workers:
            with contextlib.suppress(Exception):  # the cluster is being closed
                self._lines["workers"] = count()
        with self._lock, contextlib.suppress(OSError, IncompleteRunError):
            self._written = time.monotonic()
            self._lines["updated"] = datetime.now(UTC).isoformat(timespec="seconds")
            if self._claim:
                self._claim.check()
            with atomic_write(self._path, flush=False) as part:
                text = "".join(f"{k}: {v}\n" for k, v in self._lines.items())
                part.write_text(text, "utf-8", "backslashreplace")


def read_status(out: Path) -> dict[str, str]:
    """What a run, or the ingest of a store, is doing by its status.txt, and how its job fares.

    Returns: the lines of ``status.txt``; of ``slurm/job``, which jobs/submit.sh and the job
    write, ``job``, and the others as ``job_error``, ``job_exit``, ``job_log`` and so on. If
    ``status.txt`` is of an earlier job, its state is given as ``before``, and ``state`` is
    ``queued``, ``started`` or ``ended``. ``state`` is ``died`` if nobody holds the lock of a run
    that says ``running``.
    Raises ConfigError: if there is neither a run nor a job for one; ResourceError: the folder may
    not be read.
    """
    folder, part = RunFolder(out), partial_store(out)
    run = _read_alive(folder) or _read_alive(part)
    job = _read_lines(folder.job)
    if not (run or job) and folder.checksums.is_file():
        return {"state": "complete"}  # a finished store holds nothing else of its ingest
    if not (run or job):
        find_run_folder(out)  # says whether there is none, or it may not be read
        raise no_run_error(out)
    number = job.pop("job", None)
    if number and (not run or run.get("job", number) != number):
        state = "ended" if "exit" in job else "started" if "started" in job else "queued"
        before = {"before": f"job {run['job']}: {run.get('state')}"} if run else {}
        run = {"state": state, "job": number} | before
    return run | {f"job_{key}": value for key, value in job.items()}


def _read_alive(folder: RunFolder) -> dict[str, str]:
    """The lines of status.txt; a run that says that it works, and holds no lock, has died."""
    run = _read_lines(folder.status)
    if run.get("state") != "running" or not is_abandoned(folder.out):
        return run
    run = _read_lines(folder.status)  # it may have ended meanwhile
    if run.get("state") != "running":
        return run
    why = "its process ended without a word; give the same command again to resume"
    return run | {"state": "died", "error": why}


def _read_lines(path: Path) -> dict[str, str]:
    """The ``key: value`` lines of a file; none if it cannot be read."""
    try:
        lines = read_file(path).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    return dict(line.split(": ", 1) for line in lines if ": " in line)


# Stop a run in time: a batch system announces that it will end a job.
#
# Slurm sends SIGUSR1 (``--signal=USR1@180``). A signal to all processes of a job also reaches
# those that hold a container's file system, so our job scripts leave the file named in
# ``HYPERHPC_STOP_FILE`` instead.

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


def resume_hint(command: str) -> str:
    """What to type to resume what this command has begun."""
    if not command.startswith("hyperhpc "):  # in Python, or not known
        return "Give the same command again: it resumes from there"
    words = (word for word in shlex.split(command) if word != "--restart")
    return f"Give the same command again, it resumes from there: {shlex.join(words)}"
