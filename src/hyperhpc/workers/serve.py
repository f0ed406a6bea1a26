"""One worker of an elastic run: what runs in a worker's job."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from distributed import Nanny
from distributed.core import RPCClosed

from hyperhpc.errors import SlurmError
from hyperhpc.workers.connection import Connection
from hyperhpc.workers.network import wait_for_way
from hyperhpc.workers.settings import configured, silence_dask

_GOODBYE_S = 3.0


def serve_worker(folder: Path, name: str, threads: int, memory_bytes: int) -> None:
    """Be one worker of the run whose connection is in this folder, until it ends.

    Raises
    ------
    SlurmError
        If there is no such run any more, or its scheduler cannot be reached.
    """
    from hyperhpc.workers.dask_setup import PatientNanny, worker_options

    silence_dask()
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # it is for the client
    connection = Connection(folder)
    scheduler = connection.scheduler() if folder.is_dir() else None
    if scheduler is None:
        raise SlurmError(f"{folder} leads to no run: its driver has ended", "nothing to do")
    security = connection.security()
    is_secure = bool(security.require_encryption)
    address, own = wait_for_way(scheduler["addresses"], security, 60)

    async def serve() -> None:
        options = worker_options(threads, memory_bytes) | {"death_timeout": 300}
        protocol = "tls://" if is_secure else "tcp://"
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        async with PatientNanny(
            address, name=name, host=own, protocol=protocol, security=security, **options
        ) as nanny:
            ends = {asyncio.create_task(nanny.finished()), asyncio.create_task(told.wait())}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if told.is_set():
                await _say_goodbye(nanny)
            for end in ends:
                end.cancel()

    with configured(is_secure=is_secure):
        asyncio.run(serve())


async def _say_goodbye(nanny: Nanny) -> None:
    """That Slurm preempts or cancels a worker is no fault of its tasks.

    Dask counts the workers that died of a task, and would give a long one up after three.
    """
    with contextlib.suppress(asyncio.TimeoutError, OSError, RPCClosed):
        await asyncio.wait_for(
            nanny.scheduler.unregister(
                address=nanny.worker_address, expected=True, stimulus_id="worker-sigterm"
            ),
            _GOODBYE_S,
        )
