"""What batch systems do to jobs: the run ends well all the same, or says how to go on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from slurm_case import LOGIN, Cluster, wait_until, work_folder
from submit_case import LONG_FIT, Submitted, submit, try_submit

from run_case import assert_same_results

pytestmark = pytest.mark.slurm

work_folder()


@pytest.fixture(scope="module")
def long_run(cluster: Cluster) -> Path:
    """The run of these tests, undisturbed on this machine."""
    return run_here(cluster, cluster.work / "undisturbed", LONG_FIT)


def run_here(cluster: Cluster, out: Path, options: Sequence[str]) -> Path:
    """A run, or the rest of one, without a cluster."""
    command = [sys.executable, "-m", "hyperhpc", "run", cluster.scene, out, *options]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return out


def node_of_driver(run: Submitted) -> str:
    return run.cluster.job(run.job)["NodeList"]


def test_elastic__replaces_workers_that_are_preempted_or_lose_their_node(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Three times as long: workers are replaced twice while it lasts
    fit = ("--models", "lloyd", "--clusters", "120", "--stride", "1")
    run = submit(cluster, cluster.folder("lost") / "out", *fit, MODE="elastic", WORKERS=4)
    run.wait_stage("fitting")
    wait_until("four workers run", lambda: len(run.worker_jobs()) == 4, 60)
    driver = node_of_driver(run)

    def not_on(*nodes: str) -> list[str]:
        return [node for node in run.worker_jobs().values() if node not in nodes]

    preempted = not_on(driver)[0]
    urgent = cluster.submit(
        "--partition=main", f"--nodelist={preempted}", "--exclusive", "--wrap", "sleep 8"
    )
    cluster.wait_state(urgent, "RUNNING", "COMPLETED")
    wait_until("others run", lambda: not_on(driver, preempted) and run.all_up(4), 90)
    lost = not_on(driver, preempted)[0]
    cluster.power_off(lost)

    def four_run_without_it() -> bool:
        assert run.status()["state"] == "running", run.log()[-1500:]
        return len(not_on(lost)) == 4

    wait_until("four run without it", four_run_without_it, 90)
    run.must_complete()
    assert re.search(rf"on {preempted} ended: PREEMPTED; another is submitted", run.log())
    lost_line = f"a worker on 10.77.0.1{lost[1]} was lost; its tiles are processed again"
    log = run.log()
    assert lost_line in log, log
    assert_same_results(run.out, run_here(cluster, tmp_path / "here", fit))
    cluster.wait_state(urgent, "COMPLETED")


def test_gang__is_started_again_when_a_node_dies(cluster: Cluster, long_run: Path) -> None:
    run = submit(cluster, cluster.folder("gang-node") / "out", *LONG_FIT, NODES=3, WORKERS=4)
    run.wait_stage("fitting")
    nodes = cluster.on(LOGIN, "scontrol", "show", "hostnames", cluster.job(run.job)["NodeList"])
    cluster.power_off(nodes.stdout.split()[-1])
    run.must_complete()
    assert int(cluster.job(run.job)["Restarts"]) >= 1
    assert "the run resumes" in run.log()
    assert_same_results(run.out, long_run)


@pytest.mark.parametrize("by", ["slurm", "user"])
def test_elastic__is_started_again_when_the_node_of_its_driver_dies(
    cluster: Cluster, long_run: Path, by: str
) -> None:
    options = {"MODE": "elastic", "WORKERS": 3}
    options |= {"SBATCH": "--no-requeue"} if by == "user" else {}
    run = submit(cluster, cluster.folder(f"driver-{by}") / "out", *LONG_FIT, **options)
    run.wait_stage("fitting")
    driver = node_of_driver(run)
    wait_until("a worker is elsewhere", lambda: {*run.worker_jobs().values()} - {driver}, 60)
    cluster.power_off(driver)
    if by == "user":
        cluster.wait_state(run.job, "NODE_FAIL", timeout=90)
        told = cluster.on(LOGIN, "jobs/status.sh", run.out, cwd=cluster.shared / "checkout")
        assert f"{run.job} (elastic, minicluster): ended hard" in told.stdout
        assert list(run.out.glob(".connection-*")), "nobody could remove the keys"
        run = submit(cluster, run.out, *LONG_FIT, **options)
    run.must_complete()
    assert int(cluster.job(run.job)["Restarts"]) == (by == "slurm")
    wait_until("no worker is left", lambda: not cluster.jobs(), 30)
    assert_same_results(run.out, long_run)


def test_walltime__stops_in_time_and_goes_on_here_or_there(
    cluster: Cluster, long_run: Path, tmp_path: Path
) -> None:
    many = ("--models", "lloyd", "--clusters", "200", "--stride", "1")
    short = submit(
        cluster, cluster.folder("walltime") / "out", *many, NODES=1, WORKERS=1, TIME="00:02:00"
    )
    # meanwhile, for what needs no more than two minutes
    out = cluster.folder("stopped") / "out"
    run = submit(cluster, out, *LONG_FIT, NODES=2, WORKERS=2)
    run.wait_stage("fitting")
    cluster.on(LOGIN, "scancel", "--batch", "--signal=USR1", run.job)
    assert run.wait_end(60) == 7
    laptop = tmp_path / "laptop"
    shutil.copytree(out, laptop)
    assert_same_results(run_here(cluster, laptop, LONG_FIT), long_run)
    submit(cluster, out, *LONG_FIT, NODES=2, WORKERS=2).must_complete()
    assert_same_results(out, long_run)
    assert short.wait_end(180) == 7
    assert short.status()["state"] == "stopped"
    assert "Stopped before its end, at" in short.log()
    assert "same command again" in short.log()
    short.must_be_clean()
    told = cluster.on(LOGIN, "jobs/status.sh", short.out, cwd=cluster.shared / "checkout")
    assert "stopped" in told.stdout


def test_memory__too_little_for_a_tile_is_refused_by_the_first_step(cluster: Cluster) -> None:
    run = submit(cluster, cluster.folder("small") / "out", NODES=1, WORKERS=1, MEMORY="420MiB")
    assert run.wait_end() == 5
    assert "MiB are needed" in run.log()
    assert "--memory-per-worker" in run.log()
    assert not (run.out / "plan.json").exists()
    run.must_be_clean()


def test_memory__a_worker_that_slurm_kills_is_told_of(cluster: Cluster) -> None:
    """The job as it would be submitted, but Slurm gives a worker less than it believes."""
    out = cluster.folder("killed") / "out"
    shown = try_submit(cluster, out, "--models lloyd", "--dry-run", MODE="elastic", WORKERS=1)
    assert shown.stdout.count("--mem=1200M") == 1
    cluster.on(LOGIN, "mkdir", "-p", out / "slurm")
    pasted = cluster.on(LOGIN, "bash", "-c", shown.stdout.replace("--mem=1200M", "--mem=120M"))
    run = Submitted(cluster, out, pasted.stdout.strip(), "")
    assert run.wait_end() == 6, run.log()
    assert "Slurm killed it for memory" in run.log()
    assert "MEMORY=" in run.log()
    assert not cluster.jobs()
    run.must_be_clean()


def test_submit__refuses_before_the_queue(cluster: Cluster) -> None:
    out = cluster.folder("refused") / "out"
    done = try_submit(cluster, out, SCENE=cluster.shared / "no.zarr")
    assert (done.returncode, "no.zarr" in done.stderr) == (4, True)
    done = try_submit(cluster, out, PARTITION="nowhere")
    assert done.returncode == 6
    assert "nowhere" in done.stderr or "partition" in done.stderr
    assert not out.exists()
