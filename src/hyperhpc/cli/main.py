"""Entry point: signals, exit codes, and the one place where errors are printed."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from hyperhpc.cli.commands import cli
from hyperhpc.cli.output import print_error
from hyperhpc.cli.streams import is_lost, lossy_streams
from hyperhpc.environment import TERMINATIONS, isolate
from hyperhpc.errors import HyperhpcError, ResourceError, describe_os_error, find_exhausted, os_hint

_INTERRUPTED, _TERMINATED = 130, 143


class _Terminated(BaseException):
    """One of TERMINATIONS, as an exception, so that everything open is closed."""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and exit with its status: the only place errors are caught."""
    isolate()
    words = list(sys.argv[1:] if args is None else args)
    with lossy_streams() as outputs, _handle_signals(words):
        code = _run_command(words)
        lost = is_lost(outputs)
        if lost and not code and not _keeps_results(words):
            code = _report_error(
                f"The result could not be written to standard output: {lost.strerror}",
                "Make room, or write it elsewhere",
                ResourceError.exit_code,
            )
    _write_exit_file(code)
    if args is None and code in (_INTERRUPTED, _TERMINATED):
        sys.unraisablehook = lambda lost: None  # of coroutines that were at work
    sys.exit(code)


def _run_command(words: list[str]) -> int:
    """Run a command; its errors are printed. Returns the exit code."""
    try:
        code = cli.main(words, prog_name="hyperhpc", standalone_mode=False)
    except click.exceptions.Exit as error:
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = _report_stop("interrupted", words, _INTERRUPTED)
    except _Terminated:
        code = _report_stop("terminated", words, _TERMINATED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "hyperhpc"
        message = error.format_message().rstrip(".")
        code = _report_error(message, f"See {command} --help", error.exit_code)
    except HyperhpcError as error:
        code = _report_error(error.message, error.hint, error.exit_code)
    except (BlockingIOError, RuntimeError) as error:
        found = find_exhausted(error)
        if found is None:
            raise
        code = _report_error(found.message, found.hint, found.exit_code)
    except OSError as error:  # errors of a disk are rare enough to be handled here only
        code = _report_error(describe_os_error(error), os_hint(error), ResourceError.exit_code)
    except MemoryError as error:
        code = _report_error(
            f"Not enough memory: {error}",
            "Use fewer workers, or ask for more memory",
            ResourceError.exit_code,
        )
    return code if isinstance(code, int) else 0


class _Stops:
    """The first signal stops a run in order, the second at once; finished work is kept."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words, self.count = words, 0

    def __call__(self, number: int, frame: object) -> None:
        self.count += 1
        if self.count > 1:
            self.end_now(number)
        raise KeyboardInterrupt if number == signal.SIGINT else _Terminated

    def end_now(self, number: int) -> NoReturn:
        """End the process; the workers notice it, and the next run takes over its lock."""
        if number == signal.SIGINT:
            code = _report_stop("interrupted", self._words, _INTERRUPTED)
        else:
            code = _report_stop("terminated", self._words, _TERMINATED)
        _write_exit_file(code)
        os._exit(code)


@contextlib.contextmanager
def _handle_signals(words: Sequence[str]) -> Iterator[None]:
    """Turn signals into exceptions; those that are ignored (nohup) stay so."""
    stops, before = _Stops(words), {}
    for number in (signal.SIGINT, *TERMINATIONS):
        now = signal.getsignal(number)
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        if now == usual:
            before[number] = signal.signal(number, stops)
    hook, sys.unraisablehook = sys.unraisablehook, _send_again
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _write_exit_file(code: int) -> None:
    """Write the exit code for job scripts: srun returns only the highest of its tasks."""
    if path := os.environ.get("HYPERHPC_EXIT_FILE"):
        with contextlib.suppress(OSError):
            Path(path).write_text(f"{code}\n", "ascii")


def _send_again(lost: Any) -> None:
    """Send a signal again that came while an object was being deleted, and was lost."""
    for kind, number in ((KeyboardInterrupt, signal.SIGINT), (_Terminated, signal.SIGTERM)):
        if issubclass(lost.exc_type, kind):
            handler = signal.getsignal(number)
            if isinstance(handler, _Stops):
                handler.count = 0
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
            return
    sys.__unraisablehook__(lost)


def _report_error(message: str, hint: str | None, code: int) -> int:
    _silence_asyncio()
    print_error(f"error: {message}")
    if hint:
        print_error(f"  hint: {hint}")
    return code


def _keeps_results(words: Sequence[str]) -> bool:
    """True for commands that work long, and whose results lie in a folder."""
    return words[:1] in (["run"], ["demo"], ["ingest"])


def _report_stop(how: str, words: Sequence[str], code: int) -> int:
    """Say how to resume, if that is possible."""
    _silence_asyncio()
    if _keeps_results(words):
        again = shlex.join(["hyperhpc", *(word for word in words if word != "--restart")])
        print_error(f"{how}; finished work is kept. To resume: {again}")
    else:
        print_error(how)
    return code


def _silence_asyncio() -> None:
    """Of the errors of concurrent tasks one is reported; asyncio would print the others."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)


if __name__ == "__main__":
    main()
