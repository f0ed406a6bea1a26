"""SIGKILL in the iterations of a fit: only those since the last checkpoint are taken again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tally import Tally

from run_case import assert_same_results

pytestmark = pytest.mark.faults

#: Seconds between two checkpoints here, and kills of one fit.
EVERY_S, KILLS = 0.1, 2
LIMIT_S = 300.0


def start(scene: Path, out: Path) -> subprocess.Popen[bytes]:
    counted = Path(__file__).with_name("counted.py")
    words = [sys.executable, counted, scene, out, log_of(out), str(EVERY_S)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, start_new_session=True)


def log_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.log")


def steps(out: Path) -> int:
    """Iterations taken so far, over all starts."""
    log = log_of(out)
    return len(log.read_text("ascii").splitlines()) if log.exists() else 0


def kept(out: Path) -> int:
    """Iterations that the last checkpoint holds."""
    path = out / "work" / "fit-lloyd.json"
    return json.loads(path.read_text("utf-8"))["n_iter"] if path.exists() else 0


def test_fit__killed_takes_again_what_was_done_since_its_checkpoint(
    tiled_scene: Path, tally: Tally, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    rng = random.Random(int(request.config.getoption("--kill-seed", default=0)))
    alone, out = tmp_path / "alone", tmp_path / "out"
    with start(tiled_scene, alone) as undisturbed:
        _, said = undisturbed.communicate(timeout=LIMIT_S)
    assert undisturbed.returncode == 0, said
    n_steps = steps(alone)
    lost = 0
    for share in sorted(rng.uniform(0.1, 0.8) for _ in range(KILLS)):
        with start(tiled_scene, out) as process:
            deadline = time.monotonic() + LIMIT_S
            while steps(out) - lost < share * n_steps:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.001)
            os.killpg(process.pid, signal.SIGKILL)
        again = steps(out) - lost - kept(out)
        print(f"killed at iteration {steps(out) - lost}, the checkpoint is of {kept(out)}")
        lost += again
        tally.fit_kills += 1
        tally.iterations_again += again
        tally.most_iterations_again = max(tally.most_iterations_again, again)
    with start(tiled_scene, out) as process:
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, said
    assert steps(out) == n_steps + lost, "only what was lost was taken again"
    assert_same_results(out, alone)
