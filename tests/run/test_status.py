"""What a run shows of itself while it works, and how it is stopped in time."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from cli_case import Program, call, check_refused, program, spawn
from hyperhpc.rundir.lock import hold_lock
from hyperhpc.rundir.progress import Progress, StatusFile, read_status

OPTIONS = "--models lloyd --memory-per-worker 1GiB --workers 1".split()


def test_status_file__says_stage_tiles_workers_and_the_end(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "status.txt", Progress(), "local")
    status.watch_workers(lambda: "3 of 4", lambda: "2.5 GiB")
    with hold_lock(tmp_path, print), status.stage("indices and labels", 100, tiles=4):
        status.advance(25)
        status.note("two\nlines")
        seen = read_status(tmp_path)
    assert seen["state"] == "running"
    assert seen["stage"] == "indices and labels"
    assert seen["tiles"] == "1 of 4"
    assert seen["workers"] == "3 of 4"
    assert seen["message"] == "two lines"
    assert float(seen["pixels_per_second"]) > 0
    assert status.how_far() == "indices and labels, 1 of 4 tiles"
    status.end("failed", "no\nroom")
    seen = read_status(tmp_path)
    assert (seen["state"], seen["error"]) == ("failed", "no room")
    assert "seconds_left" not in seen
    assert [path.name for path in tmp_path.iterdir()] == ["status.txt"]


def test_status_file__that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "no" / "status.txt", Progress(), "local")
    with status.stage("a stage", 1):
        status.advance(1)


def test_status_file__can_note_a_loss_while_workers_are_counted(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "status.txt", Progress(), "local")
    noting = threading.Thread(target=status.note, args=("a worker was lost",))
    waits: list[bool] = []

    def count() -> str:
        if threading.current_thread() is not noting:  # Dask's thread notes before it answers
            noting.start()
            noting.join(5)
            waits.append(noting.is_alive())
        return "3 of 4"

    status.watch_workers(count, lambda: "")
    assert waits == [False]
    assert read_status(tmp_path)["workers"] == "3 of 4"


def test_status__of_a_run_that_died(tmp_path: Path) -> None:
    StatusFile(tmp_path / "status.txt", Progress(), "local")
    assert read_status(tmp_path)["state"] == "died"  # as if it had removed its lock
    with hold_lock(tmp_path, print):
        assert read_status(tmp_path)["state"] == "running"
        owner = json.loads((tmp_path / ".lock").read_text("utf-8"))
    for changes, age_s, state in (
        ({"started": 1}, 0, "died"),
        ({"machine": "another"}, 0, "running"),
        ({"machine": "another"}, 1000, "died"),
    ):
        lock = tmp_path / ".lock"
        lock.write_text(json.dumps(owner | changes), "utf-8")
        os.utime(lock, (time.time() - age_s,) * 2)
        seen = read_status(tmp_path)
        assert seen["state"] == state
        assert ("the same command" in seen.get("error", "")) == (state == "died")
    lock.unlink()
    lock.mkdir()
    assert read_status(tmp_path)["state"] == "running"  # nobody knows


def test_status__command(tmp_path: Path) -> None:
    check_refused(call("status", tmp_path / "out"), 3, "holds no run", "hyperhpc run SCENE")
    StatusFile(tmp_path / "status.txt", Progress(), "gang").end("complete")
    assert json.loads(call("status", tmp_path, "--json").out)["state"] == "complete"
    assert "launcher  gang" in " ".join(call("status", tmp_path).out.split(" "))


@pytest.mark.e2e
def test_run__writes_the_dashboards_secret_nowhere(small_scene: Path, tmp_path: Path) -> None:
    """Others may read OUT, and be on this machine."""
    out = tmp_path / "out"
    done = spawn("run", small_scene, out, *OPTIONS, "--dashboard")
    found = re.search(r"^dashboard: http://127\.0\.0\.1:\d+/([\w-]{20,})/", done.err, re.MULTILINE)
    assert found, done.err
    files = [path for path in out.rglob("*") if path.is_file()]
    assert out / "status.txt" in files
    assert not [path for path in files if found[1].encode() in path.read_bytes()]


def test_status__of_a_job_that_was_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def facts_of(*lines: str) -> dict[str, str]:
        text = "\n".join(["job: 42", "mode: gang", "log: /out/slurm/42.log", *lines])
        (tmp_path / "slurm" / "job").write_text(f"{text}\n", "utf-8")
        facts = json.loads(call("status", tmp_path, "--json").out)
        assert facts["job"] == "42"
        assert facts["job_log"] == "/out/slurm/42.log"
        return facts

    (tmp_path / "slurm").mkdir()
    assert facts_of()["state"] == "queued"
    assert facts_of("started: 2026-01-01T00:00:00Z")["state"] == "started"
    refused = facts_of("started: 2026-01-01T00:00:00Z", "error: too little", "exit: 5")
    assert (refused["state"], refused["job_exit"], refused["job_error"]) == (
        "ended",
        "5",
        "too little",
    )
    for job, before in (("41", "job 41: stopped"), ("42", None)):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        StatusFile(tmp_path / "status.txt", Progress(), "gang").end("stopped")
        facts = facts_of()
        assert facts["state"] == ("queued" if before else "stopped")
        assert facts.get("before") == before


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("how", ["signal", "file"])
def test_run__stops_in_time_and_resumes(small_scene: Path, tmp_path: Path, how: str) -> None:
    out, stop = tmp_path / "out", tmp_path / "stop"
    words = ["run", str(small_scene), str(out), *OPTIONS]
    with Program(
        program(*words),
        env={**os.environ, "HYPERHPC_STOP_FILE": str(stop)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + 60
        while not list((out / "work").glob("sample/*.json")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        if how == "signal":
            os.killpg(process.pid, signal.SIGUSR1)  # as Slurm does, workers too
        else:
            stop.touch()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 7, said
    assert "error: Stopped before its end, at " in said
    again = shlex.join(["hyperhpc", *map(str, words)])
    assert f"ive the same command again, it resumes from there: {again}\n" in said
    assert "Traceback" not in said
    assert read_status(out)["state"] == "stopped"
    assert call(*words).code == 0
    assert read_status(out)["state"] == "complete"


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_run__that_fails_says_why_in_its_status(small_scene: Path, tmp_path: Path) -> None:
    (tmp_path / "slurm").mkdir()  # as a job has left it: logs
    outcome = spawn("run", small_scene, tmp_path, *OPTIONS, "--clusters", "254", "--stride", "90")
    assert outcome.code == 3
    assert read_status(tmp_path)["state"] == "failed"
    assert "clusters" in read_status(tmp_path)["error"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["slurm", "status.txt"]
    assert call("run", small_scene, tmp_path, *OPTIONS).code == 0


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_restart__leaves_the_logs_of_the_job(small_scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call("run", small_scene, out, *OPTIONS).code == 0
    (out / "slurm").mkdir()
    (out / "slurm" / "7.log").touch()
    assert call("run", small_scene, out, *OPTIONS, "--clusters", "3", "--restart").code == 0
    assert (out / "slurm" / "7.log").exists()
    assert not (tmp_path / "out.old-1" / "slurm").exists()
    assert (tmp_path / "out.old-1" / "model.json").exists()


def test_plan__says_what_would_be_done_and_writes_nothing(
    small_scene: Path, tmp_path: Path
) -> None:
    outcome = call("plan", small_scene, tmp_path / "out", "--json", "--clusters", "3")
    facts = json.loads(outcome.out)
    assert facts["pixels"] == 96 * 112
    assert facts["models"] == ["lloyd", "minibatch"]
    assert not facts["continues"]
    assert not (tmp_path / "out").exists()
    check_refused(
        call("plan", small_scene, tmp_path / "out", "--memory-per-worker", "300MiB"),
        5, "MiB are needed", "--memory-per-worker",
    )  # fmt: skip
    check_refused(call("plan", tmp_path / "no", tmp_path / "out"), 4, "no")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    check_refused(call("plan", small_scene, tmp_path / "mine"), 3, "is not a run of hyperhpc")
