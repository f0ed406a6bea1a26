"""Where the work runs: one context manager per launcher, each giving a Dask client.

``launch_workers`` chooses it: ``local`` (processes on this machine), ``gang`` (the tasks of
one Slurm job), ``elastic`` (Slurm jobs that come and go, through ``bridge``) or ``external``
(a Dask cluster that runs already). ``workers`` is what they give, ``sizes`` says how many
workers there can be. ``connection``, ``security`` and ``network`` are how processes find and
trust each other; ``dask_setup``, ``dask_nodes`` and ``processes`` adapt Dask.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from importlib import import_module

from hyperhpc.config import RunConfig
from hyperhpc.workers.connection import Connection, find_stale_connections, remove_stale_connections
from hyperhpc.workers.dask_setup import MAX_WORKER_DEATHS
from hyperhpc.workers.network import ssh_tunnel_command
from hyperhpc.workers.processes import import_in_background
from hyperhpc.workers.sizes import DEFAULT_WORKERS, count_gang_workers, count_local_workers
from hyperhpc.workers.workers import Note, Workers, report_worker_losses, scheduler_errors

__all__ = [
    "MAX_WORKER_DEATHS",
    "Workers",
    "check_workers",
    "find_stale_connections",
    "import_in_background",
    "launch_workers",
    "planned_workers",
    "release_gang_tasks",
    "remove_stale_connections",
    "report_worker_losses",
    "run_gang_task",
    "scheduler_errors",
    "ssh_tunnel_command",
]

#: SLURM_PROCID of the task that is the client, which does the work of ``hyperhpc run``.
_CLIENT_RANK = "1"


def check_workers(config: RunConfig, *, is_plan: bool = False) -> None:
    """Check that the workers can be started, before anything is written.

    ``is_plan``: True if no worker will be started, so the bridge to Slurm need not be open.

    Raises ResourceError: if the machine or Slurm has less memory than was asked for;
    SlurmError: if the launcher does not work here.
    """
    planned_workers(config)
    if config.launcher == "elastic" and not is_plan:
        from hyperhpc.workers.bridge import Bridge

        Bridge.find()


def planned_workers(config: RunConfig) -> int:
    """How many workers a run with these options will have; raises as :func:`check_workers`."""
    if config.launcher == "local":
        return count_local_workers(config)
    if config.launcher == "gang":
        return count_gang_workers(config)
    return config.workers or DEFAULT_WORKERS


def run_gang_task(config: RunConfig) -> bool:
    """Run as scheduler or worker of a gang until the client ends it; else return False at once."""
    rank = os.environ.get("SLURM_PROCID", _CLIENT_RANK)
    if config.launcher != "gang" or rank == _CLIENT_RANK:
        return False
    from hyperhpc.workers.gang import run_scheduler_or_worker

    os.environ.pop("HYPERHPC_EXIT_FILE", None)  # the client's status is the run's
    run_scheduler_or_worker(config)
    return True


def release_gang_tasks(config: RunConfig) -> None:
    """Let the other tasks of a gang end, because there is no work for them."""
    if config.launcher == "gang":
        Connection.of_job(config.out).end()


def launch_workers(
    config: RunConfig, note: Note = lambda text: None
) -> AbstractContextManager[Workers]:
    """Start workers, connect to them, and stop them at the end of the block.

    Raises ResourceError: if the machine or Slurm has less memory than was asked for;
    SlurmError: if workers do not start, or cannot be reached.
    """
    # Imported when used, because Dask is slow to import
    module = import_module(f"hyperhpc.workers.{config.launcher}")
    return getattr(module, f"{config.launcher}_workers")(config, note)
