"""Workers on this machine: a Dask cluster that speaks TLS on every socket.

An open loopback port of Dask lets every other user of the machine run code as you, so
there is none: scheduler, workers and nannies speak TLS with keys that exist in memory
only. There is no HTTP server unless a dashboard is asked for, and that is on loopback
under a secret prefix.
"""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError, ResourceError, SlurmError
from hyperhpc.workers.connection import temporary_security
from hyperhpc.workers.dask_setup import (
    LOG_LEVEL,
    MOST_DEATHS,
    closed_on_error,
    configured,
    main_hidden,
    signals_later,
    silence_dask,
    start_tracker,
)
from hyperhpc.workers.network import LOOPBACK
from hyperhpc.workers.workers import Note, Workers, size_workers

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def local_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Worker processes on this machine, as many as fit, and a client."""
    from distributed import Client, SpecCluster

    from hyperhpc.workers.dask_setup import (
        ClosedScheduler,
        PatientNanny,
        dashboard_link,
        scheduler_options,
        worker_options,
    )

    threads, memory_bytes = config.threads_per_worker, config.memory_bytes
    count = size_workers(config.workers, threads, memory_bytes)
    start_tracker()  # or it starts later, and undoes the scheduler's mask
    stack = ExitStack()
    with signals_later(), closed_on_error(stack), _deaths_told(memory_bytes):
        stack.enter_context(main_hidden())
        stack.enter_context(configured())
        security = temporary_security()
        everywhere = {"host": LOOPBACK, "protocol": "tls://", "security": security}
        cluster = stack.enter_context(
            SpecCluster(
                scheduler={
                    "cls": ClosedScheduler,
                    "options": everywhere | scheduler_options(config.dashboard),
                },
                workers={
                    number: {
                        "cls": PatientNanny,
                        "options": everywhere | worker_options(threads, memory_bytes),
                    }
                    for number in range(count)
                },
                security=security,
                silence_logs=LOG_LEVEL,
            )
        )
        client = stack.enter_context(Client(cluster, security=security))
        link = dashboard_link(cluster.scheduler)
    try:
        yield Workers(client, count, threads, memory_bytes, link)
    finally:
        with signals_later():
            stack.close()


@contextmanager
def _deaths_told(memory_bytes: int) -> Iterator[None]:
    """Say what it means that a nanny has given its worker up."""
    try:
        yield
    except RuntimeError as error:
        raise ResourceError(
            f"a worker of {memory_bytes // 2**20} MiB has ended {MOST_DEATHS} times while it "
            f"was started: {error}",
            "see that the machine has the memory, or give fewer --workers",
        ) from error


# Workers of a Dask cluster that exists already: dask-gateway, PBS, started by hand.

_PATIENCE_S = 60


@contextmanager
def joined_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Connect to a scheduler; its workers are used as they are, and left running.

    The keys of TLS come from Dask's own configuration (``DASK_DISTRIBUTED__COMM__TLS__*``).

    Raises
    ------
    SlurmError
        If it does not answer, or has no worker.
    ResourceError
        If a worker has less memory than the plan was made for, or does not see OUT.
    """
    from distributed import Client
    from distributed.security import Security

    silence_dask()
    address = config.address or ""
    stack = ExitStack()
    with signals_later(), closed_on_error(stack):
        stack.enter_context(configured(is_secure=not config.insecure))
        security = Security(require_encryption=not config.insecure)
        try:
            client = stack.enter_context(
                Client(address, security=security, timeout=f"{_PATIENCE_S}s")
            )
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except (OSError, TimeoutError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SlurmError(
                f"no cluster with a worker at {address}: {reason}",
                "see that it runs, and that DASK_DISTRIBUTED__COMM__TLS__* name its keys",
            ) from None
        workers = _describe(client, config)
        _check_folder(client, config.out)
        note(f"{workers.count} workers of {address}, {workers.threads} threads each")
    try:
        yield workers
    finally:
        with signals_later():
            stack.close()


def _describe(client: Client, config: RunConfig) -> Workers:
    found = client.scheduler_info(n_workers=-1)["workers"].values()
    threads = max(worker["nthreads"] for worker in found)
    # 0: without a limit
    memory = min(worker["memory_limit"] or math.inf for worker in found)
    need = config.memory_bytes * threads / config.threads_per_worker
    if memory < need:
        raise ResourceError(
            f"a worker of {config.address} has {memory / 2**20:.0f} MiB for {threads} threads; "
            f"the plan needs {need / 2**20:.0f} MiB",
            f"give --memory-per-worker {memory / 2**20:.0f}MiB --threads-per-worker {threads}",
        )
    return Workers(client, len(found), threads, config.memory_bytes)


def _check_folder(client: Client, out: Path) -> None:
    """Workers write into OUT: they must see the same folder."""
    token = out / f".seen-{secrets.token_hex(8)}"
    token.touch()
    try:
        seen = client.run(_sees, str(token.absolute()))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"a worker lacks a package: {error}", "start the workers from the same image"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            token.unlink()
    blind = [address for address, yes in seen.items() if not yes]
    if blind:
        raise ResourceError(
            f"worker {blind[0]} does not see {out}",
            "name an OUT on a file system that all nodes share",
        )


def _sees(path: str) -> bool:
    """On a worker."""
    return Path(path).exists()
