"""Where the work runs: one context manager per launcher, each giving a Dask client."""

from hyperhpc.workers.connection import find_stale, remove_stale
from hyperhpc.workers.dask_setup import MOST_DEATHS, remove_abandoned, scratch_folder
from hyperhpc.workers.launch import (
    check_workers,
    launch_workers,
    planned_workers,
    release_gang,
    serve_gang,
)
from hyperhpc.workers.network import tunnel_to
from hyperhpc.workers.workers import Workers, import_early, losses_told, scheduler_errors

__all__ = [
    "MOST_DEATHS",
    "Workers",
    "check_workers",
    "find_stale",
    "import_early",
    "launch_workers",
    "losses_told",
    "planned_workers",
    "release_gang",
    "remove_abandoned",
    "remove_stale",
    "scheduler_errors",
    "scratch_folder",
    "serve_gang",
    "tunnel_to",
]
