"""Where the work runs: one context manager per launcher, each giving a Dask client."""

from hyperhpc.workers.launch import Workers, launch_workers

__all__ = ["Workers", "launch_workers"]
