"""A worker that is a job of its own: Slurm may take it away without harm to its tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from distributed import Client, SpecCluster

from hyperhpc.workers.connection import Connection
from hyperhpc.workers.dask_nodes import PrivateScheduler, scheduler_options
from hyperhpc.workers.dask_setup import MAX_WORKER_DEATHS, configure_dask
from hyperhpc.workers.network import LOOPBACK

pytestmark = pytest.mark.workers


@contextmanager
def started_worker(connection: Connection, name: str) -> Iterator[int]:
    command = [sys.executable, "-m", "hyperhpc", "worker", str(connection.folder)]
    command += ["--name", name, "--threads", "1", "--memory", str(2**30)]
    worker = subprocess.Popen(command, start_new_session=True)
    try:
        yield worker.pid
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.wait()


def test_worker__that_slurm_takes_away_is_not_held_against_its_task(tmp_path: Path) -> None:
    connection = Connection(tmp_path / ".connection-1-0")
    connection.create(is_secure=True)
    at_work, may_end = tmp_path / "at-work", tmp_path / "may-end"

    def work() -> int:
        at_work.mkdir(exist_ok=True)
        (at_work / str(os.getpid())).touch()
        while not may_end.exists():
            time.sleep(0.02)
        return 7

    options = {"host": LOOPBACK, **scheduler_options(False)}
    with ExitStack() as stack:
        stack.enter_context(configure_dask(is_secure=True))
        security = connection.security()
        scheduler = {
            "cls": PrivateScheduler,
            "options": options | {"protocol": "tls://", "security": security},
        }
        cluster = stack.enter_context(SpecCluster(scheduler=scheduler, security=security))
        connection.publish(cluster.scheduler)
        client = stack.enter_context(Client(cluster, security=security))
        future = client.submit(work)
        for count in range(MAX_WORKER_DEATHS + 1):
            with started_worker(connection, str(count)) as group:
                deadline = time.monotonic() + 60
                while not at_work.exists() or len(list(at_work.iterdir())) <= count:
                    assert time.monotonic() < deadline, f"worker {count} did not begin"
                    assert future.status == "pending", future
                    time.sleep(0.05)
                os.killpg(group, signal.SIGTERM)  # as Slurm does: all of its processes
        may_end.touch()
        with started_worker(connection, "last") as group:
            assert future.result(60) == 7
            os.killpg(group, signal.SIGTERM)
