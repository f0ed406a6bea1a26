"""Dask's configuration."""

from __future__ import annotations

import subprocess
import sys


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
