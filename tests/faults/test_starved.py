"""Runs on a machine with far too little time for them: the same bits, at any load.

Several runs at once among processes that only compute, and pauses of any process at any moment,
as of a virtual machine whose host is busy.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cli_case import Outcome, Program, program
from hyperhpc.simulate.scene import simulate
from run_case import assert_same_results

pytestmark = pytest.mark.faults

#: Four runs of a client and two workers, and these: a load of 16 for any number of processors.
AT_ONCE, HOGS = 4, 8
_HOG = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
_OPTIONS = ("--clusters", "3", "--workers", "2", "--memory-per-worker", "500MiB")


@contextmanager
def busy_machine() -> Iterator[None]:
    """Processes that compute all the time; they end with this one."""
    hogs = [subprocess.Popen([sys.executable, "-c", _HOG]) for _ in range(HOGS)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def pause_at_random(process: psutil.Process, rng: random.Random) -> None:
    """Stop one of a run's processes for up to a second, again and again, until it has ended."""
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        with suppress(psutil.Error, ProcessLookupError):
            victim = rng.choice([process, *process.children(recursive=True)])
            os.kill(victim.pid, signal.SIGSTOP)
            try:
                time.sleep(rng.uniform(0, 1))
            finally:
                os.kill(victim.pid, signal.SIGCONT)
        time.sleep(rng.uniform(0, 1))


def run_starved(scene: Path, out: Path, seed: int) -> Outcome:
    """A run among the others, paused at random."""
    with Program(
        program("run", scene, out, *_OPTIONS),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        parts = (psutil.Process(process.pid), random.Random(seed))
        threading.Thread(target=pause_at_random, args=parts, daemon=True).start()
        try:
            said, err = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    return Outcome(process.returncode, said, err)


def test_run__is_the_same_on_a_starved_machine(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    count = int(pytestconfig.getoption("--starved", default=0))
    if not count:
        pytest.skip("it starves whatever else runs here: make test-faults runs it (--starved 50)")
    first = int(pytestconfig.getoption("--kill-seed", default=0))
    scene, alone = tmp_path / "scene.zarr", tmp_path / "alone"
    simulate(scene, 40, 40, bands=60, seed=5)
    undisturbed = subprocess.run(program("run", scene, alone, *_OPTIONS), capture_output=True)
    assert undisturbed.returncode == 0, undisturbed.stderr
    outs = {seed: tmp_path / f"out-{seed}" for seed in range(first, first + count)}
    with busy_machine(), ThreadPoolExecutor(AT_ONCE) as pool:
        ended = pool.map(lambda seed: run_starved(scene, outs[seed], seed), outs)
        found = dict(zip(outs, ended, strict=True))
    for seed, outcome in found.items():
        assert outcome.code == 0, f"--kill-seed {seed}: {outcome}"
        assert "Traceback" not in outcome.err, f"--kill-seed {seed}: {outcome.err}"
        assert_same_results(outs[seed], alone)
