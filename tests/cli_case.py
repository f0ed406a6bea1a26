"""The command line for the tests: called in this process, or as a program of its own."""

from __future__ import annotations

import contextlib
import io
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import AnyStr

import psutil
import pytest

from hyperhpc.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that says what is wrong."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        return line

    @property
    def hint(self) -> str:
        """The line that says what to do; empty if there is none."""
        lines = [line for line in self.err.splitlines() if line.startswith("  hint: ")]
        assert len(lines) <= 1
        return lines[0].removeprefix("  hint: ") if lines else ""


def call(*words: str | Path) -> Outcome:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stop,
    ):
        main([str(word) for word in words])
    assert isinstance(stop.value.code, int)
    return Outcome(stop.value.code, out.getvalue(), err.getvalue())


def command_of(process: psutil.Process) -> str:
    """Command line of a process; empty if it has ended, waited for or not."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def program(*words: str | Path) -> list[str]:
    """The words that start a command as a program."""
    return [sys.executable, "-m", "hyperhpc", *map(str, words)]


class Program(subprocess.Popen[AnyStr]):
    """A program of a test, in a ``with`` block: it ends with a test that fails in the block.

    Popen would wait for it, and the tests would hang.
    """

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, traceback)


def spawn(*words: str | Path) -> Outcome:
    """Run a command as a program of its own."""
    done = subprocess.run(program(*words), capture_output=True, text=True, timeout=300)
    return Outcome(done.returncode, done.stdout, done.stderr)


def kill_in_classify(scene: Path, out: Path, options: Sequence[str], at_least: int = 2) -> Path:
    """Kill a run without warning when so many tiles of pass 2 are finished."""
    with Program(program("run", scene, out, *options), stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 100
        while len(list((out / "work" / "classify").glob("*.json"))) < at_least:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.001)
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=100)  # its workers see that it is gone
    assert not alive
    return out


def check_refused(outcome: Outcome, code: int, *parts: str) -> None:
    """One message on stderr in our style, nothing on stdout, no traceback."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    assert not outcome.error.endswith(".")
    assert not outcome.hint.endswith(".")
    shown = outcome.error + outcome.hint
    for part in parts:  # each may start a sentence; test_messages.py checks capitals
        assert part in shown or part[0].upper() + part[1:] in shown, outcome.err


def options_in(hint: str) -> list[str]:
    """The options a hint names with a value, as they would be typed."""
    words = shlex.split(hint.replace(",", " "))
    found = []
    for option, value in pairwise(words):
        if option.startswith("--") and value[0].isdigit():
            found += [option, value]
    return found
