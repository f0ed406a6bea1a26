"""What the user sees while it works: stage, pixels done, rate, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar
from rich.text import Text

#: Columns of a terminal that shows the workers too.
_WIDE = 110


class Progress:
    """Says nothing; the base of those that do, and right for notebooks and tests."""

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, unit: str = "px", tiles: int = 0
    ) -> Iterator[None]:
        """One stage, of ``total`` units (None: unknown), in so many tiles."""
        yield

    def advance(self, amount: int) -> None:
        """So many units more are done."""

    def note(self, text: str) -> None:
        """One line the user should read."""

    def confide(self, text: str) -> None:
        """One line that holds a secret: for the user's terminal, and for no file of ours."""

    def watch_workers(self, count: Callable[[], str], memory: Callable[[], str]) -> None:
        """Whom to ask how many workers are up (``3 of 4``), and the memory they use."""


class QuietProgress(Progress):
    """Says only what is a warning, on stderr."""

    def note(self, text: str) -> None:
        """Print it if it is a warning."""
        if text.startswith("warning"):
            Console(stderr=True, highlight=False, markup=False).print(text, soft_wrap=True)


class TerminalProgress(Progress):
    """A bar on a terminal, one line a stage elsewhere; all of it on stderr.

    Parameters
    ----------
    verbose
        Say how long each stage took; without a terminal, also how far it is, ten times, and
        how many workers are up.
    """

    def __init__(self, verbose: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar: RichBar | None = None
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
            self._console.print(f"{name} ...", soft_wrap=True)
            yield
            self._tell_time()
            return
        columns: list[Any] = [
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[tiles]}"),
            _Rate(unit),
            TimeRemainingColumn(elapsed_when_finished=True),
        ]
        if self._up and self._console.width >= _WIDE:
            columns.append(_Workers(self._up))
        with RichBar(*columns, console=self._console) as self._bar:
            self._tiles, self._done = tiles, 0
            self._task = self._bar.add_task(name, total=total, tiles=self._count())
            yield
            self._bar.update(self._task, total=total or 1, completed=total or 1)
        self._bar = None
        self._tell_time()

    def advance(self, amount: int) -> None:
        """Move the bar."""
        if self._verbose and not self._bar and (words := self._stage.advance(amount)):
            workers = _ask(self._up)
            self._console.print(f"  {words}{workers and '; '}{workers}", soft_wrap=True)
        if self._bar:
            self._done += 1
            self._bar.update(self._task, advance=amount, tiles=self._count())

    def watch_workers(self, count: Callable[[], str], memory: Callable[[], str]) -> None:
        """Whom to ask how many workers are up, and the memory they use."""
        self._up = lambda: f"{count()}, {memory()}"

    def _tell_time(self) -> None:
        if self._verbose:
            self._console.print(f"  {self._stage.took()}", soft_wrap=True)

    def _count(self) -> str:
        return f"{self._done}/{self._tiles} tiles" if self._tiles else ""

    def note(self, text: str) -> None:
        """Print one line above the bar."""
        self._console.print(text, soft_wrap=True)

    confide = note


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


class _Workers(ProgressColumn):
    """How many are up and what memory they use; asked once a second."""

    max_refresh = 1.0

    def __init__(self, count: Callable[[], str]) -> None:
        super().__init__()
        self._count = count

    def render(self, task: Task) -> Text:
        return Text(_ask(self._count))


def _ask(count: Callable[[], str] | None) -> str:
    """What is told of the workers; nothing while their cluster is being closed."""
    with contextlib.suppress(Exception):
        return f"workers: {count()}" if count else ""
    return ""


class _Rate(ProgressColumn):
    """Units a second, in millions where they are pixels."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        if not speed or not task.total or task.total <= 1:
            return Text("")
        if self._unit == "px":
            return Text(f"{speed / 1e6:6.2f} Mpx/s")
        return Text(f"{speed:6.1f} {self._unit}/s")
