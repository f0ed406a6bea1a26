"""Dask's configuration."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import dask
import pytest

from hyperhpc.config import RunConfig
from hyperhpc.errors import SlurmError
from hyperhpc.workers import launch_workers
from hyperhpc.workers.dask_setup import configure_dask
from hyperhpc.workers.security import temporary_security


def test_configure_dask__drops_a_question_to_the_scheduler_without_a_word() -> None:
    """As when a client is closed while a thread asks for the number of its workers."""
    program = (
        "import gc\n"
        "from distributed.core import ConnectionPool\n"
        "from hyperhpc.workers.dask_setup import configure_dask\n"
        "with configure_dask():\n"
        "    ConnectionPool()('tcp://127.0.0.1:1').identity(n_workers=-1)\n"
        "    gc.collect()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_launch__odd_tls_settings_concern_another_cluster_only() -> None:
    with dask.config.set({"distributed.comm.tls.min-version": 9}):
        with configure_dask() as folder:
            assert temporary_security(folder).tls_min_version is ssl.TLSVersion.TLSv1_2
        config = RunConfig(
            scene=Path("scene"), out=Path("out"), launcher="external", address="tls://127.0.0.1:1"
        )
        with pytest.raises(SlurmError, match="min-version=9 is not supported"):
            launch_workers(config).__enter__()
