"""A gang on one machine: the tasks are real, over TLS; only Slurm's variables are set here.

On a real Slurm it is tested by tests/slurm.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cli_case import check_refused, program, spawn
from hyperhpc.rundir.progress import read_status
from run_case import assert_same_results

pytestmark = pytest.mark.workers

OPTIONS = "--models lloyd --memory-per-worker 1GiB".split()
TASKS = 4


def task(rank: int, *words: object, **settings: str) -> subprocess.Popen[str]:
    """One task of srun."""
    slurm = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": str(TASKS), "SLURM_PROCID": str(rank)}
    slurm |= {"SLURM_JOB_NUM_NODES": "1", "SLURM_MEM_PER_NODE": str(TASKS * 1200)}
    return subprocess.Popen(
        program(*map(str, words)),
        env={**os.environ, **slurm, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def gang(*words: object, **settings: str) -> Iterator[list[subprocess.Popen[str]]]:
    """All tasks; none outlives the test."""
    with ExitStack() as stack:
        tasks = []
        for rank in range(TASKS):
            tasks.append(stack.enter_context(task(rank, *words, **settings)))
            stack.callback(tasks[-1].kill)
        yield tasks


def test_gang__gives_the_bits_of_a_local_run_and_ends_by_itself(
    small_scene: Path, small_run: Path, tmp_path: Path
) -> None:
    out, code = tmp_path / "gang", tmp_path / "code"
    words = ("run", small_scene, out, "--launcher", "gang", "--dashboard", *OPTIONS)
    with gang(*words, HYPERHPC_EXIT_FILE=str(code)) as tasks:
        said = [one.communicate(timeout=120) for one in tasks]
    assert [one.returncode for one in tasks] == [0] * TASKS, said
    assert said[1][0] == f"report: {out}/report.html\n"
    assert [err for rank, (_, err) in enumerate(said) if rank != 1] == [""] * (TASKS - 1)
    assert "Traceback" not in said[1][1]
    assert "dashboard: on your own machine: ssh -N -L" in said[1][1]
    assert f"  its address: cat {out}/.connection-7-0/dashboard\n" in said[1][1]
    assert "http://" not in said[1][1] + (out / "status.txt").read_text("utf-8")
    assert code.read_text("ascii") == "0\n"
    assert "workers: 2 of 2" in (out / "status.txt").read_text("utf-8")
    assert [p.name for p in (out / ".connection-7-0").iterdir()] == ["over"]
    assert_same_results(out, small_run)
    # once more: nothing is to do, and no task waits for ever
    with gang(*words) as tasks:
        said = [one.communicate(timeout=60) for one in tasks]
    assert [one.returncode for one in tasks] == [0] * TASKS, said
    assert "is complete" in said[1][1]


def test_gang__whose_scheduler_dies_stops_with_7_and_goes_on(
    small_scene: Path, small_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "gang"
    words = ("run", small_scene, out, "--launcher", "gang", *OPTIONS)
    with gang(*words) as tasks:
        deadline = time.monotonic() + 100
        while not list((out / "work").glob("sample/*.json")):
            assert time.monotonic() < deadline
            assert tasks[1].poll() is None
            time.sleep(0.005)
        tasks[0].kill()
        begin = time.monotonic()
        _, said = tasks[1].communicate(timeout=150)
    print(f"the client ended {time.monotonic() - begin:.1f} s after the scheduler")
    assert tasks[1].returncode == 7, said
    assert "error: The scheduler was lost at " in said
    assert "Traceback" not in said
    assert read_status(out)["state"] == "stopped"
    assert not (out / ".lock").exists()
    assert spawn("run", small_scene, out, *OPTIONS).code == 0  # and here, without the gang
    assert_same_results(out, small_run)


def test_gang__outside_a_job_is_refused(
    small_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    words = ("plan", small_scene, tmp_path / "out", "--launcher", "gang")
    check_refused(spawn(*words), 6, "works only in a Slurm job", "jobs/submit.sh")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    check_refused(spawn(*words), 6, "The job has 2 tasks", "--ntasks=3")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "4000")
    check_refused(spawn(*words), 5, "more than Slurm gives a task, 1000 MiB", "900MiB")
    assert not (tmp_path / "out").exists()


def test_elastic__without_its_bridge_is_refused(
    small_scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HYPERHPC_BRIDGE", raising=False)
    words = (small_scene, tmp_path / "out", "--launcher", "elastic")
    check_refused(spawn("run", *words), 6, "HYPERHPC_BRIDGE is not set", "MODE=elastic")
    assert not (tmp_path / "out").exists()
    assert spawn("plan", *words).code == 0  # which starts nothing
