"""The cluster that ``make test-slurm`` has started, as a fixture, left clean by every test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from slurm_case import LOGIN, NODES, Cluster, wait_until, work_folder


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """The cluster."""
    return Cluster(work_folder())


@pytest.fixture(scope="session")
def host_run(cluster: Cluster) -> Path:
    """A run of the cluster's scene on this machine, with the packages of .venv."""
    out = cluster.work / "host_run"
    command = [sys.executable, "-m", "hyperhpc", "run"]
    command += [str(cluster.scene), str(out)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.fixture(autouse=True)
def left_clean(cluster: Cluster) -> Iterator[None]:
    """After a test alice has no job and no process left, and all nodes are up again."""
    yield
    jobs = [job for job in cluster.jobs() if job.state != "COMPLETING"]
    if jobs:
        cluster.on(LOGIN, "scancel", *(job.id for job in jobs))
    cluster.heal()
    processes: dict[str, list[str]] = {}

    def none_left() -> bool:
        processes.clear()
        processes.update({node: cluster.processes(node) for node in NODES})
        return not any(processes.values())

    wait_until("alice has no process left", none_left, 15, saw=processes)
    assert not jobs, "the test has left jobs behind"
