"""Workers of a Dask cluster that exists already: dask-gateway, PBS, started by hand."""

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
from hyperhpc.workers.processes import closed_on_error, signals_later
from hyperhpc.workers.settings import configured, silence_dask
from hyperhpc.workers.workers import Note, Workers

if TYPE_CHECKING:
    from distributed import Client

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
