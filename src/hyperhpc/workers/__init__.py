"""Where the work runs: one context manager per launcher, each giving a Dask client.

``launch`` chooses the launcher: ``local`` (processes on this machine), ``gang`` (the tasks of
one Slurm job), ``elastic`` (Slurm jobs that come and go, through ``bridge``) or ``external``
(a Dask cluster that runs already). ``workers`` is what they give, ``sizes`` says how many
workers there can be. ``connection``, ``security`` and ``network`` are how processes find and
trust each other; ``dask_setup``, ``dask_nodes``, ``processes`` and ``scratch`` adapt Dask.
"""

from hyperhpc.workers.connection import find_stale_connections, remove_stale_connections
from hyperhpc.workers.dask_setup import MAX_WORKER_DEATHS
from hyperhpc.workers.launch import (
    check_workers,
    launch_workers,
    planned_workers,
    release_gang_tasks,
    run_gang_task,
)
from hyperhpc.workers.network import ssh_tunnel_command
from hyperhpc.workers.processes import import_in_background
from hyperhpc.workers.scratch import remove_abandoned_scratch, scratch_folder
from hyperhpc.workers.workers import Workers, report_worker_losses, scheduler_errors

__all__ = [
    "MAX_WORKER_DEATHS",
    "Workers",
    "check_workers",
    "find_stale_connections",
    "import_in_background",
    "launch_workers",
    "planned_workers",
    "release_gang_tasks",
    "remove_abandoned_scratch",
    "remove_stale_connections",
    "report_worker_losses",
    "run_gang_task",
    "scheduler_errors",
    "scratch_folder",
    "ssh_tunnel_command",
]
