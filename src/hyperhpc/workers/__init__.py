"""Where the work runs: one context manager per launcher, each giving a Dask client."""

from hyperhpc.workers.launch import Workers, check_workers, launch_workers

__all__ = ["Workers", "check_workers", "launch_workers"]
