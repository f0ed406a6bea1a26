"""The cluster itself: what the other tests rely on."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_case import NODES, Cluster, work_folder

pytestmark = pytest.mark.slurm

work_folder()


def script(folder: Path, text: str) -> Path:
    """A job script in a folder."""
    path = folder / "job.sh"
    path.write_text(f"#!/usr/bin/env bash\n{text}\n", "utf-8")
    return path


def test_cluster__runs_a_job_on_three_nodes(cluster: Cluster) -> None:
    folder = cluster.folder("three nodes")
    job = script(folder, "srun bash -c 'echo $(hostname) $SLURM_PROCID $(id -un)'")
    job_id = cluster.submit("--nodes", "3", "--output", folder / "log", job)
    assert cluster.wait_state(job_id, "COMPLETED")["ExitCode"] == "0:0"
    lines = [line.split() for line in (folder / "log").read_text("utf-8").splitlines()]
    assert len({host for host, _, _ in lines} & {*NODES}) == 3
    assert sorted(rank for _, rank, _ in lines) == ["0", "1", "2"]
    assert {user for _, _, user in lines} == {"alice"}


def test_cluster__preempts_scavengers(cluster: Cluster) -> None:
    whole = ("--exclusive", "--nodelist", "c3")
    low = cluster.submit(*whole, "--partition", "scavenger", "--requeue", "--wrap", "sleep 600")
    cluster.wait_state(low, "RUNNING")
    high = cluster.submit(*whole, "--wrap", "true")
    cluster.wait_state(high, "COMPLETED")
    assert cluster.job(low)["Restarts"] == "1"
    cluster.on("c1", "scancel", low)


def test_cluster__kills_a_step_over_its_memory(cluster: Cluster) -> None:
    folder = cluster.folder("memory")
    eat = "python3 -c 'import time; it = bytearray(400_000_000); time.sleep(60)'"
    job = script(folder, f"srun {eat}")
    job_id = cluster.submit("--mem", "100", "--output", folder / "log", job)
    assert cluster.wait_state(job_id, "OUT_OF_MEMORY", "FAILED")["ExitCode"] != "0:0"
    assert "memory" in (folder / "log").read_text("utf-8")


def test_cluster__keeps_users_apart(cluster: Cluster) -> None:
    secret = cluster.folder("secret", mode=0o700)
    cluster.on("c1", "touch", secret / "key")
    assert cluster.on("c2", "ls", secret).stdout.split() == ["key"]
    assert cluster.on("c2", "ls", secret, user="mallory", check=False).returncode != 0


def test_cluster__runs_the_image(cluster: Cluster) -> None:
    said = cluster.on("c2", "apptainer", "-s", "exec", cluster.sif, "hyperhpc", "--version")
    assert "hyperhpc" in said.stdout


def test_cluster__has_networks_that_lead_nowhere(cluster: Cluster) -> None:
    for host in ("ctl", *NODES):
        assert cluster.on(host, "ip", "route", "show", "default").stdout == ""
    assert "10.88.0.1" in cluster.on("c1", "hostname", "--all-ip-addresses").stdout
    for node in NODES:
        addresses = cluster.on(node, "hostname", "--all-ip-addresses").stdout.split()
        assert {"172.17.0.1", f"10.77.0.1{node[1]}"} <= {*addresses}
