"""The door: a launcher's name in, connected workers out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from hyperhpc.config import RunConfig
from hyperhpc.workers.connection import Connection
from hyperhpc.workers.workers import DEFAULT_WORKERS, Note, Workers, size_gang, size_workers

#: SLURM_PROCID of the task that does what ``hyperhpc run`` does.
_CLIENT = "1"
#: Of each launcher, where it lives and what it is called there.
_LAUNCHERS = {
    "local": ("local", "local_workers"),
    "gang": ("gang", "gang_workers"),
    "elastic": ("elastic", "elastic_workers"),
    "external": ("local", "joined_workers"),
}


def check_workers(config: RunConfig, *, is_plan: bool = False) -> None:
    """Refuse workers that cannot be had, before anything is written.

    Parameters
    ----------
    is_plan
        Nothing will be started: so what the job script opens need not be open yet.

    Raises
    ------
    ResourceError
        If the machine, or Slurm, has not got what was asked for.
    SlurmError
        If this is not the place for this launcher.
    """
    if config.launcher == "local":
        size_workers(config.workers, config.threads_per_worker, config.memory_bytes)
    elif config.launcher == "gang":
        size_gang(config)
    elif config.launcher == "elastic" and not is_plan:
        from hyperhpc.workers.elastic import Bridge

        Bridge.opened()


def planned_workers(config: RunConfig) -> int:
    """How many workers a run with these options will have."""
    if config.launcher == "local":
        return size_workers(config.workers, config.threads_per_worker, config.memory_bytes)
    if config.launcher == "gang":
        return size_gang(config)
    return config.workers or DEFAULT_WORKERS


def serve_gang(config: RunConfig) -> bool:
    """Be scheduler or worker, if this task is one of a gang, until the client ends it.

    Returns
    -------
    False if this process is to do the work of ``hyperhpc run``.
    """
    if config.launcher != "gang" or os.environ.get("SLURM_PROCID", _CLIENT) == _CLIENT:
        return False
    from hyperhpc.workers.gang import serve_task

    os.environ.pop("HYPERHPC_EXIT_FILE", None)  # the client's status is the run's
    serve_task(config)
    return True


def release_gang(config: RunConfig) -> None:
    """Tell the other tasks, if there are any, that there is nothing to do for them."""
    if config.launcher == "gang":
        Connection.of_job(config.out).end()


@contextmanager
def launch_workers(config: RunConfig, note: Note = lambda text: None) -> Iterator[Workers]:
    """Start workers, connect to them, and stop them at the end, however it comes.

    Parameters
    ----------
    config
        Launcher, number and size of the workers.
    note
        Told what the user should know of them.

    Raises
    ------
    ResourceError
        If the machine, or Slurm, has not got what was asked for.
    SlurmError
        If workers do not come, or nobody can reach them.
    """
    module, name = _LAUNCHERS[config.launcher]
    launcher = getattr(import_module(f"hyperhpc.workers.{module}"), name)
    with launcher(config, note) as workers:
        yield workers
