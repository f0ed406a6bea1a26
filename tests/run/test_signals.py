"""Ctrl-C and SIGTERM: a quiet end, no process left behind, and the way to go on."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from cli_case import Outcome, Program, command_of, program, spawn
from hyperhpc.simulate.scene import simulate
from hyperhpc.workers.processes import delay_signals, hide_main_module
from run_case import assert_same_results

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
LIMIT_S = 120.0


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of a few seconds; each test resumes what the one before has left."""
    folder = tmp_path_factory.mktemp("signals") / "a folder"
    simulate(folder / "scene.zarr", 300, 300, bands=60, seed=1, zarr_format=2)
    options = "--workers 2 --memory-per-worker 1GiB --models lloyd".split()
    return ["run", str(folder / "scene.zarr"), str(folder / "out"), *options]


def stop_run(words: list[str], event: Callable[[], bool], send: Callable[[int], None]) -> Outcome:
    """Start a run, wait for an event, send a signal; no process may stay."""
    process = subprocess.Popen(
        program(*words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + LIMIT_S
        while not event():
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the event never came"
            time.sleep(0.002)
        family = psutil.Process(process.pid).children(recursive=True)
        send(process.pid)
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=LIMIT_S)
    assert not alive
    return Outcome(process.returncode, out, err)


def check_stopped(outcome: Outcome, code: int, how: str, words: list[str]) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    *before, last = [line for line in outcome.err.splitlines() if line]
    again = shlex.join(["hyperhpc", *(word for word in words if word != "--restart")])
    assert last == f"{how}; finished work is kept. To resume: {again}"
    assert all(line.endswith(" ...") for line in before), outcome.err


@pytest.mark.e2e
def test_run__interrupt_terminate_and_resume(words: list[str], tmp_path: Path) -> None:
    out = Path(words[2])
    check_stopped(
        stop_run(
            words,
            lambda: any((out / "work" / "sample").glob("*.json")),
            lambda pid: os.killpg(pid, signal.SIGINT),  # as a terminal does, workers too
        ),
        130,
        "interrupted",
        words,
    )
    check_stopped(
        stop_run(
            words,
            lambda: any((out / "work").glob("subsample*")),
            lambda pid: os.kill(pid, signal.SIGTERM),
        ),
        143,
        "terminated",
        words,
    )
    done = spawn(*words)
    assert done.code == 0, done.err
    assert (out / "report.html").exists()


@pytest.mark.e2e
def test_run__signals_while_workers_start(words: list[str]) -> None:
    again = [*words, "--restart"]
    out = Path(words[2])

    def has_children() -> bool:
        found = [p for p in psutil.Process().children() if out.name in command_of(p)]
        with contextlib.suppress(psutil.NoSuchProcess):
            return any("spawn_main" in command_of(c) for p in found for c in p.children())
        return False

    for number, code, how in (
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
    ):
        outcome = stop_run(again, has_children, lambda pid, number=number: os.killpg(pid, number))
        check_stopped(outcome, code, how, again)


def test_signal__lost_in_a_destructor_comes_again() -> None:
    script = (
        "import os, signal, sys, time, click\n"
        "from hyperhpc.cli.main import cli, main\n"
        "class Dying:\n"
        "    def __del__(self):\n"
        "        signal.raise_signal(int(sys.argv[1]))\n"
        "@cli.command()\n"
        "def die():\n"
        "    Dying()\n"
        "    time.sleep(60)\n"
        "main(['die'])\n"
    )
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        done = subprocess.run(
            [sys.executable, "-c", script, str(int(number))], capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert done.stderr.strip() in ("interrupted", "terminated")


DEAF = """
import signal, sys, time
from hyperhpc.cli.main import cli, main
from hyperhpc.workers.processes import delay_signals
def wait():
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
@cli.command()
def hang():
    try:
        wait()
    finally:  # it closes what does not answer
        wait()
@cli.command()
def start():
    with delay_signals():
        wait()
main([sys.argv[1]])
"""
TERMINATIONS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


@pytest.mark.parametrize("number", TERMINATIONS)
def test_signal__the_second_ends_a_deaf_process_at_once(number: int) -> None:
    command = "start" if number == signal.SIGHUP else "hang"
    with Program(
        [sys.executable, "-c", DEAF, command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        if command == "hang":
            process.stdout.readline()
        time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 143
    assert err == "terminated\n"


LIMITED = """
import sys, threading
from hyperhpc.cli.main import cli, main
@cli.command()
def thread():
    raise RuntimeError("can't start new thread")
@cli.command()
def process():
    raise BlockingIOError(11, "Resource temporarily unavailable")
main([sys.argv[1]])
"""


@pytest.mark.parametrize("command", ["thread", "process"])
def test_main__says_that_nothing_more_can_be_started(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, command], capture_output=True, text=True, timeout=LIMIT_S
    )
    assert done.returncode == 5
    assert done.stderr.startswith("error: No more threads or processes can be started")


def test_signal__nohup_stays_in_force() -> None:
    script = "import signal; from hyperhpc.cli.main import cli, main\n" + (
        "@cli.command()\ndef go():\n    signal.raise_signal(signal.SIGHUP); print('on')\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\nmain(['go'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "on\n"), done.stderr


def test_delay_signals__held_back_and_raised_at_the_end() -> None:
    steps = []

    def work() -> None:
        with delay_signals():
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert steps == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_delay_signals__second_is_not_held_back() -> None:
    steps = []

    def work() -> None:
        with delay_signals():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            steps.append("went on")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert not steps


def test_hide_main_module__comes_back() -> None:
    main = sys.modules["__main__"]
    before = dict(vars(main))
    with hide_main_module():
        assert not hasattr(main, "__file__")
        assert main.__spec__ is None
    assert vars(main) == before


@pytest.mark.e2e
def test_run__second_interrupt_stops_at_once_and_is_safe(words: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [*words[:2], str(out), *words[3:]]

    def send_twice(pid: int) -> None:
        os.killpg(pid, signal.SIGINT)
        time.sleep(0.05)
        os.killpg(pid, signal.SIGINT)

    for stage in ("sample", "classify"):
        begin = time.monotonic()
        stopped = stop_run(
            words,
            lambda stage=stage: any((out / "work" / stage).glob("*.json")),  # type: ignore[misc]
            send_twice,
        )
        check_stopped(stopped, 130, "interrupted", words)
        print(f"stopped {time.monotonic() - begin:.1f} s after its start")
    assert spawn(*words).code == 0
    assert spawn(*words[:2], str(tmp_path / "alone"), *words[3:]).code == 0
    assert_same_results(out, tmp_path / "alone")
    assert not list(out.glob(".*"))


def test_program__ends_with_a_test_that_fails() -> None:
    program = Program([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with pytest.raises(ZeroDivisionError), program:
        1 / 0  # noqa: B018
    assert program.returncode == -signal.SIGKILL
