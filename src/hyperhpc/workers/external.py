"""Workers of a Dask cluster that runs already: dask-gateway, PBS, or started by hand."""

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
from hyperhpc.workers.dask_setup import configure_dask, silence_dask
from hyperhpc.workers.processes import delay_signals
from hyperhpc.workers.workers import Note, Workers, wait_connected

if TYPE_CHECKING:
    from distributed import Client

_TIMEOUT_S = 60


@contextmanager
def external_workers(config: RunConfig, note: Note) -> Iterator[Workers]:
    """Connect to a scheduler; its workers are used as they are, and stay when the run ends.

    The keys of TLS come from Dask's own configuration (``DASK_DISTRIBUTED__COMM__TLS__*``).

    Raises SlurmError: if the scheduler does not answer, or has no worker; ResourceError: if a
    worker has less memory than was planned for, or does not see OUT.
    """
    from distributed import Client
    from distributed.security import Security

    silence_dask()
    address = config.address or ""
    with delay_signals(), ExitStack() as stack:
        is_secure = not config.insecure
        stack.enter_context(configure_dask(is_secure=is_secure, keeps_keys=True))
        try:
            security = Security(require_encryption=is_secure)
            client = stack.enter_context(
                Client(address, security=security, timeout=f"{_TIMEOUT_S}s")
            )
            client.wait_for_workers(1, timeout=_TIMEOUT_S)
        except (OSError, TimeoutError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise SlurmError(
                f"No cluster with a worker answers at {address}: {reason}",
                "Check that it runs, and that DASK_DISTRIBUTED__COMM__TLS__* name its keys",
            ) from None
        workers = _describe_cluster(client, config)
        _check_shared_folder(client, config.out)
        note(f"{workers.count} workers of {address}, {workers.threads} threads each")
        started = stack.pop_all()
    try:
        yield workers
    finally:
        with delay_signals():
            started.close()


def _describe_cluster(client: Client, config: RunConfig) -> Workers:
    found = wait_connected(client).values()
    threads = max(worker["nthreads"] for worker in found)
    # 0 means no limit
    memory = min(worker["memory_limit"] or math.inf for worker in found)
    need = config.memory_bytes * threads / config.threads_per_worker
    if memory < need:
        raise ResourceError(
            f"A worker of {config.address} has {memory / 2**20:.0f} MiB for {threads} threads; "
            f"the plan needs {need / 2**20:.0f} MiB",
            f"Give --memory-per-worker {memory / 2**20:.0f}MiB --threads-per-worker {threads}",
        )
    return Workers(client, len(found), threads, config.memory_bytes)


def _check_shared_folder(client: Client, out: Path) -> None:
    """Check that workers, which write into OUT, see the same folder."""
    token = out / f".seen-{secrets.token_hex(8)}"
    token.touch()
    try:
        can_see = client.run(_exists, str(token.absolute()))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"A worker lacks a package: {error}", "Start the workers from the same image"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            token.unlink()
    blind = [address for address, yes in can_see.items() if not yes]
    if blind:
        raise ResourceError(
            f"Worker {blind[0]} does not see {out}",
            "Name an OUT on a file system that all nodes share",
        )


def _exists(path: str) -> bool:
    """Runs on a worker."""
    return Path(path).exists()
